// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"
	"unicode/utf8"

	"github.com/urfave/cli/v2"
)

const daemonHelp = `vxtap makes this host a member of a flannel VXLAN network, in user space.

Without a command it is the daemon:

  vxtap -etcd-endpoints=http://10.0.0.1:2379 -iface=eth0

It needs CAP_NET_ADMIN and /dev/net/tun, and takes flanneld's flags, with one
dash or two. Every flag can come from the environment instead: -etcd-prefix
from VXTAP_ETCD_PREFIX, else from FLANNELD_ETCD_PREFIX. The command line goes
before the environment; a variable that is empty does not count.

Commands (vxtap COMMAND -help says more):
`

const statusHelp = `vxtap status shows what the daemon on this host does: its subnet, the lease, etcd,
the peers with their traffic, and what was dropped and why. In the table kB, MB
and GB are decimal: 1 kB is 1000 bytes. JSON has bytes; docs/status.md explains
each field.

  vxtap status
  vxtap status -o json
`

// helpWidth is where lines of help end.
const helpWidth = 100

// printHelp writes the help of cmd, or of the daemon, to standard output. The
// library would sort categories by name and print two dashes and every
// variable beside every flag.
func printHelp(app *cli.App, cmd *cli.Command) error {
	var b strings.Builder
	if text := commandHelp(cmd); text != "" {
		b.WriteString(text)
		writeFlags(&b, cmd.Flags)
	} else {
		b.WriteString(daemonHelp)
		for _, c := range app.Commands {
			fmt.Fprintf(&b, "  %-13s%s\n", c.Name, c.Usage)
		}
		writeFlags(&b, app.Flags)
	}
	_, err := fmt.Fprint(app.Writer, b.String())
	return err
}

// namedCommand finds a command by its words, as lease, show; nil for no words.
func namedCommand(all []*cli.Command, words []string) (found *cli.Command, err error) {
	before := ""
	for _, word := range words {
		if found != nil && len(all) == 0 {
			return nil, usagef("unexpected argument %q: vxtap %s has no commands", word, strings.TrimSpace(before))
		}
		i := slices.IndexFunc(all, func(c *cli.Command) bool { return c.Name == word })
		if i < 0 {
			return nil, unknownCommand(all, before, word)
		}
		found, all, before = all[i], all[i].Subcommands, before+word+" "
	}
	return found, nil
}

// unknownCommand is the error for a word that is none of all, with what stands
// before them on the command line.
func unknownCommand(all []*cli.Command, before, word string) error {
	names := commandNames(all)
	if near, ok := nearest(word, names); ok {
		return usagef("unknown command %q: did you mean %s%s?", word, before, near)
	}
	return usagef("unknown command %q: there are %s", before+word, strings.Join(names, ", "))
}

func commandNames(all []*cli.Command) []string {
	var names []string
	for _, c := range all {
		names = append(names, c.Name)
	}
	return names
}

// commandHelp returns what the help of cmd begins with, "" if cmd is nil or has
// none of its own.
func commandHelp(cmd *cli.Command) string {
	switch {
	case cmd == nil:
		return ""
	case cmd.Name == "status":
		return statusHelp
	case cmd.Name == "docker-opts":
		return dockerOptsHelp
	case cmd.Name == "cleanup":
		return cleanupHelp
	}
	return cmd.Description
}

func writeFlags(b *strings.Builder, flags []cli.Flag) {
	category := ""
	for _, f := range flags {
		if c := f.(cli.CategorizableFlag).GetCategory(); c != category {
			category = c
			fmt.Fprintf(b, "\nFlags: %s\n", c)
		} else if f == flags[0] {
			b.WriteString("\nFlags:\n")
		}
		writeFlag(b, f)
	}
}

func writeFlag(b *strings.Builder, f cli.Flag) {
	doc := f.(cli.DocGenerationFlag)
	value, usage := splitUsage(doc.GetUsage())
	head := "  -" + f.Names()[0]
	if value != "" {
		head += " " + value
	}
	if d := shownDefault(f, doc); d != "" {
		usage += " (default: " + d + ")"
	}
	fmt.Fprintf(b, "%s\n", head)
	for _, line := range wrap(usage, helpWidth-8) {
		fmt.Fprintf(b, "        %s\n", line)
	}
}

// shownDefault leaves out what goes without saying.
func shownDefault(f cli.Flag, doc cli.DocGenerationFlag) string {
	switch f := f.(type) {
	case *cli.BoolFlag:
		if f.Value {
			return "true"
		}
		return ""
	case *cli.StringFlag:
		return f.Value
	}
	return doc.GetDefaultText()
}

// splitUsage returns the value's name, which stands in backquotes, and the
// sentence without them.
func splitUsage(usage string) (value, sentence string) {
	before, rest, ok := strings.Cut(usage, "`")
	if !ok {
		return "", usage
	}
	value, after, _ := strings.Cut(rest, "`")
	return value, before + value + after
}

// wrap breaks s into lines of at most width characters.
func wrap(s string, width int) []string {
	var lines []string
	line := ""
	for word := range strings.FieldsSeq(s) {
		if line != "" && utf8.RuneCountInString(line)+1+utf8.RuneCountInString(word) > width {
			lines = append(lines, line)
			line = ""
		}
		if line != "" {
			line += " "
		}
		line += word
	}
	return append(lines, line)
}
