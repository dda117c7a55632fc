// SPDX-License-Identifier: Apache-2.0

//go:build !windows

package lease

import (
	"errors"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// memoryWriter in the environment makes of the test a process that writes the
// file that it names for ever.
const memoryWriter = "LEASE_TEST_MEMORY_WRITER"

// Killed at any moment, a writer leaves a whole file, and the next one nothing
// of what it left beside it.
func TestMemoryFileOutlivesKill(t *testing.T) {
	if path := os.Getenv(memoryWriter); path != "" {
		m := usualMemory(t)
		for len(m.All.Leases) < 1000 {
			m.All.Leases = append(m.All.Leases, Lease{
				Key: "subnets/x" + string(rune(0x4e00+len(m.All.Leases))), Attrs: m.Own.Attrs, Grant: 1,
			})
		}
		for {
			if _, err := os.Stdout.WriteString("."); err != nil {
				t.Fatal(err)
			}
			if err := m.WriteFile(path); err != nil {
				t.Fatal(err)
			}
		}
	}
	path := filepath.Join(t.TempDir(), "m.json")
	for round := range 10 {
		cmd := exec.Command(os.Args[0], "-test.run=^TestMemoryFileOutlivesKill$")
		cmd.Env = append(os.Environ(), memoryWriter+"="+path)
		out, err := cmd.StdoutPipe()
		if err != nil {
			t.Fatal(err)
		}
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		// One has been written when the second is begun.
		if _, err := io.ReadFull(out, make([]byte, 2+round)); err != nil {
			t.Fatal(err)
		}
		if err := cmd.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = cmd.Wait() // killed
		if m, err := ReadMemory(path); err != nil || m.Own.Key != usualMemory(t).Own.Key {
			t.Fatalf("round %d: got own %q, %v", round, m.Own.Key, err)
		}
	}
	if err := usualMemory(t).WriteFile(path); err != nil {
		t.Fatal(err)
	}
	if left, err := os.ReadDir(filepath.Dir(path)); err != nil || len(left) != 1 {
		t.Errorf("got %v, %v, want the one file", left, err)
	}
}

func TestReadMemoryOfWhatIsNoFile(t *testing.T) {
	for _, path := range []string{t.TempDir(), "/dev/zero"} {
		if _, err := ReadMemory(path); err == nil {
			t.Errorf("%s is read", path)
		}
	}
	if _, err := ReadMemory(filepath.Join(t.TempDir(), "none")); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
}
