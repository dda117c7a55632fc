// SPDX-License-Identifier: Apache-2.0

// Command scale measures what a network of ten thousand hosts costs one of
// them, and how two hundred that start at once get their leases: real daemons,
// a real etcd, on the machine at hand. docs/reliability.md says what is
// measured how, and has the figures.
//
//	go run ./test/scale [flags]; -h shows them
//
// In reading order: settings and report in this file and report.go,
// leases_linux.go one daemon among many leases, probe_linux.go when it applies
// a change, nodes_linux.go many daemons.
//
// It needs root, Linux and etcd. What it does stays in namespaces of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"vxtap/test/document"
	"vxtap/test/field"
)

// settings are the flags.
type settings struct {
	leases   int
	nodes    int
	starts   int
	changes  int
	dual     bool
	vxtap    string
	dir      string
	markdown string
	args     []string
}

// parse reads the flags. What it writes about them goes to help.
func parse(args []string, help io.Writer) (settings, error) {
	s := settings{args: args}
	f := flag.NewFlagSet("scale", flag.ContinueOnError)
	f.SetOutput(help)
	f.IntVar(&s.leases, "leases", 10000, "`number` of leases of other hosts; 0 leaves this part out")
	f.IntVar(&s.nodes, "nodes", 200, "`number` of daemons that start at once; 0 leaves this part out")
	f.IntVar(&s.starts, "starts", 5, "`number` of starts that are measured")
	f.IntVar(&s.changes, "changes", 500, "`number` of lease changes that are measured")
	f.BoolVar(&s.dual, "dual", false, "a network, and hosts, of both IPv4 and IPv6")
	f.StringVar(&s.vxtap, "vxtap", "bin/vxtap", "`path` of the daemon")
	f.StringVar(&s.dir, "dir", ".cache/scale", "`directory` for logs and etcd's data, which stays")
	f.StringVar(&s.markdown, "md", "", "`file` with marks that gets the figures as Markdown")
	if err := f.Parse(args); err != nil {
		return s, err
	}
	if f.NArg() > 0 || s.leases < 0 || s.leases > maxLeases || s.nodes < 0 || s.nodes > 2000 || s.starts < 1 || s.changes < 1 {
		return s, fmt.Errorf("it takes flags only, at most %d leases, and at least one start and one change", maxLeases)
	}
	if s.markdown != "" {
		if err := document.Check(s.markdown, s.mark()); err != nil {
			return s, err
		}
	}
	return s, nil
}

// mark is the name of the marks that figures stand between.
func (s settings) mark() string {
	if s.dual {
		return "scale dual"
	}
	return "scale"
}

// maxLeases is less than the network has subnets.
const maxLeases = 16000

func main() { os.Exit(field.Program("scale", start)) }

func start(ctx context.Context, args []string, stdout, progress io.Writer) error {
	s, err := parse(args, progress)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	f, err := measure(ctx, s, progress)
	if err != nil {
		return err
	}
	f.settings = s
	f.write(stdout)
	if err := f.missed(); err != nil || s.markdown == "" {
		return err
	}
	return f.insert(s.markdown)
}
