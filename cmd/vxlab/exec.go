// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"strings"

	"github.com/urfave/cli/v2"

	"vxtap/cmd/vxlab/lab"
)

func execCommand(env []string) *cli.Command {
	return &cli.Command{
		Name:      "exec",
		Usage:     "run a command inside a host (h1), its container (c1) or the underlay (net)",
		ArgsUsage: "NODE [-- COMMAND [ARGUMENT]...]",
		Description: "Without a command it is a shell. The command finds the lab's vxtap in its PATH;\n" +
			"\"vxtap status\" and \"etcdctl get --prefix /vxlab\" work without more flags.",
		Flags: []cli.Flag{nameFlag("lab, or the only one")},
		// The command's own flags are not ours to read.
		SkipFlagParsing: true,
		Action: func(c *cli.Context) error {
			x, err := parseNode("exec", c.Args().Slice())
			if err != nil {
				return err
			}
			if x.help {
				return cli.ShowSubcommandHelp(c)
			}
			if x.node == "" {
				return usagef("no node is given: write %s", forms["exec"])
			}
			if err := lab.CheckNode(x.node); err != nil {
				return usageError{err}
			}
			if len(x.argv) == 0 {
				x.argv = []string{shell(env)}
			}
			if err := needRoot(c); err != nil {
				return err
			}
			l, err := openLab(x.name)
			if err != nil {
				return err
			}
			return l.Exec(x.node, x.argv, env)
		},
	}
}

// nodeArgs are the arguments of exec and of start.
type nodeArgs struct {
	name, node string
	argv       []string
	help       bool
}

// forms are how the commands that take a node are written.
var forms = map[string]string{
	"exec":  "vxlab exec NODE -- COMMAND, as in vxlab exec h1 -- vxtap status",
	"start": "vxlab start NODE, as in vxlab start h1",
}

// parseNode reads [-name LAB] NODE [-name LAB] [--] [COMMAND...].
func parseNode(command string, args []string) (nodeArgs, error) {
	var x nodeArgs
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		flag, value, given := strings.Cut(arg, "=")
		switch {
		case arg == "--" && x.node != "":
			x.argv = args
			return x, nil
		case flag == "-name" || flag == "--name":
			if !given {
				if len(args) == 0 {
					return x, usagef("-name needs a value: write -name=LAB")
				}
				value, args = args[0], args[1:]
			}
			x.name = value
		case arg == "-h" || arg == "-help" || arg == "--help":
			x.help = true
			return x, nil
		case strings.HasPrefix(arg, "-"):
			return x, usagef("unknown flag %s: write %s", arg, forms[command])
		case x.node == "":
			x.node = arg
		default:
			x.argv = append([]string{arg}, args...)
			return x, nil
		}
	}
	return x, nil
}

func shell(env []string) string {
	for _, kv := range env {
		if v, ok := strings.CutPrefix(kv, "SHELL="); ok && v != "" {
			return v
		}
	}
	return "/bin/sh"
}

// openLab opens the lab that is meant by name, as standing has it.
func openLab(name string) (*lab.Lab, error) {
	found, err := standing(name)
	if err != nil {
		return nil, err
	}
	if found == "" {
		return nil, errors.New("no lab stands: put one up with vxlab up")
	}
	l, err := lab.Load(found)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("no lab %s stands, or its records are lost: see vxlab ls", found)
	}
	return l, err
}
