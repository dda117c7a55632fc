// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"math/rand/v2"
	"slices"
	"strings"
	"time"

	"vxtap/test/document"
)

// settings are the flags.
type settings struct {
	seed     uint64
	time     time.Duration
	hosts    int
	members  int
	dual     bool
	vxtap    string
	dir      string
	markdown string
	args     []string
}

// parse reads the flags. What it writes about them goes to help.
func parse(args []string, help io.Writer) (settings, error) {
	s := settings{args: args, members: 3}
	f := flag.NewFlagSet("chaos", flag.ContinueOnError)
	f.SetOutput(help)
	f.Uint64Var(&s.seed, "seed", 0, "`number` that the faults are made of (default: another one each time)")
	f.DurationVar(&s.time, "time", 5*time.Minute, "`duration` of the run; a round takes up to a minute, and none is cut")
	f.IntVar(&s.hosts, "hosts", 20, "`number` of hosts, each with a daemon")
	f.BoolVar(&s.dual, "dual", false, "a network, and hosts, of both IPv4 and IPv6")
	f.StringVar(&s.vxtap, "vxtap", "bin/vxtap", "`path` of the daemon")
	f.StringVar(&s.dir, "dir", ".cache/chaos", "`directory` for logs and etcd's data; all of it is kept if the run fails")
	f.StringVar(&s.markdown, "md", "", "`file` with marks that gets the figures as Markdown")
	if err := f.Parse(args); err != nil {
		return s, err
	}
	if s.seed == 0 {
		s.seed = 1 + rand.Uint64N(1e6) // short enough to type
	}
	if f.NArg() > 0 || s.time < roundTime || s.hosts < 3 || s.hosts > subnets/2 {
		return s, fmt.Errorf("it takes flags only, %v or more, and 3 to %d hosts", roundTime, subnets/2)
	}
	if s.markdown != "" && !slices.Contains(args, "-seed") {
		return s, errors.New("figures that are kept need a seed that was given: -seed N")
	}
	if s.markdown != "" {
		if err := document.Check(s.markdown, s.mark()); err != nil {
			return s, err
		}
	}
	return s, nil
}

// mark is the name of the marks that figures stand between.
func (s settings) mark() string {
	if s.dual {
		return "chaos dual"
	}
	return "chaos"
}

// again is how to do the same faults once more.
func (s settings) again() string {
	var dual string
	if s.dual {
		dual = " -dual"
	}
	return fmt.Sprintf("make chaos CHAOS='-seed %d -time %s%s'", s.seed, short(s.time), dual)
}

// short writes whole minutes as such.
func short(d time.Duration) string {
	text := d.String()
	if minutes, whole := strings.CutSuffix(text, "m0s"); whole {
		return minutes + "m"
	}
	return text
}

// errViolated is what a run ends with in which something did not hold.
var errViolated = errors.New("an invariant did not hold")
