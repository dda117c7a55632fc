// SPDX-License-Identifier: Apache-2.0

// Command chaos runs twenty real daemons against a real etcd of three members,
// does to all of them what a bad month does, and looks all the time whether what
// must hold does. docs/reliability.md says what that is, and what came out.
//
//	go run ./test/chaos [flags]; -h shows them
//
// In reading order:
//
//	plan.go        the faults of a round, made from the seed
//	history.go     what was in etcd when
//	judge.go       the invariants; invariants.go how they are looked at
//	report.go      figures, for people and for docs/reliability.md
//	run_linux.go   a run; watch_linux.go hears of what happens in etcd,
//	               faults_linux.go and store_linux.go do the faults,
//	               quiet_linux.go waits for what comes after
//
// It needs root, Linux and etcd. What it does stays in namespaces of its own.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io"
	"os"

	"vxtap/test/field"
)

func main() { os.Exit(field.Program("chaos", start)) }

func start(ctx context.Context, args []string, stdout, progress io.Writer) error {
	s, err := parse(args, progress)
	if errors.Is(err, flag.ErrHelp) {
		return nil
	}
	if err != nil {
		return err
	}
	fmt.Fprintf(progress, "seed %d; the same again: %s\n", s.seed, s.again())
	f, err := chaos(ctx, s, progress)
	if err != nil {
		return err
	}
	f.write(stdout)
	if len(f.violations) > 0 {
		return errViolated
	}
	if s.markdown == "" {
		return nil
	}
	return f.insert(s.markdown)
}
