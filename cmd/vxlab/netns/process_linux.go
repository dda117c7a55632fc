// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strconv"
	"syscall"
	"time"

	"github.com/vishvananda/netns"
	"golang.org/x/sys/unix"
)

// Start starts cmd in the namespace, as the leader of a session of its own: a
// Ctrl-C on our terminal does not reach it, and it outlives us. The caller
// waits for it as for any exec.Cmd.
//
// SysProcAttr.Pdeathsig is refused. The kernel sends that signal when the
// thread that forked ends, and which thread that is, and how long it lives, is
// up to the Go runtime: the child would die at a time that nobody chose.
func (n *Namespace) Start(cmd *exec.Cmd) error {
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	if cmd.SysProcAttr.Pdeathsig != 0 {
		return fmt.Errorf("start %s in %s: a parent death signal would follow a thread, not the process", cmd.Path, n.name)
	}
	cmd.SysProcAttr.Setsid = true
	if err := n.Do(cmd.Start); err != nil {
		return fmt.Errorf("start in %s: %w", n.name, err)
	}
	return nil
}

// Exec replaces this process by a program inside the namespace, with a mount
// namespace of its own in which /sys shows the namespace's devices, as "ip
// netns exec" does. It returns only if that fails, and the process had better
// end then: one of its threads is lost.
func (n *Namespace) Exec(program string, argv, env []string) error {
	runtime.LockOSThread() // and never unlocked: execve makes this thread the process
	if err := n.withFD(func(fd int) error { return netns.Set(netns.NsHandle(fd)) }); err != nil {
		return fmt.Errorf("enter network namespace %s: %w", n.name, err)
	}
	if err := remountSys(); err != nil {
		return fmt.Errorf("remount /sys for %s: %w", n.name, err)
	}
	return fmt.Errorf("run %s in %s: %w", program, n.name, syscall.Exec(program, argv, env))
}

// remountSys gives the thread a mount namespace whose /sys belongs to the
// thread's network namespace: sysfs shows the devices of the namespace in
// which it was mounted.
func remountSys() error {
	if err := unix.Unshare(unix.CLONE_NEWNS); err != nil {
		return err
	}
	// Slave: mounts made outside still arrive here, ours never go out.
	if err := unix.Mount("", "/", "none", unix.MS_SLAVE|unix.MS_REC, ""); err != nil {
		return err
	}
	var st unix.Statfs_t
	var flags uintptr
	if err := unix.Statfs("/sys", &st); err == nil && st.Flags&unix.ST_RDONLY != 0 {
		flags = unix.MS_RDONLY // a container's /sys stays read-only
	}
	if err := unix.Unmount("/sys", unix.MNT_DETACH); err != nil && !errors.Is(err, unix.EINVAL) {
		return err
	}
	return unix.Mount("netns", "/sys", "sysfs", flags, "")
}

// Processes returns the processes that live in the namespace, this one never.
// Only a process's main thread counts: threads that are here for a moment, as
// in Do, are not.
func (n *Namespace) Processes() ([]int, error) {
	own, err := n.file.Stat()
	if err != nil {
		return nil, fmt.Errorf("list processes in %s: %w", n.name, err)
	}
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes in %s: %w", n.name, err)
	}
	var pids []int
	for _, e := range entries {
		pid, err := strconv.Atoi(e.Name())
		if err == nil && pid != os.Getpid() && livesIn(pid, own) {
			pids = append(pids, pid)
		}
	}
	return pids, nil
}

// livesIn reports whether pid's network namespace is the one of info. Every
// error means no: the process has ended meanwhile, or is a zombie.
func livesIn(pid int, info os.FileInfo) bool {
	st, err := os.Stat(filepath.Join("/proc", strconv.Itoa(pid), "ns/net"))
	return err == nil && os.SameFile(st, info)
}

// How KillProcesses looks whether they are gone.
const (
	killPoll  = 10 * time.Millisecond
	killGrace = 3 * time.Second // after SIGTERM, before SIGKILL
)

// KillProcesses ends every process that lives in the namespace, with SIGTERM
// and after three seconds with SIGKILL, and returns when none is left or ctx
// ends. Processes that start meanwhile are ended too. It returns how many it
// ended.
func (n *Namespace) KillProcesses(ctx context.Context) (int, error) {
	own, err := n.file.Stat()
	if err != nil {
		return 0, fmt.Errorf("kill processes in %s: %w", n.name, err)
	}
	kill := time.Now().Add(killGrace)
	asked := map[int]bool{}
	tick := time.NewTicker(killPoll)
	defer tick.Stop()
	for {
		pids, err := n.Processes()
		if err != nil || len(pids) == 0 {
			return len(asked), err
		}
		for _, pid := range pids {
			if time.Now().After(kill) {
				signal(pid, own, syscall.SIGKILL)
			} else if !asked[pid] {
				signal(pid, own, syscall.SIGTERM)
			}
			asked[pid] = true
		}
		select {
		case <-ctx.Done():
			return len(asked), fmt.Errorf("kill processes in %s: %d left: %w", n.name, len(pids), ctx.Err())
		case <-tick.C:
		}
	}
}

// signal sends sig to pid if it lives in the namespace of info still. The
// process is held by a pidfd (os.FindProcess, Linux 5.4) before it is looked
// at, so that the signal never goes to a newcomer with the same number.
func signal(pid int, info os.FileInfo, sig syscall.Signal) {
	p, err := os.FindProcess(pid)
	if err != nil {
		return
	}
	defer func() { _ = p.Release() }() // it cannot fail for a process that was found
	if livesIn(pid, info) {
		_ = p.Signal(sig) // it may just have ended: the next look tells
	}
}
