// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"go/ast"
	"slices"
	"strconv"
	"strings"
)

// room is one room of the repository and what of the module it may import. A
// package belongs to the room with the longest path that it lies in.
type room struct {
	path string
	may  []string
	why  string
}

// rooms returns the direction of imports, which is the picture in
// docs/design.md. Nothing is said of test: it may import everything, and
// owners keeps everything from importing it.
func rooms() []room {
	return []room{
		{
			"encap",
			[]string{"encap"},
			"encap is the lowest room: who needs the bytes of a frame needs nothing else of us",
		},
		{
			"tunnel",
			[]string{"encap", "tunnel"},
			"the switch knows peers and nothing of leases: cmd/vxtap makes the one from the other",
		},
		{
			"lease",
			[]string{"encap/ether", "encap/vxlan", "lease"},
			"leases are a contract with other programs: they share our vocabulary and know no frame, socket or device",
		},
		{
			"cmd/vxtap",
			[]string{"encap", "tunnel", "lease", "cmd/vxtap"},
			"the daemon must not carry the lab and its etcd server",
		},
		{
			"cmd/vxlab",
			[]string{"encap", "tunnel", "lease", "cmd/vxtap", "cmd/vxlab"},
			"the lab is a program of its own",
		},
	}
}

// forTests is what the tests of any room may import besides: real namespaces
// are better than fakes.
func forTests() []string { return []string{"test", "cmd/vxlab/netns"} }

// importDirections checks every import of our own module, in tests too.
func importDirections(t *tree) []finding {
	var found []finding
	for _, f := range t.goFiles(func(f *file) bool { return !within(f.path, "test") }) {
		r, ok := roomOf(f.dir())
		if !ok {
			found = append(found, finding{f.path, "lies in no room: see the picture in docs/design.md"})
			continue
		}
		may := r.may
		if f.isTest() {
			may = slices.Concat(may, forTests())
		}
		for _, imp := range f.ast.Imports {
			own, ok := strings.CutPrefix(importPath(imp), module+"/")
			if ok && !withinAny(own, may) {
				found = append(found, t.at(imp.Pos(), "imports %s: %s", importPath(imp), r.why))
			}
		}
	}
	return found
}

// roomOf returns the room that a directory belongs to.
func roomOf(dir string) (room, bool) {
	var best room
	for _, r := range rooms() {
		if within(dir, r.path) && len(r.path) > len(best.path) {
			best = r
		}
	}
	return best, best.path != ""
}

// owner keeps a package in the rooms that it is there for. Tests are free.
type owner struct {
	pkg string // this and everything below it
	in  []string
	why string
}

// owners returns who may import what.
func owners() []owner {
	return []owner{
		{"vxtap/test", nil, "nothing of test is part of a program"},
		{"vxtap/lease/etcd", []string{"lease/etcd", "cmd"}, "the rest of lease works with any store"},
		{"vxtap/cmd/vxtap", []string{"cmd"}, "nothing below cmd knows a program"},
		{
			"golang.org/x/sys",
			[]string{"tunnel/tap", "tunnel/underlay", "tunnel/uplink", "tunnel/poll", "tunnel/host", "cmd/vxlab/netns"},
			"one room for each kind of thing the kernel does for us keeps the rest portable",
		},
		{
			"github.com/vishvananda",
			[]string{"tunnel/host", "cmd/vxlab"},
			"the host's network is changed in one place, where it can be undone",
		},
		{"github.com/songgao/water", []string{"tunnel/tap"}, "it is one back end of the TAP, behind our seam"},
		{
			"go.etcd.io/etcd/server/v3",
			[]string{"cmd/vxlab"},
			"the daemon never carries an etcd server",
		},
		{"go.etcd.io", []string{"lease/etcd", "cmd/vxlab"}, "one importer of the etcd client: the contract is tested without it"},
		{"github.com/prometheus", []string{"cmd/vxtap"}, "rooms count, the daemon exports"},
		{"github.com/urfave/cli", []string{"cmd"}, "flags are the business of programs"},
		{"github.com/jedib0t/go-pretty", []string{"cmd"}, "tables are the business of programs"},
		{"github.com/coreos/go-systemd", []string{"cmd/vxtap"}, "readiness is the daemon's"},
		{"github.com/google/nftables", []string{"tunnel/rules"}, "the packet filter is changed in one place, where it can be undone"},
		{
			"os/exec",
			[]string{"tunnel/rules", "cmd/vxlab"},
			"the daemon runs no other program than iptables, whose two back ends only iptables tells apart: all else it says to the kernel",
		},
		{"log", nil, "log through the *slog.Logger that the constructor was given"},
		{"testing", nil, "it registers flags in the program: put what tests share into a package whose name ends in test"},
	}
}

// importOwners checks every import of the product against owners.
func importOwners(t *tree) []finding {
	var found []finding
	for _, f := range t.goFiles((*file).isProduct) {
		for _, imp := range f.ast.Imports {
			if o, ok := ownerOf(importPath(imp)); ok && !withinAny(f.dir(), o.in) {
				found = append(found, t.at(imp.Pos(), "imports %s: %s", importPath(imp), o.why))
			}
			if own := importPath(imp); within(own, module) && isTestPackage(own) {
				found = append(found, t.at(imp.Pos(), "imports %s: a package for tests is no part of a program", own))
			}
		}
	}
	return found
}

// ownerOf returns the rule for an imported package, if there is one: the first
// that fits, as the narrower stand first.
func ownerOf(pkg string) (owner, bool) {
	for _, o := range owners() {
		// log/slog is not below log in any sense but its path.
		if o.pkg == "log" && pkg != "log" {
			continue
		}
		if within(pkg, o.pkg) {
			return o, true
		}
	}
	return owner{}, false
}

// encapIsPure checks that encap stays a room of functions from bytes to bytes,
// which is what lets its tests be exact and its fuzzing fast.
func encapIsPure(t *tree) []finding {
	impure := []string{"context", "log", "log/slog", "net", "os", "syscall", "time"}
	var found []finding
	for _, f := range t.goFiles(func(f *file) bool { return f.isProduct() && within(f.path, "encap") }) {
		for _, imp := range f.ast.Imports {
			if p := importPath(imp); slices.Contains(impure, p) || within(p, "golang.org/x/net") {
				found = append(found, t.at(imp.Pos(), "imports %s: encap has no goroutine, socket, clock or log", p))
			}
		}
		ast.Inspect(f.ast, func(n ast.Node) bool {
			if stmt, ok := n.(*ast.GoStmt); ok {
				found = append(found, t.at(stmt.Pos(), "starts a goroutine: encap has no goroutine, socket, clock or log"))
			}
			return true
		})
	}
	return found
}

// importPath returns the path that an import names.
func importPath(imp *ast.ImportSpec) string {
	p, err := strconv.Unquote(imp.Path.Value)
	if err != nil {
		return imp.Path.Value
	}
	return p
}

// imports reports whether f imports pkg.
func imports(f *file, pkg string) bool {
	return slices.ContainsFunc(f.ast.Imports, func(imp *ast.ImportSpec) bool { return importPath(imp) == pkg })
}
