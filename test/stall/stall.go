// SPDX-License-Identifier: Apache-2.0

// Package stall measures time without that for which the machine was short of
// processors.
//
// "Within a second" is a claim about our program on a machine that lets it run.
// A test machine has two cores, and other tests, or other machines of its host,
// have them too. The control that tells one from the other is the kernel's own:
// for how long anybody who could run had to wait, in the same moment.
package stall

import (
	"bytes"
	"os"
	"strconv"
	"time"
)

// pressure is where the kernel counts: Linux 4.20 and later, with
// CONFIG_PSI; Documentation/accounting/psi.rst.
const pressure = "/proc/pressure/cpu"

// most is how many times longer than it may something can take, however busy
// the machine is: a program that keeps all processors busy itself, and so comes
// too late, must not excuse itself by that.
const most = 4

// Clock is a moment from which on time is measured.
type Clock struct {
	start   time.Time
	stalled time.Duration
}

// Start returns the clock of this moment.
func Start() Clock { return Clock{start: time.Now(), stalled: stalled()} }

// Took returns the time since then, less that in which somebody waited for a
// processor, but a quarter of it at the least. Without the kernel's count it is
// all of the time.
func (c Clock) Took() time.Duration {
	return less(time.Since(c.start), stalled()-c.stalled)
}

func less(took, stalled time.Duration) time.Duration {
	return max(took-max(stalled, 0), took/most)
}

// stalled returns for how long somebody has waited since the machine started,
// or 0.
func stalled() time.Duration {
	text, err := os.ReadFile(pressure)
	if err != nil {
		return 0
	}
	return parse(text)
}

// parse finds the total, in microseconds, of the line that begins with "some".
func parse(text []byte) time.Duration {
	line, _, _ := bytes.Cut(text, []byte("\n"))
	some, total, _ := bytes.Cut(line, []byte(" total="))
	us, err := strconv.ParseInt(string(total), 10, 64)
	if err != nil || !bytes.HasPrefix(some, []byte("some ")) {
		return 0
	}
	return time.Duration(us) * time.Microsecond
}
