// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"testing/synctest"
)

// A host that does not forward looks well from inside: somebody has to say so.
func TestHostWarnings(t *testing.T) {
	const all, own = "net/ipv4/ip_forward", "net/ipv4/conf/flannel.1/forwarding"
	for _, tt := range []struct {
		name    string
		sysctls map[string]string
		want    string
	}{
		{"a host that forwards", map[string]string{all: "1", own: "1"}, ""},
		{"one that does not", map[string]string{all: "0", own: "0"}, "net.ipv4.ip_forward=0: containers on this host are cut off from the overlay: sysctl -w net.ipv4.ip_forward=1"},
		{"one that does, but for the device", map[string]string{all: "1", own: "0"}, "sysctl -w net/ipv4/conf/flannel.1/forwarding=1"},
		{"one that does not, but for the device", map[string]string{all: "0", own: "1"}, ""},
		{"no device yet", map[string]string{all: "1"}, ""},
		{"no device yet on a host that does not", map[string]string{all: "0"}, "net.ipv4.ip_forward=0"},
		{"another system", nil, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			root := sysctlsIn(t, tt.sysctls)
			got := hostWarnings(root, "flannel.1")
			if got == nil || (len(got) == 0) != (tt.want == "") || !strings.Contains(strings.Join(got, "; "), tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// sysctlsIn returns a directory with the settings.
func sysctlsIn(t *testing.T, sysctls map[string]string) string {
	t.Helper()
	root := t.TempDir()
	for name, value := range sysctls {
		path := filepath.Join(root, name)
		if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
			t.Fatal(err)
		}
		if err := os.WriteFile(path, []byte(value+"\n"), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	return root
}

// One line when it comes, one when it goes, and none between.
func TestWarningsAreLoggedOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), 10*warningsEvery)
		defer cancel()
		looks := 0
		var b bytes.Buffer
		reportWarnings(ctx, slog.New(slog.NewTextHandler(&b, nil)), func() []string {
			if looks++; looks > 2 && looks < 6 {
				return []string{"shut"}
			}
			return nil
		})
		if got := b.String(); strings.Count(got, "\n") != 2 || !strings.Contains(got, `WARN msg="containers are not reached" reason=shut`) ||
			!strings.Contains(got, `INFO msg="no longer in the way" reason=shut`) {
			t.Errorf("got after %d looks:\n%s", looks, got)
		}
	})
}
