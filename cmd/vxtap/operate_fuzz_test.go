// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"slices"
	"strings"
	"testing"

	"github.com/urfave/cli/v2"
)

func FuzzParseSubnet(f *testing.F) {
	for _, s := range []string{"10.5.3.0/24", "10.5.3.0-24", "10.5.3.1/24", "fd00::/64", "10.5.3.0-24&fd00::-64", "::ffff:10.5.3.0/120", ""} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		p, err := parseSubnet(s)
		if err != nil {
			return
		}
		if again, err := parseSubnet(p.String()); err != nil || again != p || p != p.Masked() || !p.Addr().Is4() {
			t.Errorf("got %v of %q, and %v, %v of that", p, s, again, err)
		}
	})
}

func FuzzParseSubnets(f *testing.F) {
	for _, s := range []string{"10.5.3.0/24", "10.5.3.0-24&fd00::-64", "10.5.3.0/24,fd00::/64", "10.5.3.0/24,fd00::1/64", "10.5.3.0/24,", ",", "10.5.3.0/24,::ffff:1.2.3.0/120"} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		k, err := parseSubnets(s)
		if err != nil {
			return
		}
		if again, err := parseSubnets(k.String()); err != nil || again != k || k.IPv6 != k.IPv6.Masked() || (k.IPv6.IsValid() && !k.IPv6.Addr().Is6()) {
			t.Errorf("got %v of %q, and %v, %v of that", k, s, again, err)
		}
	})
}

// Flags behind an operand are read by us, those before it by package flag.
func FuzzOperands(f *testing.F) {
	for _, s := range []string{"a", "a -force", "a -public-ip=1", "-public-ip 1 a --force=false", "a -public-ip", "a -- -x", "- -force", "a -help", "a --", "a -="} {
		f.Add(s)
	}
	f.Fuzz(func(t *testing.T, s string) {
		args := strings.Split(s, " ")
		var got []string
		var force bool
		g := group("lease", "", "help\n", &cli.Command{
			Name: "release", Description: "help\n", Flags: []cli.Flag{boolFlag("force", false, ""), textFlag("public-ip", "", "")},
			Action: func(c *cli.Context) (err error) {
				got, err = operands(c, "SUBNET")
				force = c.Bool("force")
				return err
			},
		})
		app := newApp(nil, nil, io.Discard, io.Discard)
		app.Commands = []*cli.Command{g}
		if err := app.RunContext(t.Context(), append([]string{"vxtap", "lease", "release"}, args...)); err != nil || got == nil {
			return
		}
		if len(got) != 1 || !slices.Contains(args, got[0]) {
			t.Errorf("got operands %q of %q", got, args)
		}
		if force && !strings.Contains(s, "-force") {
			t.Errorf("%q was taken for -force", s)
		}
	})
}
