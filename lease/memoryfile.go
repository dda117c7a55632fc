// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"
)

// MemoryName returns the name of the file for the host at publicIP, which is of
// this host and this network alone: several daemons may share a directory, in
// namespaces of one machine, or in those of machines that were copied.
func (r *Registry) MemoryName(publicIP netip.Addr) string {
	return publicIP.String() + r.memorySuffix()
}

func (r *Registry) memorySuffix() string {
	sum := sha256.Sum256([]byte(r.path("")))
	return "-" + hex.EncodeToString(sum[:6]) + ".json"
}

// maxFormer is how many files FormerMemory reads: those that changed last.
const maxFormer = 16

// FormerMemory returns, of the files in dir, the last that this machine, host,
// wrote about this network under another address than publicIP, and its path;
// false if there is none. What it says of the machine's own lease is to be asked
// for with (Request.Before); to forward by it is too old, since peers do not know
// the address.
func (r *Registry) FormerMemory(dir, host string, publicIP netip.Addr) (m Memory, path string, ok bool) {
	if host == "" {
		return Memory{}, "", false
	}
	for _, name := range r.otherMemories(dir, publicIP) {
		other, err := ReadMemory(filepath.Join(dir, name))
		switch {
		case err != nil, other.Host != host, other.Prefix != r.path(""), r.MemoryName(other.Own.Attrs.PublicIP) != name:
		case !ok || other.At.After(m.At):
			m, path, ok = other, filepath.Join(dir, name), true
		}
	}
	return m, path, ok
}

// otherMemories returns the names of the files about this network under other
// addresses, the one that changed last first.
func (r *Registry) otherMemories(dir string, publicIP netip.Addr) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	changed := make(map[string]time.Time)
	for _, e := range entries {
		ip, is := strings.CutSuffix(e.Name(), r.memorySuffix())
		if a, err := netip.ParseAddr(ip); !is || err != nil || a == publicIP || !e.Type().IsRegular() {
			continue
		}
		if fi, err := e.Info(); err == nil {
			changed[e.Name()] = fi.ModTime()
		}
	}
	names := slices.SortedFunc(maps.Keys(changed), func(a, b string) int { return changed[b].Compare(changed[a]) })
	return names[:min(len(names), maxFormer)]
}

// ReadMemory reads the file at path. An error that matches fs.ErrNotExist says
// that there is none.
func ReadMemory(path string) (Memory, error) {
	b, err := readRegular(path, maxMemory)
	if err != nil {
		return Memory{}, fmt.Errorf("read what was last known: %w", err)
	}
	m, err := ParseMemory(b)
	if err != nil {
		return Memory{}, fmt.Errorf("read what was last known: %s: %w", path, err)
	}
	return m, nil
}

// WriteFile writes the file at path, mode 0600, and makes its directory if it is
// not there. Whoever reads it, after a crash or a loss of power at any moment
// too, finds the whole of this file or the whole of the one before.
func (m Memory) WriteFile(path string) error {
	if err := m.writeFile(path); err != nil {
		return fmt.Errorf("write what is known: %w", err)
	}
	return nil
}

func (m Memory) writeFile(path string) error {
	b, err := m.encode()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	sweep(path)
	return replaceFile(path, b, 0o600)
}

// sweep removes what writers of path left behind that were killed: each has a
// name of its own, and a daemon that keeps crashing would fill the disk.
func sweep(path string) {
	dir, name := filepath.Split(path)
	entries, err := os.ReadDir(filepath.Clean(dir))
	if err != nil {
		return
	}
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), "."+name) && e.Type().IsRegular() {
			_ = os.Remove(filepath.Join(dir, e.Name())) // at worst it stays
		}
	}
}
