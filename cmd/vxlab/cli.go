// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"runtime"
	"runtime/debug"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"github.com/urfave/cli/v2"

	"vxtap/cmd/vxlab/lab"
)

// Exit statuses.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// usageError is a fault of the command line, as opposed to one of the machine
// or of a lab.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// run is the whole program. args[0] is the program's own name; env has
// "NAME=value" entries. It returns the exit status.
func run(ctx context.Context, args, env []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, os.Interrupt, syscall.SIGTERM, syscall.SIGHUP)
	defer stop()
	// From the first signal on, the next one is the operating system's again:
	// nobody should need SIGKILL. vxlab down clears what is left then.
	context.AfterFunc(ctx, stop)
	// A reader of our output who goes away (vxlab demo | head) must not end us
	// before the lab is down: this stays in force, and writing only fails.
	ctx, stopPipe := signal.NotifyContext(ctx, syscall.SIGPIPE)
	defer stopPipe()

	err := newApp(env, stdout, stderr).RunContext(ctx, args)
	if err == nil {
		return exitOK
	}
	fmt.Fprintf(stderr, "vxlab: %s\n", oneLine(err.Error()))
	if p, ok := errors.AsType[*lab.ProcessError](err); ok && len(p.Tail) > 1 {
		fmt.Fprintf(stderr, "the last lines of its log:\n  %s\n", strings.Join(p.Tail, "\n  "))
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitError
}

// newApp wires arguments to commands.
func newApp(env []string, stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:            "vxlab",
		Usage:           "a vxtap overlay network on one machine, in network namespaces",
		HideVersion:     true,
		HideHelpCommand: true,
		Writer:          stdout,
		ErrWriter:       stderr,
		Action:          func(c *cli.Context) error { return noCommand(c) },
		Commands: []*cli.Command{
			demoCommand(),
			upCommand(),
			lsCommand(),
			execCommand(env),
			startCommand(),
			downCommand(),
			{Name: "version", Usage: "print the version", Action: printVersion},
			serverCommand(),
		},
		DisableSliceFlagSeparator: true, // a flag for a daemon may have commas
		OnUsageError:              explainUsage,
		ExitErrHandler:            func(*cli.Context, error) {},
	}
	for _, c := range app.Commands {
		c.OnUsageError = explainUsage
		c.HideHelpCommand = true
	}
	return app
}

// noCommand is vxlab alone, or with something that is no command.
func noCommand(c *cli.Context) error {
	if !c.Args().Present() || c.Args().First() == "help" {
		return cli.ShowAppHelp(c)
	}
	var names []string
	for _, x := range c.App.VisibleCommands() {
		names = append(names, x.Name)
	}
	return usagef("unknown command %q: there are %s", c.Args().First(), strings.Join(names, ", "))
}

// noArguments refuses what is left over after the flags.
func noArguments(c *cli.Context) error {
	if !c.Args().Present() {
		return nil
	}
	arg, hint := c.Args().First(), ""
	for _, f := range c.Command.Flags {
		if slices.Contains(f.Names(), "name") {
			hint = ", as -name=" + arg
		}
	}
	return usagef("unexpected argument %q: vxlab %s takes flags only%s", arg, c.Command.Name, hint)
}

// explainUsage says what is wrong with a flag. What package flag reports has no
// type of its own, only a text.
func explainUsage(c *cli.Context, err error, _ bool) error {
	if name, ok := strings.CutPrefix(err.Error(), "flag provided but not defined: -"); ok {
		if c.Command.Name == c.App.Name {
			if command, ok := takes(c.App, name); ok {
				return usagef("-%s belongs behind the command, as in vxlab %s -%s=VALUE", name, command, name)
			}
		}
		return usagef("unknown flag -%s: %s -help lists the flags", name, c.Command.HelpName)
	}
	if name, ok := strings.CutPrefix(err.Error(), "flag needs an argument: -"); ok {
		return usagef("-%s needs a value: write -%s=VALUE", name, name)
	}
	if errors.Is(err, flag.ErrHelp) {
		return nil // printed already
	}
	return usageError{err}
}

// takes returns the command that takes a flag, the one that was meant if the
// command line has it.
func takes(app *cli.App, flag string) (command string, ok bool) {
	for _, x := range app.VisibleCommands() {
		for _, f := range x.Flags {
			if slices.Contains(f.Names(), flag) {
				return x.Name, true
			}
		}
	}
	return "", false
}

// needRoot says what an ordinary user must do.
func needRoot(c *cli.Context) error {
	if os.Geteuid() == 0 || runtime.GOOS != "linux" {
		return nil // elsewhere lab says what is missing
	}
	return fmt.Errorf("vxlab %s makes network namespaces, for which it must be root: run it with sudo", c.Command.Name)
}

// nameFlag is -name. Its default is only told here: standing finds it, where a
// lab must be there.
func nameFlag(def string) cli.Flag {
	return &cli.StringFlag{Name: "name", Usage: "`NAME` of the lab", DefaultText: def}
}

// standing returns the name of the lab that is meant: the one that is named,
// else the one called "lab", else the only one that there is. It returns "" if
// there is none at all.
func standing(name string) (string, error) {
	if name != "" {
		if err := lab.CheckName(name); err != nil {
			return "", usageError{err}
		}
		return name, nil
	}
	names, err := lab.List()
	if err != nil {
		return "", err
	}
	for _, n := range names {
		if n == lab.DefaultName || len(names) == 1 {
			return n, nil
		}
	}
	if len(names) > 0 {
		return "", usagef("several labs stand: choose one with -name, of %s", strings.Join(names, ", "))
	}
	return "", nil
}

func printVersion(c *cli.Context) error {
	if err := noArguments(c); err != nil {
		return err
	}
	version := "unknown"
	if info, ok := debug.ReadBuildInfo(); ok {
		version = info.Main.Version
	}
	_, err := fmt.Fprintf(c.App.Writer, "vxlab %s %s/%s %s\n", version, runtime.GOOS, runtime.GOARCH, runtime.Version())
	return err
}

// oneLine makes an error text fit one line of a terminal: it may hold what a
// daemon wrote.
func oneLine(s string) string {
	lines := strings.FieldsFunc(s, func(r rune) bool { return r == '\n' || r == '\r' })
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, strings.Join(lines, "; "))
}
