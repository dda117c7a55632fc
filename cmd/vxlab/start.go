// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"vxtap/cmd/vxlab/lab"
)

func startCommand() *cli.Command {
	return &cli.Command{
		Name:      "start",
		Usage:     "start again what has ended: the daemon of a host (h1) or etcd (net)",
		ArgsUsage: "NODE",
		Flags:     []cli.Flag{nameFlag("lab, or the only one")},
		// As exec has it: the flag may come before the node and after it.
		SkipFlagParsing: true,
		Action: func(c *cli.Context) error {
			x, err := parseNode("start", c.Args().Slice())
			if err != nil {
				return err
			}
			if x.help {
				return cli.ShowSubcommandHelp(c)
			}
			switch {
			case x.node == "":
				return usagef("no node is given: write %s", forms["start"])
			case len(x.argv) > 0:
				return usagef("unexpected argument %q: vxlab start takes one node", x.argv[0])
			}
			if err := lab.CheckNode(x.node); err != nil {
				return usageError{err}
			}
			if strings.HasPrefix(x.node, "c") {
				return usagef("%s is a container, in which no daemon runs: vxlab start h%s starts that of its host", x.node, x.node[1:])
			}
			if err := needRoot(c); err != nil {
				return err
			}
			l, err := openLab(x.name)
			if err != nil {
				return err
			}
			return startNode(c, l, x.node)
		},
	}
}

// startNode starts what is to run in a node, and says so when it is ready.
func startNode(c *cli.Context, l *lab.Lab, node string) error {
	if node == lab.Underlay {
		if err := l.StartEtcd(c.Context); err != nil {
			return err
		}
		_, err := fmt.Fprintln(c.App.Writer, "etcd answers on "+l.EtcdURL())
		return err
	}
	for i, h := range l.Hosts() {
		if h.Node != node {
			continue
		}
		if h.ByHand {
			return fmt.Errorf("a vxtap that somebody else started runs on %s: end it first", node)
		}
		if err := l.StartHost(c.Context, i+1); err != nil {
			return err
		}
		h = l.Hosts()[i]
		_, err := fmt.Fprintf(c.App.Writer, "%s is ready: vxtap, pid %d, %s; its log is %s\n", node, h.PID, h.Subnet, h.Log)
		return err
	}
	return fmt.Errorf("lab %s has no %s", l.Name(), node)
}
