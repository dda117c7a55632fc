// SPDX-License-Identifier: Apache-2.0

// Command report reads what go test -json writes and says what a person needs
// to know: a line for each package, a line for each test that took long, the
// whole output of a test that failed, and the reason of every test that was
// skipped. go test itself passes over the last in silence.
//
// It exits with 1 if a test failed or a package did not build; with CI=true
// also if a test was skipped, for CI is where every capability has to be.
package main

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"
)

func main() {
	ok, err := report(os.Stdin, os.Stdout, os.Getenv("CI") == "true")
	if err != nil {
		fmt.Fprintln(os.Stderr, "report:", err)
	}
	if err != nil || !ok {
		os.Exit(1)
	}
}

// long is how long a top-level test runs before it gets a line of its own: a
// reader of the log sees what the time went into, and that something happens.
const long = 2 * time.Second

// event is one line of go test -json (go doc cmd/test2json), or of a build
// within it (go help buildjson).
type event struct {
	Action     string
	Package    string
	ImportPath string // of a build, in place of Package
	Test       string
	Elapsed    float64 // seconds
	Output     string
}

// test is the name of one test within a run of many packages; the zero name is
// the package itself.
type test struct{ pkg, name string }

// summary adds up one run.
type summary struct {
	w               io.Writer
	output          map[test]*strings.Builder // of what has not ended yet
	packages, tests int
	failed, skipped int  // tests
	bad             bool // a test, a package or a build failed
}

// report copies a digest of r to w. ok is false if anything failed, or, with
// ci, was skipped.
func report(r io.Reader, w io.Writer, ci bool) (ok bool, err error) {
	s := &summary{w: w, output: make(map[test]*strings.Builder)}
	in := bufio.NewReader(r)
	for {
		line, readErr := in.ReadString('\n')
		if line != "" {
			s.line(line)
		}
		if readErr == io.EOF {
			break
		}
		if readErr != nil {
			return false, fmt.Errorf("read test events: %w", readErr)
		}
	}
	s.unfinished("")
	fmt.Fprintf(w, "%d packages, %d tests, %d failed, %d skipped\n", s.packages, s.tests, s.failed, s.skipped)
	if ci && s.skipped > 0 {
		fmt.Fprintln(w, "CI=true: what is skipped has failed")
		return false, nil
	}
	return !s.bad, nil
}

// line takes one line of input. What is no event comes from go itself, as a
// complaint about its arguments does, and is passed on.
func (s *summary) line(line string) {
	var e event
	if json.Unmarshal([]byte(line), &e) != nil || e.Action == "" {
		fmt.Fprint(s.w, line)
		return
	}
	t := test{e.Package, e.Test}
	switch e.Action {
	case "build-output":
		fmt.Fprint(s.w, e.Output)
	case "build-fail":
		s.bad = true
	case "output":
		if s.output[t] == nil {
			s.output[t] = new(strings.Builder)
		}
		s.output[t].WriteString(e.Output)
	case "pass", "fail", "skip":
		s.end(t, e)
		delete(s.output, t)
	}
}

// end takes the end of one test or, with no test's name, of one package.
func (s *summary) end(t test, e event) {
	took := time.Duration(e.Elapsed * float64(time.Second)).Round(10 * time.Millisecond)
	if t.name == "" {
		s.endPackage(t, e.Action, took)
		return
	}
	s.tests++
	switch e.Action {
	case "fail":
		s.failed++
		s.bad = true
		s.dump(t)
	case "skip":
		s.skipped++
		fmt.Fprintf(s.w, "skip  %s %s: %s\n", t.pkg, t.name, s.reason(t))
	default:
		if took >= long && !strings.Contains(t.name, "/") {
			fmt.Fprintf(s.w, "      %s %s %v\n", t.pkg, t.name, took)
		}
	}
}

// endPackage takes the end of a package. One that was skipped has no tests.
func (s *summary) endPackage(t test, action string, took time.Duration) {
	if action == "skip" {
		return
	}
	s.packages++
	if action == "pass" {
		fmt.Fprintf(s.w, "ok    %s %v\n", t.pkg, took)
		return
	}
	s.bad = true // even if no test did: a panic, a timeout, a TestMain that gave up
	s.unfinished(t.pkg)
	s.dump(t)
	fmt.Fprintf(s.w, "FAIL  %s %v\n", t.pkg, took)
}

// unfinished shows what tests had written that never ended: all of them, or
// those of one package.
func (s *summary) unfinished(pkg string) {
	var left []test
	for t := range s.output {
		if t.name != "" && (pkg == "" || t.pkg == pkg) {
			left = append(left, t)
		}
	}
	slices.SortFunc(left, func(a, b test) int { return strings.Compare(a.pkg+a.name, b.pkg+b.name) })
	for _, t := range left {
		s.failed++
		s.bad = true
		fmt.Fprintf(s.w, "did not end: %s %s\n", t.pkg, t.name)
		s.dump(t)
		delete(s.output, t)
	}
}

// dump shows what t has written, without the lines that only say that it runs.
func (s *summary) dump(t test) {
	b := s.output[t]
	if b == nil {
		return
	}
	for line := range strings.Lines(b.String()) {
		if !strings.HasPrefix(line, "=== ") {
			fmt.Fprint(s.w, line)
		}
	}
}

// reason returns what t said last before it was skipped, without the file and
// line that testing puts before it.
func (s *summary) reason(t test) string {
	last := "no reason given"
	b := s.output[t]
	if b == nil {
		return last
	}
	for line := range strings.Lines(b.String()) {
		line = strings.TrimSpace(line)
		if line == "" || strings.HasPrefix(line, "=== ") || strings.HasPrefix(line, "--- ") {
			continue
		}
		if _, after, ok := strings.Cut(line, ".go:"); ok {
			if _, said, ok := strings.Cut(after, ": "); ok {
				line = said
			}
		}
		last = line
	}
	return last
}
