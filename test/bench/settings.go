// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"flag"
	"fmt"
	"io"
	"io/fs"
	"regexp"
	"strings"
	"time"

	"vxtap/test/document"
)

// settings are the flags.
type settings struct {
	name         string
	rounds       int
	time         time.Duration
	works        *regexp.Regexp
	contestants  *regexp.Regexp
	called       string // what contestants was made of
	anchor       bool
	vxtap, vxlab string
	relay        string
	vxtapArgs    []string
	other        string
	otherArgs    []string
	markdown     string
	svg, json    string
	list         bool
	args         []string
}

// parse reads the flags. What it writes about them goes to help.
func parse(args []string, help io.Writer) (settings, error) {
	s := settings{args: args}
	var works, contestants, vxtapArgs, otherArgs string
	f := flag.NewFlagSet("bench", flag.ContinueOnError)
	f.SetOutput(help)
	f.StringVar(&s.name, "name", "bench", "`name` of the lab")
	f.IntVar(&s.rounds, "rounds", 5, "`rounds` of each measurement")
	f.DurationVar(&s.time, "time", 2*time.Second, "`duration` of each measurement")
	f.StringVar(&works, "works", "", "`regexp` for the works to do; it may match any part of a key, as tcp (see -list)")
	f.StringVar(&contestants, "contestants", ".*", "`regexp` for who takes part beside the kernel; it must match a whole name, as 'vxtap|relay' (see -list)")
	f.BoolVar(&s.anchor, "anchor", true, "kernel VXLAN takes part whatever -contestants says")
	f.StringVar(&s.vxtap, "vxtap", "bin/vxtap", "`path` of the daemon")
	f.StringVar(&vxtapArgs, "vxtap-args", "", "more `flags` for it, between blanks")
	f.StringVar(&s.other, "other", "", "`path` of the daemon of one more contestant, "+otherName+" (with -other-args alone: that of -vxtap)")
	f.StringVar(&otherArgs, "other-args", "", "more `flags` for that, between blanks")
	f.StringVar(&s.relay, "relay", "bin/relay", "`path` of the relay, built from test/bench/relay")
	f.StringVar(&s.vxlab, "vxlab", "bin/vxlab", "`path` of the lab command")
	f.StringVar(&s.markdown, "md", "", "`file` that gets the tables as Markdown; one that is there must have marks for them to stand between")
	f.StringVar(&s.svg, "svg", "", "`file` that gets a picture of them")
	f.StringVar(&s.json, "json", "", "`file` that gets every sample")
	f.BoolVar(&s.list, "list", false, "list works and contestants, and do nothing")
	if err := f.Parse(args); err != nil {
		return s, err
	}
	s.vxtapArgs, s.otherArgs = strings.Fields(vxtapArgs), strings.Fields(otherArgs)
	if len(s.otherArgs) > 0 && s.other == "" {
		s.other = s.vxtap
	}
	var errs [5]error
	s.works, errs[0] = regexp.Compile(works)
	s.called = contestants
	s.contestants, errs[1] = wholeName(contestants)
	if s.rounds < 1 || s.time < time.Second || s.time%time.Second != 0 || f.NArg() > 0 {
		errs[2] = errors.New("it takes flags only, at least one round, and whole seconds")
	}
	if errs[0] == nil && errs[1] == nil {
		errs[3] = s.checkChoice()
	}
	// Found out now rather than after the run.
	if err := document.Check(s.markdown, "bench"); s.markdown != "" && !errors.Is(err, fs.ErrNotExist) {
		errs[4] = err
	}
	return s, errors.Join(errs[:]...)
}

// checkChoice says when nothing is chosen: a misspelt word must not measure
// nothing.
func (s settings) checkChoice() error {
	if len(chosenWorks(s)) == 0 {
		return fmt.Errorf("no work has %s in its key: see -list", s.works)
	}
	return s.checkContestants()
}

// checkContestants looks at each word of -contestants alone: one that nobody is
// called by would only be missed in the table, after the run.
func (s settings) checkContestants() error {
	words := []string{s.called}
	if !strings.ContainsAny(s.called, "()[]\\") {
		words = strings.Split(s.called, "|")
	}
	for _, word := range words {
		whole, err := wholeName(word)
		if err != nil {
			return err
		}
		var found []string
		for _, name := range everybody() {
			if whole.MatchString(name) {
				found = append(found, name)
			}
		}
		switch {
		case len(found) == 0:
			return fmt.Errorf("-contestants: nobody has the name %q: there are %s", word, strings.Join(everybody(), ", "))
		case len(found) == 1 && found[0] == otherName && s.other == "":
			return fmt.Errorf("-contestants: %s is another program or other flags: say which with -other or -other-args", otherName)
		}
	}
	return nil
}

// wholeName returns what matches the names that word is the whole of.
func wholeName(word string) (*regexp.Regexp, error) { return regexp.Compile("^(?:" + word + ")$") }

// list shows what -works and -contestants choose from.
func list(w io.Writer, s settings) {
	fmt.Fprintln(w, "works (-works finds its regexp in any part of these keys):")
	for _, work := range chosenWorks(s) {
		name := work.name
		if work.place != "" {
			name += " between " + string(work.place)
		}
		fmt.Fprintf(w, "  %-26s %s\n", work.key, name)
	}
	fmt.Fprintln(w, "contestants (-contestants wants a regexp for a whole name):")
	for _, name := range chosenContestants(s) {
		fmt.Fprintf(w, "  %s\n", name)
	}
}
