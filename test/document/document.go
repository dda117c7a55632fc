// SPDX-License-Identifier: Apache-2.0

// Package document puts what a program of test/ has measured into a document of
// which the rest is somebody's text: between two lines with marks that carry the
// name of the make target, which makes the figures anew.
package document

import (
	"bytes"
	"fmt"
	"os"
	"strings"
)

// Begin returns the line before the figures of the make target name.
func Begin(name string) string { return "<!-- make " + name + ": begin -->\n" }

// End returns the line behind them.
func End(name string) string { return "<!-- make " + name + ": end -->\n" }

// Insert replaces what stands between the marks of name in file. A file without
// marks is an error, and left alone: it is somebody else's. The error of a file
// that is not there matches fs.ErrNotExist.
func Insert(file, name string, text []byte) error {
	before, after, err := around(file, name)
	if err != nil {
		return err
	}
	return os.WriteFile(file, bytes.Join([][]byte{before, []byte(Begin(name)), text, []byte(End(name)), after}, nil), 0o644)
}

// Check returns the error that Insert would end with, before anything is measured.
func Check(file, name string) error {
	_, _, err := around(file, name)
	return err
}

// around returns what stands before and after the marks.
func around(file, name string) (before, after []byte, err error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, nil, err
	}
	before, rest, begun := bytes.Cut(text, []byte(Begin(name)))
	_, after, ended := bytes.Cut(rest, []byte(End(name)))
	if !begun || !ended {
		return nil, nil, fmt.Errorf("%s has no lines %q and %q for the figures to stand between", file,
			strings.TrimSpace(Begin(name)), strings.TrimSpace(End(name)))
	}
	return before, after, nil
}
