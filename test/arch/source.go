// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"fmt"
	"go/ast"
	"go/token"
	"maps"
	"path"
	"regexp"
	"slices"
	"strings"
)

// Walls, not targets: CONTRIBUTING.md says what is usual.
const (
	maxFileLines     = 800
	maxFunctionLines = 100
)

// sizes checks that files and functions can be read in one go.
func sizes(t *tree) []finding {
	var found []finding
	for _, f := range t.goFiles(everyFile) {
		if n := strings.Count(f.text, "\n"); n > maxFileLines {
			found = append(found, finding{f.path, fmt.Sprintf("has %d lines, more than %d: cut it along a concept", n, maxFileLines)})
		}
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok {
				continue
			}
			if n := t.fset.Position(fn.End()).Line - t.fset.Position(fn.Pos()).Line + 1; n > maxFunctionLines {
				found = append(found, t.at(fn.Pos(), "%s has %d lines, more than %d: nobody holds that in mind", fn.Name.Name, n, maxFunctionLines))
			}
		}
	}
	return found
}

func everyFile(*file) bool { return true }

// licences checks the first line of everything that takes comments, or the
// second where the first names an interpreter.
func licences(t *tree) []finding {
	var found []finding
	for _, f := range t.files {
		comment := "#"
		switch {
		case f.ast != nil:
			comment = "//"
		case slices.Contains([]string{".sh", ".yml", ".yaml", ".mk"}, path.Ext(f.path)),
			path.Base(f.path) == "Makefile", strings.HasPrefix(f.text, "#!"):
		default:
			continue
		}
		text := f.text
		if strings.HasPrefix(text, "#!") {
			_, text, _ = strings.Cut(text, "\n")
		}
		if !strings.HasPrefix(text, comment+" SPDX-License-Identifier: Apache-2.0\n") {
			found = append(found, finding{f.path, "does not start with its SPDX line: a file that is copied out must carry its licence"})
		}
	}
	return found
}

// packageDocs checks that go doc has an answer for every package.
func packageDocs(t *tree) []finding {
	documented := make(map[string]bool)
	names := make(map[string]string)
	for _, f := range t.goFiles(func(f *file) bool { return !f.isTest() }) {
		dir, name := f.dir(), f.ast.Name.Name
		start := "Package " + name + " "
		if name == "main" {
			start = "Command " + path.Base(dir) + " "
		}
		names[dir] = start
		if strings.HasPrefix(f.ast.Doc.Text(), start) {
			documented[dir] = true
		}
	}
	var found []finding
	for _, dir := range slices.Sorted(maps.Keys(names)) {
		if !documented[dir] {
			found = append(found, finding{dir, fmt.Sprintf("no file has a comment that starts with %q: what is it, and what is it not?", names[dir])})
		}
	}
	return found
}

// packageTests checks that every package has a test file. A package without
// declarations, which only explains a room, has nothing to test; one that
// imports testing is tested by the tests that it serves.
func packageTests(t *tree) []finding {
	declares, tested := make(map[string]bool), make(map[string]bool)
	for _, f := range t.goFiles(everyFile) {
		if f.isTest() || imports(f, "testing") {
			tested[f.dir()] = true
		} else if len(f.ast.Decls) > 0 {
			declares[f.dir()] = true
		}
	}
	var found []finding
	for _, dir := range slices.Sorted(maps.Keys(declares)) {
		if !tested[dir] {
			found = append(found, finding{dir, "has no test file"})
		}
	}
	return found
}

// exportedDocs checks that every exported constant, variable, type, function
// and method has a comment: its own, or that of the group it stands in.
func exportedDocs(t *tree) []finding {
	var found []finding
	missing := func(id *ast.Ident) {
		if id.IsExported() {
			found = append(found, t.at(id.Pos(), "%s is exported and has no comment: its caller reads go doc and not the code", id.Name))
		}
	}
	for _, f := range t.goFiles(func(f *file) bool { return !f.isTest() }) {
		for _, decl := range f.ast.Decls {
			switch d := decl.(type) {
			case *ast.FuncDecl:
				if d.Doc.Text() == "" && (d.Recv == nil || receiver(d).IsExported()) {
					missing(d.Name)
				}
			case *ast.GenDecl:
				if d.Doc.Text() == "" {
					undocumentedSpecs(d, missing)
				}
			}
		}
	}
	return found
}

// undocumentedSpecs calls missing for each name of a group without a comment
// that has none either.
func undocumentedSpecs(d *ast.GenDecl, missing func(*ast.Ident)) {
	for _, spec := range d.Specs {
		switch s := spec.(type) {
		case *ast.TypeSpec:
			if s.Doc.Text() == "" {
				missing(s.Name)
			}
		case *ast.ValueSpec:
			if s.Doc.Text() == "" && s.Comment.Text() == "" {
				for _, name := range s.Names {
					missing(name)
				}
			}
		}
	}
}

// receiver returns the name of the type that a method belongs to.
func receiver(fn *ast.FuncDecl) *ast.Ident {
	typ := fn.Recv.List[0].Type
	for {
		switch t := typ.(type) {
		case *ast.StarExpr:
			typ = t.X
		case *ast.IndexExpr:
			typ = t.X
		case *ast.IndexListExpr:
			typ = t.X
		case *ast.Ident:
			return t
		default:
			return ast.NewIdent("_")
		}
	}
}

// noInit checks that importing a package does nothing.
func noInit(t *tree) []finding {
	var found []finding
	for _, f := range t.goFiles(everyFile) {
		for _, decl := range f.ast.Decls {
			if fn, ok := decl.(*ast.FuncDecl); ok && fn.Recv == nil && fn.Name.Name == "init" {
				found = append(found, t.at(fn.Pos(), "init runs for every importer, in an order that nobody sees: make it a constructor"))
			}
		}
	}
	return found
}

// exits checks that a failure travels up as an error to main, past every
// deferred function on the way. A test binary that runs itself as another
// program may end as it likes.
func exits(t *tree) []finding {
	ends := regexp.MustCompile(`^(os\.Exit|log\.(Fatal|Fatalf|Fatalln)|syscall\.Exit|unix\.Exit)$`)
	var found []finding
	for _, f := range t.goFiles(func(f *file) bool { return !f.isTest() }) {
		for _, decl := range f.ast.Decls {
			fn, ok := decl.(*ast.FuncDecl)
			if !ok || fn.Recv == nil && f.ast.Name.Name == "main" && fn.Name.Name == "main" {
				continue
			}
			references(fn, func(pos token.Pos, name string) {
				if ends.MatchString(name) {
					found = append(found, t.at(pos, "%s outside main skips every deferred clean-up: return an error", name))
				}
			})
		}
	}
	return found
}

// references calls visit with every pkg.Name that stands in node.
func references(node ast.Node, visit func(token.Pos, string)) {
	ast.Inspect(node, func(n ast.Node) bool {
		if sel, ok := n.(*ast.SelectorExpr); ok {
			if x, ok := sel.X.(*ast.Ident); ok {
				visit(sel.Pos(), x.Name+"."+sel.Sel.Name)
			}
		}
		return true
	})
}

// packageState finds variables that are there to be changed: those that start
// without a value, and those whose value is a lock or an atomic. A table or an
// error is fine.
func packageState(t *tree) []finding {
	var found []finding
	for _, f := range t.goFiles((*file).isProduct) {
		for _, decl := range f.ast.Decls {
			d, ok := decl.(*ast.GenDecl)
			if !ok || d.Tok != token.VAR {
				continue
			}
			for _, spec := range d.Specs {
				s, ok := spec.(*ast.ValueSpec)
				if ok && (len(s.Values) == 0 || mentions(s, "sync.") || mentions(s, "atomic.")) {
					found = append(found, t.at(s.Pos(), "%s is state of the package: two of us in one process, as in a test, would share it", s.Names[0].Name))
				}
			}
		}
	}
	return found
}

// mentions reports whether node refers to a name that starts with prefix.
func mentions(node ast.Node, prefix string) bool {
	found := false
	references(node, func(_ token.Pos, name string) { found = found || strings.HasPrefix(name, prefix) })
	return found
}

// sleeps finds unit tests that wait for real time, which is either too short
// for a busy machine or too long for everybody. Inside testing/synctest time
// is free. The black-box tests of test wait for kernels and other programs.
func sleeps(t *tree) []finding {
	var found []finding
	for _, f := range t.goFiles(func(f *file) bool { return f.isTest() && !within(f.path, "test") }) {
		if imports(f, "testing/synctest") {
			continue
		}
		references(f.ast, func(pos token.Pos, name string) {
			if name == "time.Sleep" {
				found = append(found, t.at(pos, "sleeps: wait for what is to happen, or use testing/synctest"))
			}
		})
	}
	return found
}
