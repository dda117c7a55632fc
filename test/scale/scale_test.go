// SPDX-License-Identifier: Apache-2.0

package main

import (
	"io"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"vxtap/test/document"
)

// good are figures that reach everything.
func good() figures {
	ms := func(n ...int) (d []time.Duration) {
		for _, v := range n {
			d = append(d, time.Duration(v)*time.Millisecond)
		}
		return d
	}
	return figures{
		settings: settings{leases: 10000, nodes: 200}, starts: ms(200, 1900), returns: ms(0, 2000),
		changes: ms(1, 2, 3, 10), puts: ms(2, 3, 4, 50), few: 10, many: 70, kernel: [2]kernel{{1, 1}, {1, 1}},
		ready: 15 * time.Second, distinct: 200,
	}
}

func TestEveryLimitCanBeMissed(t *testing.T) {
	if err := good().missed(); err != nil {
		t.Fatalf("what is good is missed: %v", err)
	}
	tests := []struct {
		name string
		harm func(*figures)
		want string
	}{
		{"a slow start", func(f *figures) { f.starts[0] = 2001 * time.Millisecond }, "from the start of the daemon"},
		{"a slow return", func(f *figures) { f.returns[1] = 2001 * time.Millisecond }, "when etcd answers"},
		{"much memory for both families", func(f *figures) { f.settings.dual, f.many = true, 106.1 }, "memory"},
		{"much memory", func(f *figures) { f.many = 74.1 }, "memory"},
		{"a slow change", func(f *figures) { f.changes[2] = 11 * time.Millisecond }, "a change of one lease"},
		{"a route for each peer", func(f *figures) { f.kernel[1].routes = 2 }, "in the kernel"},
		{"slow nodes", func(f *figures) { f.ready = 15001 * time.Millisecond }, "until the last is ready"},
		{"two nodes with one subnet", func(f *figures) { f.distinct = 199 }, "all different"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			f := good()
			tt.harm(&f)
			if err := f.missed(); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, want %q", err, tt.want)
			}
		})
	}
}

func TestParse(t *testing.T) {
	tests := []struct{ name, args, err string }{
		{"nothing", "", ""},
		{"one part only", "-nodes 0 -leases 100", ""},
		{"both families", "-dual", ""},
		{"more leases than subnets", "-leases 16001", "at most"},
		{"no start", "-starts 0", "at least one start"},
		{"words", "all of it", "flags only"},
		{"a file that is not there", "-md none.md", "no such file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			_, err := parse(strings.Fields(tt.args), io.Discard)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Errorf("got %v, want %q", err, tt.err)
			}
		})
	}
}

func TestFiguresStandBetweenTheirMarks(t *testing.T) {
	name := filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(name, []byte("before\n"+document.Begin("scale")+"FORMER\n"+document.End("scale")+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	f := good()
	f.settings.args = []string{"-md", "doc.md"}
	if err := f.insert(name); err != nil {
		t.Fatal(err)
	}
	b, err := os.ReadFile(name)
	text := string(b)
	if err != nil || !strings.HasPrefix(text, "before\n"+document.Begin("scale")) || !strings.HasSuffix(text, document.End("scale")+"after\n") || strings.Contains(text, "FORMER") {
		t.Errorf("got %v and\n%s", err, text)
	}
	for _, want := range []string{"| 200 daemons started at once: until the last is ready | 15.00 s | 15 s |", "Made by `go run ./test/scale -md doc.md`."} {
		if !strings.Contains(text, want) {
			t.Errorf("it lacks %q:\n%s", want, text)
		}
	}
}

// The command below the figures and the one that the text tells people to type
// are one.
func TestFiguresAndTextHaveOneCommand(t *testing.T) {
	b, err := os.ReadFile("../../docs/reliability.md")
	if err != nil {
		t.Fatal(err)
	}
	made := regexp.MustCompile("Made by `go run ./test/scale (.+)`").FindAllSubmatch(b, -1)
	if len(made) == 0 {
		t.Fatal("the figures have no command")
	}
	for _, m := range made {
		if want := "make scale SCALE='" + string(m[1]) + "'"; !strings.Contains(string(b), want) {
			t.Errorf("the text lacks %q", want)
		}
	}
}
