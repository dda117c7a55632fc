// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"go/ast"
	"path"
	"regexp"
	"strings"
)

// compatibility is the document whose every claim is to have a test.
const compatibility = "docs/flannel-compatibility.md"

// named matches a test as documents name it: `./lease TestParseKey`.
var named = regexp.MustCompile("`\\./([\\w/.-]+) ((?:Test|Fuzz|Benchmark)\\w+)`")

// claims checks that the tests which documents name are there, and that each row
// of the compatibility document that says same or better names one.
func claims(t *tree) []finding {
	tests := make(map[string]bool)
	for _, f := range t.goFiles((*file).isTest) {
		for _, decl := range f.ast.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil {
				tests[f.dir()+" "+fn.Name.Name] = true
			}
		}
	}
	var found []finding
	for _, f := range t.files {
		if path.Ext(f.path) != ".md" {
			continue
		}
		for i, line := range lines(f.text) {
			names := named.FindAllStringSubmatch(line, -1)
			for _, n := range names {
				if !tests[n[1]+" "+n[2]] {
					found = append(found, at(f, i, "names the test %s of %s: there is none", n[2], n[1]))
				}
			}
			if f.path == compatibility && isClaim(line) && len(names) == 0 {
				found = append(found, at(f, i, "claims something and names no test that shows it"))
			}
		}
	}
	return found
}

// isClaim reports whether a line is a row of a table that says same or better.
func isClaim(line string) bool {
	cells := strings.Split(line, "|")
	if len(cells) < 4 || strings.TrimSpace(cells[0]) != "" {
		return false
	}
	said := strings.TrimSpace(cells[2])
	return said == "same" || said == "better"
}
