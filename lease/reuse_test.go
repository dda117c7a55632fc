// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"fmt"
	"testing"
)

// What was given back is used for the next snapshot, is as good as new, and is
// given out once.
func TestSnapshotInTheMemoryOfBefore(t *testing.T) {
	r := New(nil, Options{})
	entries := make([]*entry, 5)
	for i := range entries {
		entries[i] = &entry{Lease: leaseOf(byte(i), fmt.Sprintf("subnets/10.5.%d.0-24", i), fmt.Sprintf("10.5.%d.0/24", i))}
	}
	entries[2].fault = "broken"
	first := snapshotIn(r.takeSpare(), entries, 1)
	where := &first.Leases[0]
	r.Reuse(first)
	second := snapshotIn(r.takeSpare(), entries[1:], 2)
	if &second.Leases[0] != where {
		t.Error("the memory was not used again")
	}
	if got, want := fmt.Sprint(second), fmt.Sprint(snapshot(entries[1:], 2)); got != want {
		t.Errorf("got %s, want %s", got, want)
	}
	if third := snapshotIn(r.takeSpare(), entries, 3); &third.Leases[0] == where {
		t.Error("the memory was given out twice")
	}
}
