// SPDX-License-Identifier: Apache-2.0

// Package arch holds the rules that keep the repository in the shape that
// docs/design.md describes, and checks them: which room may import which, how
// long a file may be, that every name has its sentence. It reads the source
// with go/parser and runs no tool, and it reads the files of all platforms,
// of which a linter sees one at a time.
//
// Every rule has a case in rules_test.go that breaks it, so that a rule which
// no longer finds anything is found out.
package arch

import (
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"io/fs"
	"path"
	"strings"
)

// module is the name in go.mod, which starts every import of our own.
const module = "vxtap"

// rule is one thing that holds for the whole tree.
type rule struct {
	name  string
	check func(*tree) []finding
}

// finding is one place where a rule does not hold.
type finding struct {
	where string // path from the root of the repository, with the line if there is one
	what  string // what is wrong, and why it matters
}

// String returns the finding in the form in which compilers report.
func (f finding) String() string { return f.where + ": " + f.what }

// rules returns every rule, in the order in which CONTRIBUTING.md names them.
func rules() []rule {
	return []rule{
		{"imports go one way", importDirections},
		{"a dependency stays in its room", importOwners},
		{"encap is bytes only", encapIsPure},
		{"every file names its licence", licences},
		{"every package says what it is", packageDocs},
		{"every exported name has its sentence", exportedDocs},
		{"every package has a test", packageTests},
		{"files and functions are short", sizes},
		{"nothing runs before main", noInit},
		{"only main ends the program", exits},
		{"no package has state", packageState},
		{"unit tests do not sleep", sleeps},
		{"links lead somewhere", links},
		{"no path of somebody's machine", machinePaths},
		{"every dependency has its reason", dependencies},
		{"a claim has its test", claims},
	}
}

// tree is the repository.
type tree struct {
	fset  *token.FileSet
	files []*file // in lexical order
	paths map[string]bool
}

// file is one text file.
type file struct {
	path string // from the root, with slashes
	text string
	ast  *ast.File // nil unless it is Go, and not data of a test
}

// dir returns the directory of f: for Go, the package's path in the module.
func (f *file) dir() string { return path.Dir(f.path) }

// isTest reports whether f is compiled for tests only.
func (f *file) isTest() bool { return strings.HasSuffix(f.path, "_test.go") }

// isProduct reports whether f becomes part of a program that people run. What
// lies in test does not, nor does a package for tests, as net/http/httptest is
// one.
func (f *file) isProduct() bool {
	return f.ast != nil && !f.isTest() && !within(f.path, "test") && !isTestPackage(f.dir())
}

// isTestPackage reports whether a package is there for tests to import.
func isTestPackage(name string) bool { return strings.HasSuffix(name, "test") }

// within reports whether the slash-separated name is dir or below it.
func within(name, dir string) bool {
	return name == dir || strings.HasPrefix(name, dir+"/")
}

// withinAny is within for any of dirs.
func withinAny(name string, dirs []string) bool {
	for _, dir := range dirs {
		if within(name, dir) {
			return true
		}
	}
	return false
}

// load reads the tree, without what .gitignore keeps out of the repository and
// without files that are not text.
func load(fsys fs.FS) (*tree, error) {
	t := &tree{fset: token.NewFileSet(), paths: make(map[string]bool)}
	err := fs.WalkDir(fsys, ".", func(name string, d fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		if d.IsDir() {
			t.paths[name] = true
			switch name {
			case ".git", ".cache", "bin":
				return fs.SkipDir
			}
			return nil
		}
		if !d.Type().IsRegular() || name == ".git" { // a file in a worktree
			return nil
		}
		return t.add(fsys, name)
	})
	if err != nil {
		return nil, fmt.Errorf("read the tree: %w", err)
	}
	return t, nil
}

// add reads one file into the tree.
func (t *tree) add(fsys fs.FS, name string) error {
	t.paths[name] = true
	b, err := fs.ReadFile(fsys, name)
	if err != nil {
		return err
	}
	text := string(b)
	if strings.ContainsRune(text, 0) {
		return nil
	}
	f := &file{path: name, text: text}
	if path.Ext(name) == ".go" && !strings.Contains(name, "testdata/") {
		f.ast, err = parser.ParseFile(t.fset, name, text, parser.ParseComments|parser.SkipObjectResolution)
		if err != nil {
			return err
		}
	}
	t.files = append(t.files, f)
	return nil
}

// goFiles returns the Go files that keep accepts.
func (t *tree) goFiles(keep func(*file) bool) []*file {
	var files []*file
	for _, f := range t.files {
		if f.ast != nil && keep(f) {
			files = append(files, f)
		}
	}
	return files
}

// at makes a finding at a place in the source.
func (t *tree) at(pos token.Pos, format string, args ...any) finding {
	p := t.fset.Position(pos)
	return finding{fmt.Sprintf("%s:%d", p.Filename, p.Line), fmt.Sprintf(format, args...)}
}
