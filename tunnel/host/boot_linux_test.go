// SPDX-License-Identifier: Apache-2.0

package host

import (
	"os"
	"strconv"
	"strings"
	"testing"
	"time"
)

// It is what the kernel tells everybody, in hundredths of a second, and goes on.
func TestBoot(t *testing.T) {
	name, up := Boot()
	text, err := os.ReadFile("/proc/uptime")
	if err != nil {
		t.Fatal(err)
	}
	seconds, err := strconv.ParseFloat(strings.Fields(string(text))[0], 64)
	if off := up.Seconds() - seconds; err != nil || off < -5 || off > 1 {
		t.Errorf("got %v, and the kernel says %v s, %v", up, seconds, err)
	}
	again, later := Boot()
	if name == "" || again != name || later < up || later > up+time.Minute {
		t.Errorf("got %q, %v and then %q, %v", name, up, again, later)
	}
}
