// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"syscall"
	"time"

	"vxtap/tunnel/host"
)

const (
	// freedWithin is how long after our start the daemon that was killed before it
	// may still have its ports, its device and its socket: kill returns before the
	// kernel has closed them.
	freedWithin = 2 * time.Second
	freedEvery  = 50 * time.Millisecond
)

// onceFree returns what f returns, and calls it again while that is that somebody
// has what a former daemon of this host may have had, until freedWithin is over. A
// daemon that was started longer ago than that waits for nobody.
func (d *daemon) onceFree(ctx context.Context, f func() error) error {
	for said := false; ; said = true {
		err := f()
		if !isTaken(err) || time.Since(d.started) > freedWithin {
			return err
		}
		if !said {
			d.log.Warn("what the overlay needs is taken, waiting for it to be let go of", "error", err, "until", d.started.Add(freedWithin).Format(time.RFC3339Nano))
		}
		if pause(ctx, freedEvery) != nil {
			return err
		}
	}
}

// isTaken reports whether err may pass when a process has ended.
func isTaken(err error) bool {
	for _, passes := range []error{host.ErrTaken, syscall.EADDRINUSE, syscall.EBUSY, errSilent} {
		if errors.Is(err, passes) {
			return true
		}
	}
	return false
}
