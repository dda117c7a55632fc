// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"log/slog"
	"runtime"
	"runtime/debug"
)

// newLogger returns the one logger of the process.
func newLogger(w io.Writer, s settings) *slog.Logger {
	o := &slog.HandlerOptions{Level: slog.LevelInfo}
	if s.debug {
		o.Level = slog.LevelDebug
	}
	if s.logJSON {
		return slog.New(slog.NewJSONHandler(w, o))
	}
	return slog.New(slog.NewTextHandler(w, o))
}

// version is what the build recorded of its source: a tag, or commit and date.
func version() string {
	if b, ok := debug.ReadBuildInfo(); ok && b.Main.Version != "" {
		return b.Main.Version
	}
	return "(devel)"
}

func versionLine() string {
	return fmt.Sprintf("vxtap %s %s/%s %s", version(), runtime.GOOS, runtime.GOARCH, runtime.Version())
}
