// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"vxtap/cmd/vxlab/netns"
)

func TestDownWithoutRecords(t *testing.T) {
	o := options(t, "norec", 2)
	o.Args = []string{"-misbehave=deaf"} // SIGTERM is not enough
	l := up(t, o)
	hosts := l.Hosts()
	l.expectDeaths()
	if err := os.RemoveAll(StateDir(o.Name)); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(o.Name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load: got %v, want fs.ErrNotExist", err)
	}
	if _, err := Up(t.Context(), o); !errors.Is(err, ErrExists) {
		t.Errorf("Up over the rests: got %v, want ErrExists", err)
	}
	found, err := Down(t.Context(), o.Name)
	if !found || err != nil {
		t.Errorf("Down: got %v, %v", found, err)
	}
	left(t, o.Name)
	for _, h := range hosts {
		if (identity{PID: h.PID}).alive() {
			t.Errorf("the daemon of %s lives", h.Node)
		}
	}
	if found, err := Down(t.Context(), o.Name); found || err != nil {
		t.Errorf("second Down: got %v, %v, want that there was nothing", found, err)
	}
}

func TestDownWithBrokenRecordsAndAHalfBuiltLab(t *testing.T) {
	o := options(t, "half", 1)
	for _, node := range []string{"net", "h1", "c7"} {
		ns, err := netns.Create(NamespaceName(o.Name, node))
		if err != nil {
			t.Fatal(err)
		}
		ns.Close()
	}
	// A crash between making a file and mounting the namespace on it.
	if err := syscall.Unmount(filepath.Join(netns.Dir, NamespaceName(o.Name, "c7")), syscall.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	neighbour, err := netns.Create("x" + NamespaceName(o.Name, "h1"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		neighbour.Close()
		if err := netns.Delete(neighbour.Name()); err != nil {
			t.Error(err)
		}
	}()
	if err := os.MkdirAll(StateDir(o.Name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(StateDir(o.Name), "lab.json"), []byte(`{"etcd":{"pid":-1}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Up(t.Context(), o); !errors.Is(err, ErrExists) {
		t.Errorf("Up: got %v, want ErrExists", err)
	}
	if found, err := Down(t.Context(), o.Name); !found || err != nil {
		t.Errorf("Down: got %v, %v", found, err)
	}
	left(t, o.Name)
	if !netns.Exists(neighbour.Name()) {
		t.Error("a namespace that is not ours is gone")
	}
}

func TestDownFindsADaemonWhoseNamespaceHasNoName(t *testing.T) {
	l := up(t, options(t, "noname", 1))
	pid := l.Hosts()[0].PID
	if err := netns.Delete(NamespaceName(l.Name(), "h1")); err != nil {
		t.Fatal(err)
	}
	if err := l.Down(t.Context()); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the daemon lives: %v", err)
	}
}

func TestALabWhoseOwnerIsGoneIsReplaced(t *testing.T) {
	l := up(t, options(t, "owner", 1))
	l.mu.Lock()
	l.state.Owner.Start-- // somebody else, who has ended
	err := l.state.write()
	l.expectDeaths()
	l.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	next := up(t, l.Options())
	if err := next.Keep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := Up(t.Context(), l.Options()); !errors.Is(err, ErrExists) {
		t.Errorf("Up over a lab that is kept: got %v, want ErrExists", err)
	}
}
