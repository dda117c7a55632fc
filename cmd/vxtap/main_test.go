// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"os"
	"testing"

	"go.uber.org/goleak"
)

// asVxtap in the environment makes the test binary be the program: a daemon
// that lives in a network namespace has to be a process of its own.
const asVxtap = "VXTAP_TEST_BE_VXTAP"

func TestMain(m *testing.M) {
	if os.Getenv(asVxtap) != "" {
		os.Exit(run(context.Background(), os.Args, os.Environ(), os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}
