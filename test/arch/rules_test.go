// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"fmt"
	"strings"
	"testing"
	"testing/fstest"
)

// tc is one small tree. Its name says what is wrong with it; want is in the
// one finding that there must be, and empty where there must be none.
type tc struct {
	name, rule string
	files      map[string]string
	want       string
}

const spdx = "// SPDX-License-Identifier: Apache-2.0\n\n"

// TestRules breaks each rule, and comes close to breaking it.
func TestRules(t *testing.T) {
	t.Parallel()
	checks := make(map[string]func(*tree) []finding)
	for _, r := range rules() {
		checks[r.name] = r.check
	}
	broken := make(map[string]bool)
	for _, tt := range cases() {
		broken[tt.rule] = broken[tt.rule] || tt.want != ""
		t.Run(tt.rule+": "+tt.name, func(t *testing.T) {
			t.Parallel()
			check := checks[tt.rule]
			if check == nil {
				t.Fatalf("there is no rule %q", tt.rule)
			}
			fsys := make(fstest.MapFS)
			for name, text := range tt.files {
				fsys[name] = &fstest.MapFile{Data: []byte(text)}
			}
			small, err := load(fsys)
			if err != nil {
				t.Fatal(err)
			}
			found := check(small)
			switch {
			case tt.want == "" && len(found) > 0:
				t.Errorf("got %v, want nothing", found)
			case tt.want != "" && (len(found) != 1 || !strings.Contains(found[0].String(), tt.want)):
				t.Errorf("got %v, want one finding with %q", found, tt.want)
			}
		})
	}
	for _, r := range rules() {
		if !broken[r.name] {
			t.Errorf("no case breaks the rule %q: it could find nothing, ever", r.name)
		}
	}
}

// importing returns a Go file that imports pkg.
func importing(pkg string) string { return fmt.Sprintf("package p\nimport _ %q\n", pkg) }

func cases() []tc {
	return append(append(importCases(), sourceCases()...), textCases()...)
}

func importCases() []tc {
	const direction, owner, pure = "imports go one way", "a dependency stays in its room", "encap is bytes only"
	one := func(rule, name, file, pkg, want string) tc {
		return tc{name, rule, map[string]string{file: importing(pkg)}, want}
	}
	return []tc{
		one(direction, "encap imports tunnel", "encap/ether/a.go", "vxtap/tunnel", "a.go:2: imports vxtap/tunnel: encap is the lowest room"),
		one(direction, "tunnel imports lease", "tunnel/a.go", "vxtap/lease", "imports vxtap/lease: the switch knows peers"),
		one(direction, "lease imports tunnel", "lease/a.go", "vxtap/tunnel", "leases are a contract"),
		one(direction, "lease imports frames", "lease/a.go", "vxtap/encap/packet", "leases are a contract"),
		one(direction, "a test of lease imports tunnel", "lease/a_test.go", "vxtap/tunnel", "leases are a contract"),
		one(direction, "the daemon imports the lab", "cmd/vxtap/a.go", "vxtap/cmd/vxlab/etcd", "must not carry"),
		one(direction, "a package lies outside the rooms", "util/a.go", "fmt", "lies in no room"),
		one(direction, "tunnel imports encap", "tunnel/tap/a.go", "vxtap/encap/virtio", ""),
		one(direction, "lease imports MAC addresses", "lease/etcd/a.go", "vxtap/encap/ether", ""),
		one(direction, "a test imports namespaces", "tunnel/tap/a_test.go", "vxtap/cmd/vxlab/netns", ""),

		one(owner, "system calls in the switch", "tunnel/a.go", "golang.org/x/sys/unix", "one room for each kind"),
		one(owner, "netlink in the daemon", "cmd/vxtap/a.go", "github.com/vishvananda/netlink", "changed in one place"),
		one(owner, "the etcd client in lease", "lease/a.go", "go.etcd.io/etcd/client/v3", "one importer"),
		one(owner, "an etcd server beside the client", "lease/etcd/a.go", "go.etcd.io/etcd/server/v3/embed", "never carries"),
		one(owner, "the etcd store in tunnel", "tunnel/a.go", "vxtap/lease/etcd", "any store"),
		one(owner, "metrics in the switch", "tunnel/a.go", "github.com/prometheus/client_golang/prometheus", "the daemon exports"),
		one(owner, "the daemon runs programs", "cmd/vxtap/a.go", "os/exec", "runs no other program"),
		one(owner, "the log of the standard library", "lease/a.go", "log", "slog.Logger"),
		one(owner, "testing in a program", "tunnel/a.go", "testing", "registers flags"),
		one(owner, "test in a program", "cmd/vxlab/a.go", "vxtap/test/netns", "nothing of test"),
		one(owner, "a package for tests in a program", "lease/a.go", "vxtap/lease/leasetest", "a package for tests"),
		one(owner, "slog", "lease/a.go", "log/slog", ""),
		one(owner, "system calls in tap", "tunnel/tap/a.go", "golang.org/x/sys/unix", ""),
		one(owner, "testing in a package for tests", "tunnel/tunneltest/a.go", "testing", ""),
		one(owner, "a test may import everything", "tunnel/a_test.go", "os/exec", ""),

		one(pure, "a socket", "encap/vxlan/a.go", "net", "no goroutine, socket, clock or log"),
		one(pure, "a clock", "encap/vxlan/a.go", "time", "no goroutine, socket, clock or log"),
		one(pure, "a portable socket", "encap/vxlan/a.go", "golang.org/x/net/ipv4", "no goroutine, socket, clock or log"),
		{"a goroutine", pure, map[string]string{"encap/a.go": "package p\nfunc f() { go f() }\n"}, "a.go:2: starts a goroutine"},
		one(pure, "an address is no socket", "encap/vxlan/a.go", "net/netip", ""),
		one(pure, "a clock in a test", "encap/vxlan/a_test.go", "time", ""),
	}
}

func sourceCases() []tc {
	one := func(rule, name, file, text, want string) tc {
		return tc{name, rule, map[string]string{file: text}, want}
	}
	const (
		licence = "every file names its licence"
		doc     = "every package says what it is"
		name    = "every exported name has its sentence"
		tested  = "every package has a test"
		size    = "files and functions are short"
		before  = "nothing runs before main"
		exit    = "only main ends the program"
		state   = "no package has state"
		sleep   = "unit tests do not sleep"
	)
	return []tc{
		one(licence, "a Go file has none", "a.go", "package p\n", "SPDX"),
		one(licence, "another licence", "a.go", "// SPDX-License-Identifier: MIT\n\npackage p\n", "SPDX"),
		one(licence, "a script has none", "run", "#!/bin/sh\necho\n", "SPDX"),
		one(licence, "a Makefile has none", "Makefile", "all:\n", "SPDX"),
		one(licence, "a Go file has one", "a.go", spdx+"package p\n", ""),
		one(licence, "a script has one", "run", "#!/bin/sh\n# SPDX-License-Identifier: Apache-2.0\n", ""),
		one(licence, "prose needs none", "a.md", "prose\n", ""),

		one(doc, "there is no comment", "p/a.go", spdx+"package p\n", `p: no file has a comment that starts with "Package p "`),
		one(doc, "the comment is about something else", "p/a.go", "// Useful things.\npackage p\n", "Package p "),
		one(doc, "a program calls itself a package", "cmd/x/a.go", "// Package main is x.\npackage main\n", "Command x "),
		{"one file of two has it", doc, map[string]string{"p/a.go": "package p\n", "p/b.go": "// Package p is one.\npackage p\n"}, ""},

		one(name, "a function", "a.go", "package p\nfunc F() {}\n", "a.go:2: F is exported"),
		one(name, "a method", "a.go", "package p\n\n// T is.\ntype T[X any] int\n\nfunc (t *T[X]) M() {}\n", "M is exported"),
		one(name, "a type in a group", "a.go", "package p\ntype (\n\tT int\n\t// U is.\n\tU int\n)\n", "T is exported"),
		one(name, "a constant", "a.go", "package p\nconst C = 1\n", "C is exported"),
		one(name, "a linter's directive is no comment", "a.go", "package p\n\n//nolint:x\nfunc F() {}\n", "F is exported"),
		one(name, "a group has a comment", "a.go", "package p\n// The sizes.\nconst (\n\tA = 1\n\tB = 2\n)\n", ""),
		one(name, "a constant has one behind it", "a.go", "package p\nconst (\n\tA = 1 // A is.\n)\n", ""),
		one(name, "a method of a type that nobody sees", "a.go", "package p\ntype t int\nfunc (t) M() {}\n", ""),
		one(name, "a test", "a_test.go", "package p\nfunc TestF() {}\n", ""),

		one(tested, "there is none", "p/a.go", "package p\nfunc f() {}\n", "p: has no test file"),
		one(tested, "the package only explains", "p/doc.go", "// Package p is.\npackage p\n", ""),
		one(tested, "the package serves tests", "test/bed/a.go", importing("testing"), ""),
		{"there is one", tested, map[string]string{"p/a.go": "package p\nfunc f() {}\n", "p/a_test.go": "package p_test\n"}, ""},

		one(size, "a file of 801 lines", "a.go", "package p\n"+strings.Repeat("\n", 800), "a.go: has 801 lines"),
		one(size, "a test file of 801 lines", "a_test.go", "package p\n"+strings.Repeat("\n", 800), "has 801 lines"),
		one(size, "a function of 101 lines", "a.go", "package p\nfunc f() {"+strings.Repeat("\n", 100)+"}\n", "a.go:2: f has 101 lines"),
		one(size, "a file of 800 lines", "a.go", "package p\n"+strings.Repeat("\n", 799), ""),
		one(size, "a function of 100 lines", "a.go", "package p\nfunc f() {"+strings.Repeat("\n", 99)+"}\n", ""),

		one(before, "a function", "a.go", "package p\nfunc init() {}\n", "a.go:2: init runs"),
		one(before, "a test", "a_test.go", "package p\nfunc init() {}\n", "init runs"),
		one(before, "a method of that name", "a.go", "package p\ntype t int\nfunc (t) init() {}\n", ""),

		one(exit, "a helper of main", "a.go", "package main\nimport \"os\"\nfunc run() { os.Exit(1) }\n", "a.go:3: os.Exit"),
		one(exit, "a package", "a.go", "package p\nimport \"log\"\nfunc main() { log.Fatal() }\n", "log.Fatal"),
		one(exit, "a method called main", "a.go", "package main\nimport \"os\"\ntype t int\nfunc (t) main() { os.Exit(1) }\n", "os.Exit"),
		one(exit, "main itself", "a.go", "package main\nimport \"os\"\nfunc main() { os.Exit(1) }\n", ""),
		one(exit, "a test binary that is another program too", "a_test.go", "package p\nimport \"os\"\nfunc TestMain() { os.Exit(1) }\n", ""),

		one(state, "a counter", "a.go", "package p\nvar n int\n", "a.go:2: n is state"),
		one(state, "a lock with a value", "a.go", "package p\nimport \"sync\"\nvar mu = &sync.Mutex{}\n", "mu is state"),
		one(state, "a function that runs once", "a.go", "package p\nimport \"sync\"\nvar once = sync.OnceFunc(nil)\n", "once is state"),
		one(state, "a table", "a.go", "package p\nvar names = [...]string{1: \"one\"}\n", ""),
		one(state, "an error", "a.go", "package p\nimport \"errors\"\nvar ErrLost = errors.New(\"lost\")\n", ""),
		one(state, "an assertion", "a.go", "package p\nimport \"io\"\nvar _ io.Reader = (*t)(nil)\n", ""),
		one(state, "a test", "a_test.go", "package p\nvar update bool\n", ""),

		one(sleep, "a unit test", "lease/a_test.go", "package p\nimport \"time\"\nfunc f() { time.Sleep(1) }\n", "a_test.go:3: sleeps"),
		one(sleep, "time that costs nothing", "lease/a_test.go", "package p\nimport (\n\t\"time\"\n\t\"testing/synctest\"\n)\nfunc f() { time.Sleep(1) }\n", ""),
		one(sleep, "a black-box test", "test/a_test.go", "package p\nimport \"time\"\nfunc f() { time.Sleep(1) }\n", ""),
	}
}

func textCases() []tc {
	const (
		link    = "links lead somewhere"
		machine = "no path of somebody's machine"
		dep     = "every dependency has its reason"
		claim   = "a claim has its test"
		table   = "docs/flannel-compatibility.md"
	)
	one := func(rule, name, file, text, want string) tc {
		return tc{name, rule, map[string]string{file: text}, want}
	}
	mod := "module m\n\ngo 1.26.0\n\nrequire (\n\texample.org/a/v2 v2.1.0\n\texample.org/b v1.0.0 // indirect\n)\n"
	return []tc{
		one(link, "a file that is not there", "docs/a.md", "see [b](b.md)", "docs/a.md:1: link to b.md: there is no such file"),
		one(link, "a heading that is not there", "a.md", "# One\n[two](#two)\n", "a.md:2: link to #two: there is no such heading"),
		one(link, "a heading of another file", "a.md", "[x](a.md#nothing)\n", "no such heading"),
		one(link, "Go mentions a file that is not there", "a.go", "// See docs/gone.md.\npackage p\n", "mentions docs/gone.md"),
		one(link, "a heading with punctuation", "a.md", "## What `x`, y?\n[x](#what-x-y)\n", ""),
		one(link, "a folder", "docs/a.md", "[docs](../docs)\n", ""),
		one(link, "another site", "a.md", "[x](https://example.org/gone.md)\n", ""),
		one(link, "code", "a.md", "`[x](gone.md)`\n```\n[x](gone.md)\n```\n", ""),

		one(machine, "a home", "a.md", "run /ho"+"me/me/vxtap\n", "a.md:1: names a path"),
		one(machine, "a home elsewhere", "a.go", "package p\n// C:\\Us"+"ers\\me\n", "a.go:2: names a path"),
		one(machine, "a checkout", "a.sh", "cd '/wo"+"rk/main'\n", "names a path"),
		one(machine, "a worktree's pointer to its repository", ".git", "gitdir: /ho"+"me/me/vxtap/.git/worktrees/x\n", ""),
		one(machine, "a part of an address", "a.md", "https://example.org/ho"+"me/x and ~/wo"+"rk/x and /run/vxtap\n", ""),

		one(claim, "a test that is not there", "a.md", "see `./lease TestGone`\n", "a.md:1: names the test TestGone of lease"),
		one(claim, "a row without a test", table, "| what | here | test |\n|---|---|---|\n| a key | same | see there |\n", table+":3: claims something"),
		one(claim, "a row of what is not there", table, "| a key | not there | why |\n", ""),
		one(claim, "a row of another document", "docs/a.md", "| a key | same | see there |\n", ""),
		{
			"a row and its test", claim,
			map[string]string{table: "| a key | better | so: `./p TestA`, `./p FuzzB` |\n", "p/a_test.go": "package p\nfunc TestA() {}\nfunc FuzzB() {}\n"},
			"",
		},
		{
			"a method of that name", claim,
			map[string]string{"a.md": "`./p TestA`\n", "p/a_test.go": "package p\nfunc (t) TestA() {}\n"},
			"names the test TestA of p",
		},

		{
			"a new one", dep,
			map[string]string{"go.mod": mod, "CONTRIBUTING.md": "prose\n"},
			"has no line \"- `example.org/a/v2`: why\"",
		},
		{
			"one that has gone", dep,
			map[string]string{"go.mod": mod, "CONTRIBUTING.md": "- `example.org/a/v2`: tables\n- `example.org/c`: no more\n"},
			"explains example.org/c",
		},
		{
			"a single requirement", dep,
			map[string]string{"go.mod": "module m\n\nrequire example.org/a v1.0.0\n", "CONTRIBUTING.md": "x\n"},
			"example.org/a",
		},
		{
			"each has one", dep,
			map[string]string{"go.mod": mod, "CONTRIBUTING.md": "- `example.org/a/v2`: tables\n"},
			"",
		},
	}
}
