// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"sync"
	"time"

	"github.com/urfave/cli/v2"

	"vxtap/cmd/vxlab/lab"
	"vxtap/cmd/vxlab/traffic"
)

// demoName is the demo's lab if -name says nothing else.
const demoName = "demo"

// downWait bounds the clearing up after the demo.
const downWait = 30 * time.Second

func demoCommand() *cli.Command {
	return &cli.Command{
		Name:  "demo",
		Usage: "put up a lab, carry traffic between all its containers, show it, take all down",
		Flags: append(buildFlags(demoName),
			&cli.Int64Flag{Name: "size", Value: 100, Usage: "send `MB` each way between two containers"},
			&cli.BoolFlag{Name: "keep", Usage: "leave the lab standing"},
		),
		Action: func(c *cli.Context) error {
			o, err := buildOptions(c, demoName, c.App.Writer)
			switch size := c.Int64("size"); {
			case err != nil:
				return err
			case o.Hosts < 2:
				return usagef("-n: the demo needs two hosts to carry traffic between")
			case size < 1 || size > 1e6:
				return usagef("-size: %d MB is not between 1 and 1000000", size)
			}
			if err := needRoot(c); err != nil {
				return err
			}
			o.Owned = true
			d := demo{out: c.App.Writer, colours: coloursFor(c.App.Writer), size: c.Int64("size") * 1e6, keep: c.Bool("keep"), begun: time.Now()}
			return d.run(c.Context, o)
		},
	}
}

// demo is one run of the demo.
type demo struct {
	out     io.Writer
	colours colours
	size    int64 // bytes each way
	keep    bool
	begun   time.Time
}

// say writes one line of progress, like those of package lab.
func (d *demo) say(format string, args ...any) {
	fmt.Fprintf(d.out, "[%5.1fs] %s\n", time.Since(d.begun).Seconds(), fmt.Sprintf(format, args...))
}

// run puts the lab up, measures, and takes it down again whatever happens. A
// daemon or etcd server that dies meanwhile ends the demo at once.
func (d *demo) run(ctx context.Context, o lab.Options) error {
	l, err := lab.Up(ctx, o)
	if err != nil {
		return explainUp(err)
	}
	watched, cancel := context.WithCancelCause(ctx)
	var watch sync.WaitGroup
	watch.Go(func() {
		if err := l.Watch(watched); err != nil {
			cancel(err)
		}
	})
	err = d.carry(watched, l)
	if watched.Err() != nil {
		err = context.Cause(watched) // the reason, and not what it led to
		d.say("%s", d.colours.bad(oneLine(err.Error())))
	}
	err = errors.Join(err, d.finish(ctx, l))
	cancel(nil)
	watch.Wait()
	if err == nil {
		d.say("%s", d.colours.good("all is well"))
	}
	return err
}

// carry sends the traffic and shows the table.
func (d *demo) carry(ctx context.Context, l *lab.Lab) error {
	m, err := newMeasurement(l)
	if err != nil {
		return err
	}
	defer m.close()
	d.say("pinging %d pairs of containers", len(m.pairs))
	if err := m.ping(ctx); err != nil {
		return err
	}
	failed := m.failed()
	if failed == nil {
		d.say("every container answers every other, median %s", showTrip(traffic.Median(append([]time.Duration(nil), m.trips...))))
		failed = d.transfers(ctx, m)
	}
	if ctx.Err() != nil {
		return context.Cause(ctx)
	}
	fmt.Fprintf(d.out, "\n%s\n\n", demoTable(m.hosts, m, d.colours))
	return failed
}

// transfers sends the bulk data, each way between the first two containers.
func (d *demo) transfers(ctx context.Context, m *measurement) error {
	for _, p := range []pair{{0, 1}, {1, 0}} {
		d.say("%s: sending %d MB over TCP", p, d.size/1e6)
		if err := m.transfer(ctx, p, d.size); err != nil {
			return err
		}
		t := m.transfers[p]
		d.say("%s: %s, SHA-256 %x… on both ends", p, showRate(t.BitsPerSecond()), t.Sent[:6])
	}
	return nil
}

// finish takes the lab down, or makes it one that stays. Whoever interrupts the
// demo wants it gone in either case.
func (d *demo) finish(ctx context.Context, l *lab.Lab) error {
	if d.keep && ctx.Err() == nil {
		if err := l.Keep(ctx); err != nil {
			return err
		}
		d.say("lab %s stays: look into it with vxlab exec -name %s h1 -- vxtap status, take it down with vxlab down -name %s", l.Name(), l.Name(), l.Name())
		return nil
	}
	down, cancel := context.WithTimeout(context.WithoutCancel(ctx), downWait)
	defer cancel()
	if err := l.Down(down); err != nil {
		return fmt.Errorf("%w: vxlab down -name %s tries again", err, l.Name())
	}
	d.say("everything is taken down again")
	return nil
}
