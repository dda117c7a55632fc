// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"io"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vxtap/test/document"
)

func TestTheSameSeedMakesTheSameFaults(t *testing.T) {
	one, two := plan(7, 3, 20, 3, true), plan(7, 3, 20, 3, true)
	if !reflect.DeepEqual(one, two) {
		t.Errorf("got\n%v\nand\n%v", one, two)
	}
	if slices.ContainsFunc(plan(7, 3, 20, 3, false), func(f fault) bool { return f.kind == addressGone || f.kind == halfHijacked || f.kind == halfSpoilt }) {
		t.Error("a network of IPv4 has faults of IPv6")
	}
	if reflect.DeepEqual(one, plan(8, 3, 20, 3, true)) || reflect.DeepEqual(one, plan(7, 4, 20, 3, true)) {
		t.Error("another seed, or another round, makes the same faults")
	}
}

func TestPlanOfManyRounds(t *testing.T) {
	seen := map[kind]int{}
	for round := range 200 {
		busy := map[int][]span{}
		var members []span
		for _, f := range plan(1, round, 20, 3, true) {
			seen[f.kind]++
			when := span{f.at, f.at + f.lasts}
			if when.from < 0 || when.to > roundFaults {
				t.Errorf("round %d: %v is at %v, which is outside the round", round, f, f.at)
			}
			if f.kind.ofMember() {
				if !when.fits(members) {
					t.Errorf("round %d: %v hits a member while another one is away", round, f)
				}
				members = append(members, when)
			}
			for _, h := range f.hosts {
				if f.kind.needsProcess() && !when.fits(busy[h]) {
					t.Errorf("round %d: %v hits a host that is away", round, f)
				}
				if f.kind.needsProcess() {
					busy[h] = append(busy[h], when)
				}
			}
		}
	}
	for _, k := range kinds(true) {
		if seen[k.kind] < 100 {
			t.Errorf("%s: %d times in 200 rounds", k.kind, seen[k.kind])
		}
	}
}

func TestParse(t *testing.T) {
	tests := []struct{ name, args, err string }{
		{"nothing", "", ""},
		{"a seed", "-seed 7 -time 30m", ""},
		{"both families", "-dual", ""},
		{"too short", "-time 59s", "flags only"},
		{"too few hosts", "-hosts 2", "flags only"},
		{"more hosts than meet well", "-hosts 33", "flags only"},
		{"figures of nobody knows which faults", "-md x.md", "need a seed"},
		{"words", "all of it", "flags only"},
		{"a file that is not there", "-seed 1 -md none.md", "no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := parse(strings.Fields(tt.args), io.Discard)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v, want %q", err, tt.err)
			}
			if err == nil && s.seed == 0 {
				t.Error("there is no seed")
			}
		})
	}
}

// Whoever types what the program says gets the same faults.
func TestTheSameAgain(t *testing.T) {
	for args, want := range map[string]string{
		"-seed 7":                 "make chaos CHAOS='-seed 7 -time 5m'",
		"-seed 7 -time 2m30s":     "make chaos CHAOS='-seed 7 -time 2m30s'",
		"-seed 7 -time 90m -dual": "make chaos CHAOS='-seed 7 -time 1h30m -dual'",
	} {
		s, err := parse(strings.Fields(args), io.Discard)
		if err != nil || s.again() != want {
			t.Errorf("%s: got %s, %v, want %s", args, s.again(), err, want)
		}
	}
}

func TestFiguresStandBetweenTheirMarks(t *testing.T) {
	name := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(name, []byte("before\n"+document.Begin("chaos")+"FORMER\n"+document.End("chaos")+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := figures{
		settings: settings{seed: 7, args: []string{"-seed", "7", "-md", "doc.md"}}, faults: map[kind]int{paused: 3},
		checks: map[invariant]int{routable: 9}, took: time.Minute, rounds: 1,
	}
	if err := f.insert(name); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	text := string(b)
	if err != nil || !strings.HasPrefix(text, "before\n"+document.Begin("chaos")) || !strings.HasSuffix(text, document.End("chaos")+"after\n") || strings.Contains(text, "FORMER") {
		t.Errorf("got %v and\n%s", err, text)
	}
	for _, want := range []string{"| fault: daemon paused | 3 |", "| checks of c: every live lease is routable everywhere | 9 |", "| violations | 0 |",
		"Made by `go run ./test/chaos -seed 7 -md doc.md`."} {
		if !strings.Contains(text, want) {
			t.Errorf("it lacks %q:\n%s", want, text)
		}
	}
	var table bytes.Buffer
	f.write(&table)
	if lines := strings.Count(table.String(), "\n"); lines != len(f.rows()) {
		t.Errorf("got %d lines", lines)
	}
	if err := os.WriteFile(name, []byte("somebody else's\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := f.insert(name); err == nil {
		t.Error("a file without marks was overwritten")
	}
}

// The command below the figures and the one that the text tells people to type
// are one.
func TestFiguresAndTextHaveOneCommand(t *testing.T) {
	b, err := os.ReadFile("../../docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	made := regexp.MustCompile("Made by `go run ./test/chaos (.+)`").FindAllSubmatch(b, -1)
	if len(made) != 2 || strings.Contains(string(made[0][1]), "-dual") || !strings.Contains(string(made[1][1]), "-dual") {
		t.Fatalf("got the commands %q, want one for IPv4 and one for both families", made)
	}
	for _, m := range made {
		if want := "make chaos CHAOS='" + string(m[1]) + "'"; !strings.Contains(string(b), want) {
			t.Errorf("the text lacks %q", want)
		}
	}
	if n := strings.Count(string(b), "| violations | 0 |"); n != len(made) {
		t.Errorf("%d of %d runs have figures without violations", n, len(made))
	}
}
