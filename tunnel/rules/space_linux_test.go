// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"testing"

	"vxtap/cmd/vxlab/netns"
)

// space is a network namespace with whatever rules a test makes in it.
type space struct {
	*testing.T
	*netns.Namespace
}

func newSpace(t *testing.T, name string) space {
	t.Helper()
	name = fmt.Sprintf("vxr%d%s", os.Getpid(), name)
	ns, err := netns.Create(name)
	if err != nil {
		lacking(t, err.Error())
	}
	t.Cleanup(func() {
		if err := errors.Join(ns.Close(), netns.Delete(name)); err != nil {
			t.Error(err)
		}
	})
	return space{t, ns}
}

// lacking says what is missing. Where tests have to be complete, that is a
// failure.
func lacking(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}

// need skips the test on a machine without one of the programs.
func need(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err != nil {
			lacking(t, err.Error())
		}
	}
}

// run runs a command line in the namespace and returns what it prints.
func (s space) run(line string) string {
	s.Helper()
	out, err := s.try(line)
	if err != nil {
		s.Fatalf("%s: %v: %s", line, err, out)
	}
	return out
}

func (s space) try(line string) (string, error) {
	var out []byte
	err := s.Do(func() (err error) {
		out, err = exec.Command("sh", "-c", line).CombinedOutput()
		return err
	})
	return string(out), err
}

// apply returns what had to be set.
func (s space) apply(p Plan) []string {
	s.Helper()
	var changed []string
	err := s.Do(func() (err error) {
		changed, err = Apply(s.Context(), p)
		return err
	})
	if err != nil {
		s.Fatal(err)
	}
	return changed
}

func plan(k Kind) Plan {
	return Plan{
		Kind:       k,
		Network:    netip.MustParsePrefix("10.5.0.0/16"),
		Subnet:     netip.MustParsePrefix("10.5.1.0/24"),
		Masquerade: true,
		Random:     true,
		Forward:    true,
		Uplink:     "vxup.1",
	}
}

func exclude(p Plan) Plan {
	p.Exclude = []netip.Prefix{netip.MustParsePrefix("192.168.128.0/17"), netip.MustParsePrefix("10.96.0.1/32")}
	p.Random = false
	p.Whole = true
	return p
}

func both(t *testing.T, f func(t *testing.T, k Kind)) {
	t.Helper()
	for _, k := range []Kind{NFTables, IPTables} {
		t.Run(string(k), func(t *testing.T) { f(t, k) })
	}
}

// list is all rules of the kind, as its program prints them.
func (s space) list(k Kind) string {
	if k == NFTables {
		return s.run("nft list ruleset")
	}
	return s.run(`for t in nat filter; do iptables-save -t $t; done | grep -v '^#' | sed 's/ \[.*//'`)
}
