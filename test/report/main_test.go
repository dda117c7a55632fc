// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
)

// tc is one run of tests and what is to be said of it.
type tc struct {
	name, in string
	ci       bool
	ok       bool
	want     []string // lines of the digest
	not      []string
}

// What go test -json writes for a test that passes, and for one that is skipped.
const passes = `{"Action":"start","Package":"p"}
{"Action":"run","Package":"p","Test":"TestA"}
{"Action":"output","Package":"p","Test":"TestA","Output":"chatter\n"}
{"Action":"pass","Package":"p","Test":"TestA","Elapsed":0.1}
{"Action":"pass","Package":"p","Elapsed":0.25}
`

const skips = `{"Action":"output","Package":"p","Test":"TestTAP","Output":"=== RUN   TestTAP\n"}
{"Action":"output","Package":"p","Test":"TestTAP","Output":"    tap_test.go:12: needs root: cannot open /dev/net/tun\n"}
{"Action":"output","Package":"p","Test":"TestTAP","Output":"--- SKIP: TestTAP (0.00s)\n"}
{"Action":"skip","Package":"p","Test":"TestTAP","Elapsed":0}
{"Action":"pass","Package":"p","Elapsed":0.1}
`

func cases() []tc {
	return []tc{
		{
			name: "all passes, and nothing that a passing test wrote is shown",
			in:   passes, ok: true,
			want: []string{"ok    p 250ms", "1 packages, 1 tests, 0 failed, 0 skipped"},
			not:  []string{"chatter"},
		},
		{
			name: "a slow test gets its own line",
			in:   `{"Action":"pass","Package":"p","Test":"TestSlow","Elapsed":2.5}`, ok: true,
			want: []string{"      p TestSlow 2.5s"},
		},
		{
			name: "a skipped test is named with its reason",
			in:   skips, ok: true,
			want: []string{"skip  p TestTAP: needs root: cannot open /dev/net/tun"},
		},
		{
			name: "a skipped test fails in CI",
			in:   skips, ci: true, ok: false,
			want: []string{"CI=true: what is skipped has failed"},
		},
		{
			name: "a test fails",
			in: `{"Action":"output","Package":"p","Test":"TestA","Output":"=== RUN   TestA\n"}
{"Action":"output","Package":"p","Test":"TestA","Output":"    a_test.go:3: got 1, want 2\n"}
{"Action":"fail","Package":"p","Test":"TestA","Elapsed":0}
{"Action":"fail","Package":"p","Elapsed":0}
`,
			want: []string{"    a_test.go:3: got 1, want 2", "FAIL  p 0s", "1 packages, 1 tests, 1 failed, 0 skipped"},
			not:  []string{"=== RUN"},
		},
		{
			name: "a package dies before its test ends",
			in: `{"Action":"output","Package":"p","Test":"TestA","Output":"panic: oh\n"}
{"Action":"output","Package":"p","Output":"exit status 2\n"}
{"Action":"fail","Package":"p","Elapsed":0}
`,
			want: []string{"did not end: p TestA", "panic: oh", "exit status 2"},
		},
		{
			name: "TestMain gives up before any test",
			in: `{"Action":"output","Package":"p","Output":"no etcd\n"}
{"Action":"fail","Package":"p","Elapsed":0}
`,
			want: []string{"no etcd", "FAIL  p 0s"},
		},
		{
			name: "a package does not build",
			in: `{"ImportPath":"p","Action":"build-output","Output":"p/a.go:3:1: undefined: x\n"}
{"ImportPath":"p","Action":"build-fail"}
`,
			want: []string{"p/a.go:3:1: undefined: x"},
		},
		{
			name: "a package has no tests",
			in:   `{"Action":"skip","Package":"p","Elapsed":0}`, ok: true, ci: true,
			want: []string{"0 packages, 0 tests, 0 failed, 0 skipped"},
		},
		{
			name: "go itself complains",
			in:   "flag provided but not defined: -x\n", ok: true,
			want: []string{"flag provided but not defined: -x"},
		},
	}
}

func TestReport(t *testing.T) {
	t.Parallel()
	for _, tt := range cases() {
		t.Run(tt.name, func(t *testing.T) {
			t.Parallel()
			var out strings.Builder
			ok, err := report(strings.NewReader(tt.in), &out, tt.ci)
			if err != nil || ok != tt.ok {
				t.Errorf("got %v, %v, want %v", ok, err, tt.ok)
			}
			for _, line := range tt.want {
				if !strings.Contains(out.String(), line+"\n") {
					t.Errorf("got:\n%s\nwant the line %q", out.String(), line)
				}
			}
			for _, text := range tt.not {
				if strings.Contains(out.String(), text) {
					t.Errorf("got:\n%s\nwant no %q", out.String(), text)
				}
			}
		})
	}
}
