// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"runtime"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Namespace is an open network namespace. As long as it is open the namespace
// lives, even when its name is deleted.
type Namespace struct {
	name string
	file *os.File
}

// Create makes a new namespace with the loopback device up, gives it a name
// and opens it; the caller closes it, and deletes it by name. An existing name
// is an error that matches fs.ErrExist.
func Create(name string) (*Namespace, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	if err := shareDir(); err != nil {
		return nil, fmt.Errorf("prepare %s: %w", Dir, err)
	}
	file, err := os.OpenFile(path(name), os.O_RDONLY|os.O_CREATE|os.O_EXCL, 0o444)
	if err != nil {
		return nil, fmt.Errorf("create network namespace %s: %w", name, err)
	}
	file.Close()
	n, err := fill(name)
	if err != nil {
		// Nothing else can have used the name since: O_EXCL made it ours.
		return nil, errors.Join(fmt.Errorf("create network namespace %s: %w", name, err), Delete(name))
	}
	return n, nil
}

// fill mounts a new namespace on the file that name has already.
func fill(name string) (*Namespace, error) {
	if err := onThread(func() error {
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			return fmt.Errorf("unshare: %w", err)
		}
		if err := unix.Mount("/proc/thread-self/ns/net", path(name), "bind", unix.MS_BIND, ""); err != nil {
			return fmt.Errorf("mount: %w", err)
		}
		return nil
	}); err != nil {
		return nil, err
	}
	n, err := Open(name)
	if err != nil {
		return nil, err
	}
	if err := n.SetUp("lo"); err != nil {
		n.Close()
		return nil, err
	}
	return n, nil
}

// shareDir makes Dir a shared mount, as "ip netns add" does: without it a
// process in a mount namespace of its own keeps its copy of our mounts, and a
// namespace deleted here lives on there.
func shareDir() error {
	if err := os.MkdirAll(Dir, 0o755); err != nil {
		return err
	}
	err := unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, "")
	if !errors.Is(err, unix.EINVAL) {
		return err
	}
	// Not a mount point yet: only those can be shared.
	if err := unix.Mount(Dir, Dir, "none", unix.MS_BIND|unix.MS_REC, ""); err != nil {
		return err
	}
	return unix.Mount("", Dir, "none", unix.MS_SHARED|unix.MS_REC, "")
}

// Open opens the namespace name; the caller closes it. A name that is not
// there is an error that matches fs.ErrNotExist.
func Open(name string) (*Namespace, error) {
	if err := checkName(name); err != nil {
		return nil, err
	}
	file, err := os.Open(path(name))
	if err != nil {
		return nil, fmt.Errorf("open network namespace %s: %w", name, err)
	}
	n := &Namespace{name: name, file: file}
	var st unix.Statfs_t
	err = n.withFD(func(fd int) error { return unix.Fstatfs(fd, &st) })
	if err != nil || st.Type != unix.NSFS_MAGIC {
		file.Close()
		return nil, fmt.Errorf("open network namespace %s: nothing is mounted on %s: %w", name, path(name), fs.ErrInvalid)
	}
	return n, nil
}

// Delete takes the name away. The namespace itself goes with its last process,
// socket and open Namespace; whoever wants it gone at once ends those first.
// A name that is not there is an error that matches fs.ErrNotExist.
func Delete(name string) error {
	if err := checkName(name); err != nil {
		return err
	}
	// EINVAL: nothing is mounted on the file, which a crash between the two
	// steps of Create leaves, or a reboot where /run is on a disk.
	err := unix.Unmount(path(name), unix.MNT_DETACH)
	if err != nil && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("delete network namespace %s: %w", name, err)
	}
	if err := os.Remove(path(name)); err != nil {
		return fmt.Errorf("delete network namespace %s: %w", name, err)
	}
	return nil
}

// Name returns the name under which n was opened.
func (n *Namespace) Name() string { return n.name }

// Close gives up the namespace; sockets that were opened in it live on. Calls
// that are under way finish, later ones return an error.
func (n *Namespace) Close() error { return n.file.Close() }

// Do calls f on a thread that is in the namespace, and returns f's error.
// Sockets and netlink handles that f opens stay in the namespace afterwards;
// goroutines that f starts are not in it. f runs on a goroutine of its own:
// it must not call testing.T.Fatal and its like.
func (n *Namespace) Do(f func() error) error {
	return onThread(func() error {
		if err := n.withFD(func(fd int) error { return netns.Set(netns.NsHandle(fd)) }); err != nil {
			return fmt.Errorf("enter network namespace %s: %w", n.name, err)
		}
		return f()
	})
}

// withFD calls f with the namespace's file descriptor, which is good until f
// returns: a Close meanwhile waits, so that the number can never be that of
// another file.
func (n *Namespace) withFD(f func(fd int) error) error {
	raw, err := n.file.SyscallConn()
	if err != nil {
		return err
	}
	var result error
	if err := raw.Control(func(fd uintptr) { result = f(int(fd)) }); err != nil {
		return err
	}
	return result
}

// errGone is what a function that ends its goroutine leaves behind.
var errGone = errors.New("the function ended its goroutine instead of returning")

// onThread calls f on a locked thread whose namespace f may change. The thread
// is put back where it was before Go may use it for anything else; if that
// fails it is never unlocked, and the runtime ends it with the goroutine. It
// is put back rather than always thrown away because it may be the main
// thread, which the runtime parks and never ends: /proc/PID/ns/net of the
// whole process would then show the wrong namespace.
func onThread(f func() error) error {
	done := make(chan error, 1)
	go func() {
		err := errGone
		runtime.LockOSThread()
		home, homeErr := netns.Get()
		defer func() {
			if homeErr == nil {
				if netns.Set(home) == nil {
					runtime.UnlockOSThread()
				}
				home.Close()
			}
			done <- err
		}()
		if homeErr != nil {
			err = fmt.Errorf("find own network namespace: %w", homeErr)
			return
		}
		err = f()
	}()
	return <-done
}
