// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"vxtap/lease"
	"vxtap/lease/etcd"
)

// This file has what the commands share that talk to etcd themselves, with the
// daemon's flags and environment, and without a daemon.

// operateFor bounds a command: a store that does not answer says so long before.
const operateFor = time.Minute

// group makes one command of several.
func group(name, usage, description string, commands ...*cli.Command) *cli.Command {
	for _, c := range commands {
		c.OnUsageError, c.HideHelp = explainUsage, true
	}
	return &cli.Command{
		Name: name, Usage: usage, Description: description, Subcommands: commands,
		Action: func(c *cli.Context) error {
			if arg := c.Args().First(); arg != "" {
				return unknownCommand(commands, name+" ", arg)
			}
			return usagef("vxtap %s needs a command: there are %s", name, strings.Join(commandNames(commands), ", "))
		},
	}
}

// operatorFlags are own, and the daemon's flags that say where etcd is.
func operatorFlags(own ...cli.Flag) []cli.Flag {
	for _, f := range etcdFlags() {
		own = append(own, inCategory(f, "etcd, as the daemon's"))
	}
	return own
}

// operands returns what a command was given beside its flags, which may stand
// before and behind; want names what it must be.
func operands(c *cli.Context, want ...string) ([]string, error) {
	name := c.Lineage()[1].Command.Name + " " + c.Command.Name
	if flags := c.Lineage()[2].LocalFlagNames(); len(flags) > 0 {
		return nil, usagef("-%s is before the command: write vxtap %s first, then its flags", flags[0], name)
	}
	got, err := lateFlags(c)
	switch {
	case err != nil:
		return nil, err
	case len(got) > len(want) && len(want) == 0:
		return nil, usagef("unexpected argument %q: vxtap %s takes flags only", got[0], name)
	case len(got) > len(want):
		return nil, usagef("unexpected argument %q: write vxtap %s %s", got[len(want)], name, strings.Join(want, " "))
	case len(got) < len(want):
		return nil, usagef("%s is missing: write vxtap %s %s", want[len(got)], name, strings.Join(want, " "))
	}
	return got, nil
}

// lateFlags sets the flags that stand behind an operand, where package flag does
// not look for any more, and returns the operands.
func lateFlags(c *cli.Context) ([]string, error) {
	var rest []string
	args := c.Args().Slice()
	for len(args) > 0 {
		arg := args[0]
		args = args[1:]
		if len(arg) < 2 || arg[0] != '-' {
			rest = append(rest, arg)
			continue
		}
		name, value, joined := strings.Cut(strings.TrimPrefix(arg[1:], "-"), "=")
		flag := flagNamed(c.Command.Flags, name)
		_, isSwitch := flag.(*cli.BoolFlag)
		switch {
		case flag == nil && (name == "help" || name == "h"):
			return nil, usagef("-%s comes before what the command is given", name)
		case flag == nil:
			return nil, explainUsage(c, errors.New("flag provided but not defined: -"+name), true)
		case joined:
		case isSwitch:
			value = "true"
		case len(args) == 0:
			return nil, explainUsage(c, errors.New("flag needs an argument: -"+name), true)
		default:
			value, args = args[0], args[1:]
		}
		if err := c.Set(name, value); err != nil {
			return nil, usagef("-%s: %q is not true or false", name, value) // only switches refuse a text
		}
	}
	return rest, nil
}

func flagNamed(flags []cli.Flag, name string) cli.Flag {
	for _, f := range flags {
		if f.Names()[0] == name {
			return f
		}
	}
	return nil
}

// network is one network in etcd, opened by a command.
type network struct {
	*lease.Operator
	store  *etcd.Store
	prefix string
}

// showNetwork is withNetwork for a command that takes no operands and shows
// something, as a table or as JSON.
func showNetwork(c *cli.Context, env []string, f func(ctx context.Context, n *network, isJSON bool) error) error {
	if _, err := operands(c); err != nil {
		return err
	}
	isJSON, err := tableOrJSON(c)
	if err != nil {
		return err
	}
	return withNetwork(c, env, func(ctx context.Context, n *network) error { return f(ctx, n, isJSON) })
}

// withNetwork calls f with the network that the flags and the environment of c
// say, and closes it. f has operateFor.
func withNetwork(c *cli.Context, env []string, f func(context.Context, *network) error) error {
	r := &reader{c: c, origin: make(map[string]string)}
	r.takeEnvironment(env, c.Command.Flags)
	config := r.etcd()
	if err := errors.Join(r.faults...); err != nil {
		return usageError{err}
	}
	store, err := etcd.Open(c.Context, config, nil)
	if err != nil {
		return err
	}
	defer store.Close()
	ctx, cancel := context.WithTimeout(c.Context, operateFor)
	defer cancel()
	return f(ctx, &network{lease.NewOperator(store), store, config.Prefix})
}

// printer writes lines for people. Whatever strangers wrote into etcd must not
// reach the terminal raw, so that this is the one way out.
type printer struct{ b strings.Builder }

func (p *printer) linef(format string, args ...any) { fmt.Fprintf(&p.b, format+"\n", args...) }

// to writes what was printed to w.
func (p *printer) to(w io.Writer) error {
	lines := strings.Split(p.b.String(), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(printable(l), " ")
	}
	_, err := io.WriteString(w, strings.Join(lines, "\n"))
	return err
}

// tableOrJSON reads -o.
func tableOrJSON(c *cli.Context) (isJSON bool, err error) {
	switch o := c.String("o"); o {
	case "table":
		return false, nil
	case "json":
		return true, nil
	default:
		return false, usagef("-o: %q is not one of table, json", o)
	}
}

func formatFlag() cli.Flag {
	return textFlag("o", "table", "`FORMAT` table, for people, or json, for programs")
}
