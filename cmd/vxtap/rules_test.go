// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"log/slog"
	"strings"
	"testing"

	"vxtap/tunnel/rules"
)

func TestMasqExclude(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ in, want, wrong string }{
		{in: "10.0.0.0/8", want: "10.0.0.0/8"},
		{in: "10.9.9.9/8", wrong: "write 10.0.0.0/8"},
		{in: "192.0.2.7", want: "192.0.2.7/32"},
		{in: "0.0.0.0/0", wrong: "everywhere"},
		{in: "::/0", wrong: "everywhere"},
		{in: "fd00::/8", want: "fd00::/8"},
		{in: "fd00::1/8", wrong: "write fd00::/8"},
		{in: "fd00::1", want: "fd00::1/128"},
		{in: "fe80::1%eth0", wrong: "no network"},
		{in: "::ffff:10.0.0.1", wrong: "no network"},
		{in: "::ffff:10.0.0.0/104", wrong: "no network"},
		{in: "ten", wrong: "no network"},
		{in: "10.0.0.0/33", wrong: "no network"},
	} {
		got, err := parseNetwork(tt.in)
		if tt.wrong != "" {
			if err == nil || !strings.Contains(err.Error(), tt.wrong) {
				t.Errorf("%s: got %v and error %v, want %q", tt.in, got, err, tt.wrong)
			}
			continue
		}
		if err != nil || got.String() != tt.want {
			t.Errorf("%s: got %v and error %v, want %s", tt.in, got, err, tt.want)
		}
	}
}

// A line that says new="" reads as if something were missing.
func TestRulesAreSetNamesOnlyWhatIsNew(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		name    string
		changed []string
		want    string
	}{
		{"nothing is new", nil, "level=INFO msg=\"rules are set\" kind=nftables reason=why masquerade=true forward=false\n"},
		{"two are", []string{"the table", "the chain"}, "level=INFO msg=\"rules are set\" kind=nftables reason=why masquerade=true forward=false new=\"the table, the chain\"\n"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			log := slog.New(slog.NewTextHandler(&b, &slog.HandlerOptions{ReplaceAttr: func(_ []string, a slog.Attr) slog.Attr {
				if a.Key == slog.TimeKey {
					return slog.Attr{}
				}
				return a
			}}))
			sayRulesAreSet(log, rules.Plan{Kind: "nftables", Masquerade: true}, "why", tt.changed)
			if b.String() != tt.want {
				t.Errorf("got  %swant %s", &b, tt.want)
			}
		})
	}
}
