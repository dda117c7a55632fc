// SPDX-License-Identifier: Apache-2.0

//go:build !windows

package lease

import (
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"
)

var usualEnv = SubnetEnv{Network: pfx("10.5.0.0/16"), Subnet: pfx("10.5.72.0/24"), MTU: 1450}

// -subnet-file=/dev/null replaced the machine's /dev/null by a regular file, and
// a FIFO made the read wait for ever. Not even a link leads there.
func TestSubnetEnvLeavesWhatIsNoFileAlone(t *testing.T) {
	for _, tt := range []struct {
		name, want string
		make       func(path string) error
	}{
		{"a FIFO", "no regular file", func(path string) error { return syscall.Mkfifo(path, 0o600) }},
		{"a directory", "no regular file", func(path string) error { return os.Mkdir(path, 0o700) }},
		{"a link to a device", "no regular file", func(path string) error { return os.Symlink(os.DevNull, path) }},
		{"a link to nowhere", "cannot be followed", func(path string) error { return os.Symlink(path+"-absent", path) }},
		{"a link to itself", "cannot be followed", func(path string) error { return os.Symlink(path, path) }},
	} {
		t.Run(tt.name, func(t *testing.T) {
			dir := t.TempDir()
			path := filepath.Join(dir, "subnet.env")
			if err := tt.make(path); err != nil {
				t.Fatal(err)
			}
			before, err := os.Lstat(path)
			if err != nil {
				t.Fatal(err)
			}
			if err := usualEnv.WriteFile(path); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("write: got %v, want an error that says %q", err, tt.want)
			}
			if err := readInTime(t, path); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("read: got %v, want an error that says %q", err, tt.want)
			}
			after, err := os.Lstat(path)
			if err != nil || !os.SameFile(before, after) {
				t.Errorf("got %v, %v, want what was there", after, err)
			}
			if left, err := os.ReadDir(dir); err != nil || len(left) != 1 {
				t.Errorf("got %v, %v, want nothing beside it", left, err)
			}
		})
	}
}

// readInTime returns ReadSubnetEnv's error, and fails if it hangs.
func readInTime(t *testing.T, path string) error {
	t.Helper()
	out := make(chan error, 1)
	go func() {
		_, err := ReadSubnetEnv(path)
		out <- err
	}()
	select {
	case err := <-out:
		return err
	case <-time.After(5 * time.Second):
		t.Fatal("the read hangs")
		return nil
	}
}

func TestSubnetEnvFollowsALinkToAFile(t *testing.T) {
	dir := t.TempDir()
	link, file := filepath.Join(dir, "subnet.env"), filepath.Join(dir, "real", "subnet.env")
	if err := os.Mkdir(filepath.Dir(file), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(file, nil, 0o644); err != nil {
		t.Fatal(err)
	}
	if err := os.Symlink(filepath.Join("real", "subnet.env"), link); err != nil {
		t.Fatal(err)
	}
	if err := usualEnv.WriteFile(link); err != nil {
		t.Fatal(err)
	}
	if fi, err := os.Lstat(link); err != nil || fi.Mode()&os.ModeSymlink == 0 {
		t.Errorf("got %v, %v, want the link", fi, err)
	}
	if b, err := os.ReadFile(file); err != nil || string(b) != goldenEnv {
		t.Errorf("got %q, %v in the file, want %q", b, err, goldenEnv)
	}
	if e, err := ReadSubnetEnv(link); err != nil || e != usualEnv {
		t.Errorf("got %+v, %v, want %+v", e, err, usualEnv)
	}
}
