// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

// pathStore is a store of usualMemory's prefix that answers nothing.
type pathStore struct{ Store }

func (pathStore) Path(key string) string { return "/coreos.com/network/" + key }

func TestFormerMemory(t *testing.T) {
	r := New(pathStore{}, Options{})
	here := ip("192.0.2.99")
	// put writes what the host at the last byte knew at an hour.
	put := func(t *testing.T, dir, host string, last byte, hour int, spoil func(*Memory)) string {
		t.Helper()
		m := usualMemory(t)
		m.Host, m.At = host, m.At.Add(time.Duration(hour)*time.Hour)
		m.Own.Attrs.PublicIP = netip.AddrFrom4([4]byte{192, 0, 2, last})
		path := filepath.Join(dir, r.MemoryName(m.Own.Attrs.PublicIP))
		if spoil != nil {
			spoil(&m)
		}
		if err := m.WriteFile(path); err != nil {
			t.Fatal(err)
		}
		return path
	}
	for _, tt := range []struct {
		name  string
		host  string
		files func(t *testing.T, dir string)
		want  byte // the last byte of the address; 0: none
	}{
		{"the last of several", "m1", func(t *testing.T, dir string) {
			put(t, dir, "m1", 11, 3, nil)
			put(t, dir, "m1", 12, 5, nil)
			put(t, dir, "m1", 13, 4, nil)
		}, 12},
		{"another machine's", "m1", func(t *testing.T, dir string) { put(t, dir, "m2", 11, 3, nil) }, 0},
		{"one that does not say whose it is", "m1", func(t *testing.T, dir string) { put(t, dir, "", 11, 3, nil) }, 0},
		{"a machine that cannot tell who it is", "", func(t *testing.T, dir string) { put(t, dir, "", 11, 3, nil) }, 0},
		{"under the present address", "m1", func(t *testing.T, dir string) { put(t, dir, "m1", 99, 3, nil) }, 0},
		{"of another network", "m1", func(t *testing.T, dir string) {
			put(t, dir, "m1", 11, 3, func(m *Memory) { m.Prefix = "/other/" })
		}, 0},
		{"under a name that is not its own", "m1", func(t *testing.T, dir string) {
			if err := os.Rename(put(t, dir, "m1", 11, 3, nil), filepath.Join(dir, r.MemoryName(ip("192.0.2.12")))); err != nil {
				t.Fatal(err)
			}
		}, 0},
		{"broken ones beside it", "m1", func(t *testing.T, dir string) {
			put(t, dir, "m1", 11, 3, nil)
			for _, name := range []string{r.MemoryName(ip("192.0.2.12")), "nonsense" + r.memorySuffix()} {
				if err := os.WriteFile(filepath.Join(dir, name), []byte("{"), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			if err := os.Symlink("/dev/zero", filepath.Join(dir, r.MemoryName(ip("192.0.2.13")))); err != nil {
				t.Fatal(err)
			}
		}, 11},
		{"no directory", "m1", func(t *testing.T, dir string) {
			if err := os.Remove(dir); err != nil {
				t.Fatal(err)
			}
		}, 0},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			tt.files(t, dir)
			m, path, ok := r.FormerMemory(dir, tt.host, here)
			if !ok {
				if tt.want != 0 {
					t.Error("got none")
				}
				return
			}
			if got := m.Own.Attrs.PublicIP.As4()[3]; got != tt.want || !strings.Contains(path, m.Own.Attrs.PublicIP.String()) {
				t.Errorf("got %v from %s, want one of %d", m.Own.Attrs.PublicIP, path, tt.want)
			}
		})
	}
}
