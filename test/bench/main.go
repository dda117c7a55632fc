// SPDX-License-Identifier: Apache-2.0

// Command bench measures vxtap beside kernel VXLAN and others: the same
// topology, the same machine, the same minutes. Rounds are interleaved, since a
// machine's speed drifts, and what counts is the ratio of the medians.
// docs/performance.md says how it is measured and what the columns mean.
//
//	go run ./test/bench [flags]; -list shows what can be chosen, -h the flags
//
// It needs root, iperf3 and sockperf.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"
	"os/signal"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string, stdout, progress io.Writer) error {
	s, err := parse(args, progress)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	if s.list {
		list(stdout, s)
		return nil
	}
	b, err := setUp(ctx, s, progress)
	if err != nil {
		return err
	}
	m := &measurement{settings: s, contestants: b.contestants, progress: progress}
	failed := m.measure(ctx)
	if err := errors.Join(ctx.Err(), b.takeDown()); err != nil {
		return errors.Join(err, failed)
	}
	r := results{settings: s, rows: m.rows, leftOut: b.leftOut}
	for _, c := range b.contestants {
		r.names = append(r.names, c.name)
	}
	r.writeTable(stdout)
	return errors.Join(failed, r.writeFiles())
}
