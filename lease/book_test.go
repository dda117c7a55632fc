// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"fmt"
	"math/rand/v2"
	"strings"
	"testing"
)

// inStore is what a store has, to compare a book with.
type inStore map[string]Pair

func (s inStore) book() *book {
	b := &book{}
	for _, p := range s {
		b.add(p)
	}
	b.close()
	return b
}

// check holds b to what is in the store: nothing is in it that is not there, and with
// what is only counted it is as much.
func (s inStore) check(t *testing.T, b *book) {
	t.Helper()
	if n := len(b.entries) + b.more; n != len(s) || b.good+b.bad != len(b.entries) {
		t.Fatalf("got %d keys (%d leases, %d bad, %d more), want %d", n, b.good, b.bad, b.more, len(s))
	}
	good, bad := 0, 0
	for i, e := range b.entries {
		if i > 0 && b.entries[i-1].Key >= e.Key {
			t.Fatalf("key %s is behind %s", e.Key, b.entries[i-1].Key)
		}
		if p, ok := s[e.Key]; !ok || p.Revision != e.Revision {
			t.Fatalf("got %s at revision %d, the store has it at %d", e.Key, e.Revision, p.Revision)
		}
		if e.fault == "" {
			good++
		} else {
			bad++
		}
	}
	if good != b.good || bad != b.bad || good > maxLeases || bad > maxRefused {
		t.Fatalf("got %d leases and %d others, counted as %d and %d", good, bad, b.good, b.bad)
	}
}

// Keys that are only counted are counted right whatever becomes of them, though
// nobody knows their names.
func TestBookCountsWhatItDoesNotKnow(t *testing.T) {
	r := rand.New(rand.NewPCG(1, 2))
	s, revision := inStore{}, int64(1)
	put := func(key, value string) Event {
		revision++
		p := Pair{Key: key, Value: []byte(value), Created: revision, Revision: revision}
		if old, ok := s[key]; ok {
			p.Created = old.Created
		}
		s[key] = p
		return Event{Pair: p}
	}
	for i := range 3 * maxRefused {
		put(fmt.Sprintf("subnets/junk-%d", i), "x")
	}
	b := s.book()
	s.check(t, b)
	if b.bad != maxRefused || b.more != 2*maxRefused {
		t.Fatalf("got %d by name and %d more", b.bad, b.more)
	}
	for range 20000 {
		key := fmt.Sprintf("subnets/junk-%d", r.IntN(4*maxRefused))
		if r.IntN(3) == 0 {
			key = fmt.Sprintf("subnets/10.5.%d.0-24", r.IntN(256))
		}
		if _, ok := s[key]; ok && r.IntN(2) == 0 {
			revision++
			delete(s, key)
			b.set(Event{Pair: Pair{Key: key, Revision: revision}, Deleted: true})
			continue
		}
		value := "x"
		if r.IntN(2) == 0 {
			value = golden
		}
		b.set(put(key, value))
	}
	s.check(t, b)
}

// A flood of well-formed leases leaves those that were there before, by whatever
// order they come in, and news says how many are left out.
func TestBookKeepsTheOldestLeases(t *testing.T) {
	const flood = 3 * maxLeases
	b := &book{}
	for i := range flood {
		created := int64(flood - i) // the youngest first
		b.add(Pair{Key: fmt.Sprintf("subnets/%d.%d.%d.0-24", 10+i>>16, i>>8&255, i&255), Value: []byte(golden), Created: created, Revision: created})
	}
	b.close()
	if b.good != maxLeases || b.bad != maxRefused || b.more != flood-maxLeases-maxRefused {
		t.Fatalf("got %d leases, %d by name and %d more of %d", b.good, b.bad, b.more, flood)
	}
	for _, e := range b.entries {
		if young := e.Created > maxLeases; young != (e.fault != "") {
			t.Fatalf("%s, created at %d, has the fault %q", e.Key, e.Created, e.fault)
		}
	}
	s := b.snapshotIn(nil, 7)
	if len(s.Leases) != maxLeases || len(s.Rejected) != maxRefused || s.More != b.more || !strings.Contains(s.Rejected[0].Reason, "more than 65536 leases") {
		t.Errorf("got %d leases, %d rejected and %d more: %v", len(s.Leases), len(s.Rejected), s.More, s.Rejected[0])
	}
	p := Pair{Key: "subnets/9.0.0.0-24", Value: []byte(golden), Created: flood + 1, Revision: flood + 1}
	if news := b.set(Event{Pair: p}); !news || b.good != maxLeases || b.more != s.More+1 {
		t.Errorf("got %d leases and %d more after one more, news: %v", b.good, b.more, news)
	}
}

// A subnet that a key names which is too much to be known is taken all the same, and
// our own lease is found among any number of others that have our address.
func TestBookOfAHostThatStarts(t *testing.T) {
	const own = "subnets/10.5.200.0-24"
	c := mustConfig(t, usual)
	taken := crowd{plan: c.ipv4()}
	b := &book{always: own, keep: func(*entry) bool { return true }, crowds: []*crowd{&taken}}
	for i := range 2*maxRefused + 10 {
		b.add(Pair{Key: fmt.Sprintf("subnets/a-%d", i), Value: []byte("x"), Created: 1, Revision: 1})
	}
	b.add(Pair{Key: "subnets/x10.5.7.0-24", Value: []byte("x"), Created: 2, Revision: 2})
	b.add(Pair{Key: "subnets/x10.5.9.128-25", Value: []byte("x"), Created: 2, Revision: 2})
	b.add(Pair{Key: own, Value: []byte("x"), Created: 3, Revision: 3})
	b.close()
	if !containsKey(b.entries, own) || len(b.entries) != 2*maxRefused+1 {
		t.Errorf("our own key is not among the %d that are known", len(b.entries))
	}
	ranges := taken.taken(b.entries, taken.ranges)
	for subnet, want := range map[string]bool{"10.5.7.0/24": true, "10.5.9.0/24": true, "10.5.200.0/24": true, "10.5.8.0/24": false} {
		if got := ranges.overlap(pfx(subnet)); got != want {
			t.Errorf("got %s taken: %v, want %v", subnet, got, want)
		}
	}
}

// Of the entries that are to be kept each counts once, however often the book is
// pruned: else a flood that is large enough would take their places.
func TestBookCountsWhatItKeepsOnce(t *testing.T) {
	const own = "subnets/10.0.0.0-24" // the first key, and the youngest
	b := &book{keep: func(e *entry) bool { return e.Key == own }}
	const flood = 3 * maxLeases
	for i := range flood {
		created := int64(i + 1)
		if i == 0 {
			created = flood + 1
		}
		b.add(Pair{Key: fmt.Sprintf("subnets/%d.%d.%d.0-24", 10+i>>16, i>>8&255, i&255), Value: []byte(golden), Created: created, Revision: created})
	}
	b.close()
	if !containsKey(b.entries, own) || b.good != maxLeases+1 || b.kept != 1 {
		t.Errorf("got %d leases, of which %d are kept", b.good, b.kept)
	}
}

func containsKey(entries []*entry, key string) bool {
	for _, e := range entries {
		if e.Key == key {
			return true
		}
	}
	return false
}

// A crowd takes bounded memory, and rather takes too much for taken than too little.
func TestCrowdIsBounded(t *testing.T) {
	c := mustConfig(t, `{"Network": "10.0.0.0/8", "SubnetLen": 30, "Backend": {"Type": "vxlan"}}`)
	taken := crowd{plan: c.ipv4()}
	name := func(i int) string { return fmt.Sprintf("x10.%d.%d.%d-30", i>>13&255, i>>5&255, i&31<<3) } // every second one
	const n = 5 * maxLeases
	for i := range n {
		taken.add(readEntry(Pair{Key: subnetsDir + name(i)}))
		if len(taken.ranges) >= 2*maxLeases {
			t.Fatalf("%d ranges after %d keys", len(taken.ranges), i)
		}
	}
	ranges := taken.taken(nil, taken.ranges)
	for i := range n {
		p, ok := heldBy(name(i))
		if !ok || !ranges.overlap(p) {
			t.Fatalf("%s is not taken", name(i))
		}
	}
}

// A value that is longer than any is refused unread, as a lease and as a config.
func TestValueThatIsTooLong(t *testing.T) {
	long := []byte(strings.Repeat(" ", MaxValue) + golden)[:MaxValue+1]
	if _, err := ParseAttrs(long); err == nil || !strings.Contains(err.Error(), "longer than 65536 bytes") {
		t.Errorf("got %v for a lease", err)
	}
	if _, err := ParseConfig(long); err == nil || !strings.Contains(err.Error(), "longer than 65536 bytes") {
		t.Errorf("got %v for a config", err)
	}
	padded := []byte(strings.Repeat(" ", MaxValue-len(golden)) + golden)
	if _, err := ParseAttrs(padded); err != nil {
		t.Errorf("got %v for a lease of the longest length", err)
	}
}
