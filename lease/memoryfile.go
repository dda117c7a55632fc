// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
)

// MemoryName returns the name of the file for the host at publicIP, which is of
// this host and this network alone: several daemons may share a directory, in
// namespaces of one machine, or in those of machines that were copied.
func (r *Registry) MemoryName(publicIP netip.Addr) string {
	sum := sha256.Sum256([]byte(r.path("")))
	return publicIP.String() + "-" + hex.EncodeToString(sum[:6]) + ".json"
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
