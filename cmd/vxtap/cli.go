// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"log/slog"
	"os"
	"os/signal"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/urfave/cli/v2"
)

// Exit statuses.
const (
	exitOK    = 0
	exitError = 1
	exitUsage = 2
)

// usageError is a fault of the command line or of the environment, as opposed
// to one of the host, of etcd or of the network.
type usageError struct{ error }

func (e usageError) Unwrap() error { return e.error }

func usagef(format string, args ...any) error {
	return usageError{fmt.Errorf(format, args...)}
}

// signalGrace is how long signals after the first have no effect: service
// managers and shells send two within a millisecond (to the process and to its
// group), and a shutdown that is under way takes less than this.
const signalGrace = 2 * time.Second

// endSignals returns the signals that end the program in good order. SIGHUP is
// one: a terminal that closes would otherwise kill the daemon where it stands,
// with its socket left behind. Under nohup it stays without effect.
func endSignals() []os.Signal {
	all := []os.Signal{os.Interrupt, syscall.SIGTERM}
	if !signal.Ignored(syscall.SIGHUP) {
		all = append(all, syscall.SIGHUP)
	}
	return all
}

// run is the whole program. args[0] is the program's own name; env has
// "NAME=value" entries. It returns the exit status when ctx has ended, a
// signal has come or the command is done, and everything it started is gone.
func run(ctx context.Context, args, env []string, stdout, stderr io.Writer) int {
	ctx, stop := signal.NotifyContext(ctx, endSignals()...)
	defer func() {
		// After a signal the process is about to exit. Were signals given back
		// here, one that comes just now would still take the exit status.
		if ctx.Err() == nil {
			stop()
		}
	}()
	// Some time after the first signal the next one is the operating system's
	// again and ends the process at once: nobody should need SIGKILL.
	defer context.AfterFunc(ctx, func() { time.AfterFunc(signalGrace, stop) })()

	args = splitLetters(args)
	err := newApp(args, env, stdout, stderr).RunContext(ctx, args)
	if err == nil {
		return exitOK
	}
	if last, ok := errors.AsType[lastWordsError](err); ok {
		last.log.Error("vxtap ends", "error", oneLine(err.Error()))
	} else {
		fmt.Fprintf(stderr, "vxtap: %s\n", oneLine(err.Error()))
	}
	if _, ok := errors.AsType[usageError](err); ok {
		return exitUsage
	}
	return exitError
}

// newApp wires arguments to commands. The library's own help, version and
// error output are off: they print pages where one line is wanted.
func newApp(args, env []string, stdout, stderr io.Writer) *cli.App {
	app := &cli.App{
		Name:      "vxtap",
		Flags:     daemonFlags(),
		Writer:    stdout,
		ErrWriter: stderr,
		Action:    func(c *cli.Context) error { return daemonCommand(c, args, env) },
		Commands: []*cli.Command{
			{
				Name:   "status",
				Usage:  "show what the daemon on this host does",
				Flags:  showFlags(),
				Action: func(c *cli.Context) error { return statusCommand(c, env) },
			},
			{
				Name:   "docker-opts",
				Usage:  "write the Docker daemon's options, as mk-docker-opts.sh does",
				Flags:  dockerOptsFlags(),
				Action: func(c *cli.Context) error { return dockerOptsCommand(c, env) },
			},
			configCommand(env),
			leaseCommand(env),
			{
				Name:   "cleanup",
				Usage:  "remove what outlives the daemon: rules, routes, sockets",
				Flags:  cleanupFlags(),
				Action: func(c *cli.Context) error { return cleanupCommand(c, env) },
			},
			{
				Name:  "version",
				Usage: "print the version",
				Action: func(c *cli.Context) error {
					if err := noArguments(c); err != nil {
						return err
					}
					_, err := fmt.Fprintln(stdout, versionLine())
					return err
				},
			},
			{
				Name:  "help",
				Usage: "print this, or the help of the command that is named",
				Action: func(c *cli.Context) error {
					cmd, err := namedCommand(c.App.Commands, c.Args().Slice())
					if err != nil {
						return err
					}
					return printHelp(c.App, cmd)
				},
			},
		},
		OnUsageError: func(c *cli.Context, err error, sub bool) error {
			return lastWords(c, args, env, explainUsage(c, err, sub))
		},
		HideHelp:                  true,
		HideVersion:               true,
		DisableSliceFlagSeparator: true, // a pattern may have commas
		ExitErrHandler:            func(*cli.Context, error) {},
	}
	for _, c := range app.Commands {
		c.OnUsageError = explainUsage
		c.HideHelp = true
	}
	return app
}

func daemonCommand(c *cli.Context, args, env []string) error {
	if err := noArguments(c); err != nil {
		return lastWords(c, args, env, err)
	}
	if c.Bool("version") {
		fmt.Fprintln(c.App.ErrWriter, versionLine())
		return nil
	}
	s, err := readSettings(c, env)
	if err != nil {
		return s.lastWords(c, usageError{err})
	}
	// The log may go to a pipe whose reader ends before we do. Lines are lost
	// then; the tunnel must not be.
	signal.Ignore(syscall.SIGPIPE)
	return s.lastWords(c, runDaemon(c.Context, s, newLogger(c.App.ErrWriter, s)))
}

// lastWordsError is what a daemon ends with whose log is JSON: whoever reads that
// reads all of it.
type lastWordsError struct {
	error
	log *slog.Logger
}

func (e lastWordsError) Unwrap() error { return e.error }

// lastWords returns err in the form that the log has.
func (s settings) lastWords(c *cli.Context, err error) error {
	if err == nil || !s.logJSON {
		return err
	}
	return lastWordsError{err, newLogger(c.App.ErrWriter, s)}
}

// lastWords is settings.lastWords for errors of a command line of which not all can
// be read: by the flag, if that stands before what is wrong, or by the variable. The
// library has no values where it found something wrong.
func lastWords(c *cli.Context, args, env []string, err error) error {
	_, format := fromEnvironment(env, "log-format")
	set := flag.NewFlagSet("", flag.ContinueOnError)
	set.SetOutput(io.Discard)
	for _, f := range daemonFlags() {
		_ = f.Apply(set) // which fails for variables only, and they have none
	}
	if len(args) > 0 {
		_ = set.Parse(args[1:]) // as far as it goes
	}
	set.Visit(func(f *flag.Flag) {
		if f.Name == "log-format" {
			format = f.Value.String()
		}
	})
	return settings{logJSON: format == "json"}.lastWords(c, err)
}

// noArguments refuses what is left over after the flags: a word that is no
// command, or the value of a flag that takes none.
func noArguments(c *cli.Context) error {
	if !c.Args().Present() {
		return nil
	}
	arg := c.Args().First()
	if c.Command.Name != "vxtap" {
		return usagef("unexpected argument %q: vxtap %s takes flags only", arg, c.Command.Name)
	}
	if _, err := strconv.ParseBool(arg); err == nil {
		return usagef("unexpected argument %q: to set a switch, write it with =, as -ip-masq=%s", arg, arg)
	}
	return unknownCommand(c.App.Commands, "", arg)
}

// flagsBefore refuses the daemon's flags before a subcommand, which would
// otherwise be ignored without a word.
func flagsBefore(c *cli.Context) error {
	parent := c.Lineage()[1]
	if names := parent.LocalFlagNames(); len(names) > 0 {
		return usagef("-%s is before the command: write vxtap %s first, then its flags", names[0], c.Command.Name)
	}
	return nil
}

// explainUsage says what is wrong with a flag, in our words. What package flag
// reports has no type of its own, only a text.
func explainUsage(c *cli.Context, err error, _ bool) error {
	if errors.Is(err, flag.ErrHelp) {
		return printHelp(c.App, c.Command)
	}
	msg := err.Error()
	if name, ok := strings.CutPrefix(msg, "flag provided but not defined: -"); ok {
		if near, ok := nearest(name, flagNames(c.Command.Flags)); ok {
			return usagef("unknown flag -%s: did you mean -%s?", name, near)
		}
		return usagef("unknown flag -%s: vxtap -help lists the flags", name)
	}
	if name, ok := strings.CutPrefix(msg, "flag needs an argument: -"); ok {
		return usagef("-%s needs a value: write -%s=VALUE", name, name)
	}
	if rest, ok := strings.CutPrefix(msg, "invalid boolean value "); ok {
		value, name, _ := strings.Cut(strings.TrimSuffix(rest, ": parse error"), " for ")
		return usagef("%s: %s is not true or false", name, value)
	}
	return usageError{err}
}

func flagNames(flags []cli.Flag) []string {
	var all []string
	for _, f := range flags {
		all = append(all, f.Names()[0])
	}
	return all
}

// nearest returns the candidate that s was probably meant to be: the one that
// takes the fewest changes of one letter, if that is few for its length, and
// leaves something of both.
func nearest(s string, candidates []string) (string, bool) {
	best, least := "", 1+len(s)/4
	for _, c := range candidates {
		if d := distance(s, c); d <= least && d < min(len(s), len(c)) && (best == "" || d < distance(s, best)) {
			best, least = c, d
		}
	}
	return best, best != ""
}

// distance is how many letters must be put in, taken out or changed to make a
// into b (Levenshtein).
func distance(a, b string) int {
	row := make([]int, len(b)+1)
	for j := range row {
		row[j] = j
	}
	for i := range len(a) {
		diagonal := row[0]
		row[0] = i + 1
		for j := range len(b) {
			change := diagonal
			if a[i] != b[j] {
				change++
			}
			diagonal = row[j+1]
			row[j+1] = min(change, diagonal+1, row[j]+1)
		}
	}
	return row[len(b)]
}

// oneLine makes s fit one line of a terminal: error texts can hold what
// strangers wrote into etcd.
func oneLine(s string) string {
	s = strings.Join(slices.DeleteFunc(strings.Split(s, "\n"), func(l string) bool { return strings.TrimSpace(l) == "" }), "; ")
	return printable(s)
}

// printable replaces what could move the cursor, or worse.
func printable(s string) string {
	return strings.Map(func(r rune) rune {
		if !strconv.IsPrint(r) {
			return '?'
		}
		return r
	}, s)
}
