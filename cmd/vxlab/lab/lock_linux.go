// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"syscall"
	"time"
)

// lockWait is how long a command waits for another that changes the same lab.
const lockWait = time.Minute

// lock takes the lab for changes, as long as the returned file is open: two
// commands at once would leave what neither knows of. The lock is on the lab's
// directory, and the kernel takes it back from a command that crashes. With
// create the directory is made; without, one that is missing is an error that
// matches fs.ErrNotExist.
func lock(ctx context.Context, name string, create bool) (*os.File, error) {
	ctx, cancel := context.WithTimeoutCause(ctx, lockWait, errors.New("another vxlab command is changing it"))
	defer cancel()
	var locked *os.File
	err := wait(ctx, func() (ok bool, err error) {
		if create {
			if err := os.MkdirAll(StateDir(name), 0o755); err != nil {
				return false, err
			}
		}
		locked, err = tryLock(StateDir(name))
		if create && errors.Is(err, fs.ErrNotExist) {
			err = nil // somebody has just taken it down
		}
		return locked != nil, err
	})
	if err != nil {
		return nil, fmt.Errorf("lock lab %s: %w", name, err)
	}
	return locked, nil
}

// tryLock returns nil without an error if somebody else has the lock, or has
// deleted the directory in the meantime: then the lock is on nothing.
func tryLock(dir string) (*os.File, error) {
	f, err := os.Open(dir)
	if err != nil {
		return nil, err
	}
	err = syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB)
	if err != nil {
		f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) || errors.Is(err, syscall.EINTR) {
			return nil, nil
		}
		return nil, err
	}
	ours, err := f.Stat()
	if err == nil {
		var now os.FileInfo
		if now, err = os.Stat(dir); err == nil && os.SameFile(ours, now) {
			return f, nil
		}
	}
	f.Close()
	return nil, err
}
