// SPDX-License-Identifier: Apache-2.0

package field

import (
	"context"
	"fmt"
	"io"
	"os"
	"os/signal"
	"slices"
	"syscall"
	"time"
)

// Program is the main function of a program that runs in a field: it calls start
// there, with the program's arguments, and returns the status to exit with. ctx ends
// with SIGINT or SIGTERM. Whoever asks for help only gets it without root.
func Program(name string, start func(ctx context.Context, args []string, stdout, progress io.Writer) error) int {
	if !slices.ContainsFunc(os.Args[1:], isHelp) {
		code, outside, err := Enter()
		if err != nil {
			fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
			return max(code, 1)
		}
		if outside {
			return code
		}
	}
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := start(ctx, os.Args[1:], os.Stdout, os.Stderr); err != nil {
		fmt.Fprintf(os.Stderr, "%s: %v\n", name, err)
		return 1
	}
	return 0
}

func isHelp(arg string) bool { return slices.Contains([]string{"-h", "--h", "-help", "--help"}, arg) }

// Pause waits for d, or returns ctx's error.
func Pause(ctx context.Context, d time.Duration) error {
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return ctx.Err()
	case <-t.C:
		return nil
	}
}
