// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"log/slog"
	"slices"

	"go.uber.org/zap"
	"go.uber.org/zap/zapcore"
)

// bridge makes the client's logger one that writes to log, at debug whatever
// the client thinks: to it a retry is a warning, and left to itself it writes
// JSON to standard error.
func bridge(log *slog.Logger) *zap.Logger { return zap.New(core{log: log}) }

// core is a zapcore.Core over slog.
type core struct {
	log    *slog.Logger
	fields []zapcore.Field
}

func (c core) Enabled(zapcore.Level) bool {
	return c.log.Enabled(context.Background(), slog.LevelDebug)
}

func (c core) With(fields []zapcore.Field) zapcore.Core {
	return core{c.log, append(slices.Clip(c.fields), fields...)}
}

func (c core) Check(e zapcore.Entry, ce *zapcore.CheckedEntry) *zapcore.CheckedEntry {
	if c.Enabled(e.Level) {
		return ce.AddCore(e, c)
	}
	return ce
}

func (c core) Write(e zapcore.Entry, fields []zapcore.Field) error {
	enc := zapcore.NewMapObjectEncoder()
	for _, f := range append(slices.Clip(c.fields), fields...) {
		f.AddTo(enc)
	}
	attrs := make([]any, 0, 2*len(enc.Fields)+2)
	attrs = append(attrs, "reason", e.Message)
	for k, v := range enc.Fields {
		attrs = append(attrs, k, v)
	}
	c.log.Debug("etcd client", attrs...)
	return nil
}

func (c core) Sync() error { return nil }
