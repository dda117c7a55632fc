// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"time"

	sd "github.com/coreos/go-systemd/v22/daemon"
)

// lineEvery is how often the line for systemctl status is made anew.
const lineEvery = time.Second

// tellSystemd keeps systemd informed until ctx ends, where it asked to be. It
// tells neither that the daemon is ready nor that it stops: those have their
// places in the order of things.
func (d *daemon) tellSystemd(ctx context.Context) {
	if os.Getenv("NOTIFY_SOCKET") == "" {
		return
	}
	limit, err := sd.SdWatchdogEnabled(false)
	if err != nil {
		d.log.Warn("systemd's watchdog is not fed", "error", err)
	}
	s := &supervised{limit: limit, alive: d.alive, line: d.line, send: d.notify, log: d.log}
	s.run(ctx)
}

// supervised is a daemon that somebody restarts when it hangs.
type supervised struct {
	limit time.Duration // WatchdogSec, how long it may be silent; 0: no watchdog
	alive func() error  // nil: all that has to turn does
	line  func() string // what it does, in a few words
	send  func(string)  // to sd_notify(3)
	log   *slog.Logger
}

// run feeds the watchdog with what alive says, and with nothing else: four times
// within the limit, since a lane answers at the next call, and one late answer
// must not be the end.
func (s *supervised) run(ctx context.Context) {
	lines := time.NewTicker(lineEvery)
	defer lines.Stop()
	var feeds <-chan time.Time
	if s.limit > 0 {
		t := time.NewTicker(max(s.limit/4, time.Millisecond))
		defer t.Stop()
		feeds = t.C
	}
	var said string
	var hangs error
	for {
		line := s.line()
		if hangs != nil {
			line = oneLine("hangs: " + hangs.Error())
		}
		if line != said {
			said = line
			s.send("STATUS=" + line)
		}
		select {
		case <-ctx.Done():
			return
		case <-lines.C:
		case <-feeds:
			hangs = s.feed(hangs)
		}
	}
}

// feed returns why it did not feed the watchdog; before is what it said last.
func (s *supervised) feed(before error) error {
	err := s.alive()
	switch {
	case err == nil:
		s.send(sd.SdNotifyWatchdog)
	case before == nil:
		s.log.Error("something hangs: systemd will restart vxtap unless that ends", "error", err, "within", s.limit)
	}
	return err
}

// alive goes through what has to turn: the lanes, the loops that follow the
// leases, and the locks on the way there.
func (d *daemon) alive() error {
	err := d.registry.Alive()
	d.withSegment(func(s *segment) {
		if s == nil {
			return
		}
		for _, one := range s.sides {
			err = errors.Join(err, one.sw.Alive())
		}
	})
	return err
}

// line is what the daemon does, for systemctl status.
func (d *daemon) line() string {
	state := d.state()
	line := string(state)
	d.withSegment(func(s *segment) {
		if s != nil && state == phaseReady {
			line = fmt.Sprintf("forwarding for %s, peers: %d", s.own.Load().Subnet, len(s.view.Load().Peers))
			if s.ipv6 != nil {
				line += fmt.Sprintf("; for %s, peers: %d", s.ipv6.subnet(), len(s.view.Load().IPv6Peers))
			}
		}
	})
	if state == phaseReady {
		line += d.note()
	}
	if r := d.registry.Status(); !r.Connected && r.LastError != "" {
		line += "; etcd: " + r.LastError
	}
	return oneLine(line)
}
