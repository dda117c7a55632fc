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

// netConfig is the network of most tests.
const netConfig = `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}`

func TestMain(m *testing.M) {
	if os.Getenv(asVxtap) != "" {
		os.Exit(run(context.Background(), os.Args, os.Environ(), os.Stdout, os.Stderr))
	}
	goleak.VerifyTestMain(m)
}

// lacking says what is missing. Where tests have to be complete, that is a
// failure.
func lacking(t *testing.T, what string) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatal(what)
	}
	t.Skip(what)
}
