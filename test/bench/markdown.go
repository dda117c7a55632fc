// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"strings"

	"vxtap/test/document"
)

// writeMarkdown writes both tables and what to know about them.
func (r results) writeMarkdown(w io.Writer) {
	for _, p := range []place{containers, hosts, ""} {
		title := "Between " + string(p)
		if p == "" {
			title = "At rest"
		}
		var rows [][]string
		for _, row := range r.rows {
			if row.place == p {
				rows = append(rows, append([]string{row.work.name, row.metric.name}, r.cells(row)...))
			}
		}
		if len(rows) > 0 {
			fmt.Fprintf(w, "### %s\n\n", title)
			markdownTable(w, append([]string{"work", ""}, r.head()...), rows)
		}
	}
	for _, sentence := range r.conditions() {
		fmt.Fprintln(w, sentence)
	}
	fmt.Fprintf(w, "Made by `%s`.\n", r.command())
	if verdicts := r.verdicts(); len(verdicts) > 0 {
		fmt.Fprint(w, "\n### What is to be reached\n\n")
		markdownTable(w, verdicts[0], verdicts[1:])
	}
}

// markdownTable writes one table and an empty line.
func markdownTable(w io.Writer, head []string, rows [][]string) {
	clean := strings.NewReplacer("|", `\|`, "<", "&lt;", ">", "&gt;")
	for i, row := range append([][]string{head}, rows...) {
		for j := range row {
			row[j] = clean.Replace(row[j])
		}
		fmt.Fprintf(w, "| %s |\n", strings.Join(row, " | "))
		if i == 0 {
			fmt.Fprintf(w, "|%s\n", strings.Repeat("---|", len(head)))
		}
	}
	fmt.Fprintln(w)
}

// command returns the flags of the run, as one would give them again.
func (r results) command() string {
	args := []string{"go run ./test/bench"}
	for _, a := range r.settings.args {
		if strings.ContainsAny(a, " |*?()$<>") {
			a = "'" + a + "'"
		}
		args = append(args, a)
	}
	return strings.Join(args, " ")
}

// insert puts text between its marks in the file name, or makes a file of it
// where there is none.
func insert(name string, text []byte) error {
	err := document.Insert(name, "bench", text)
	if errors.Is(err, fs.ErrNotExist) {
		return os.WriteFile(name, text, 0o644)
	}
	return err
}
