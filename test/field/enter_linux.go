// SPDX-License-Identifier: Apache-2.0

package field

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"

	"vxtap/cmd/vxlab/netns"
)

// inside is the variable that tells the program that it runs in the field.
const inside = "FIELD_INSIDE"

// Enter runs this program once more, in namespaces of its own, and returns how
// that ended: outside is true, and there is nothing left to do but to exit with
// code. In the second run outside is false.
//
// SIGINT and SIGTERM are passed on. The second run ends with the first, whatever
// ends that.
func Enter() (code int, outside bool, err error) {
	if os.Getenv(inside) != "" {
		return 0, false, prepare()
	}
	// The kernel sends the signal when the thread that forked ends: this one
	// must live as long as the program.
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	cmd := exec.Command("/proc/self/exe", os.Args[1:]...)
	cmd.Args[0] = os.Args[0]
	cmd.Env = append(os.Environ(), inside+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{
		Cloneflags: unix.CLONE_NEWPID | unix.CLONE_NEWNS | unix.CLONE_NEWNET | unix.CLONE_NEWIPC,
		Pdeathsig:  syscall.SIGKILL,
	}
	signals := make(chan os.Signal, 4)
	signal.Notify(signals, os.Interrupt, syscall.SIGTERM)
	defer signal.Stop(signals)
	if err := cmd.Start(); err != nil {
		return 1, true, fmt.Errorf("enter namespaces of its own: %w", err)
	}
	go func() {
		for s := range signals {
			_ = cmd.Process.Signal(s) // it may just have ended: Wait tells
		}
	}()
	err = cmd.Wait()
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		if code = exit.ExitCode(); code < 0 {
			return 1, true, fmt.Errorf("the run in the field: %w", err)
		}
		return code, true, nil
	}
	return 0, true, err
}

// prepare makes the mounts that the namespaces need.
func prepare() error {
	if os.Getpid() != 1 {
		return fmt.Errorf("%s is set, but this is not the first process of a field", inside)
	}
	if err := os.Unsetenv(inside); err != nil {
		return err
	}
	for _, step := range []struct {
		what string
		do   func() error
	}{
		{"keep mounts private", func() error { return unix.Mount("", "/", "none", unix.MS_PRIVATE|unix.MS_REC, "") }},
		{"mount /proc", func() error { return unix.Mount("proc", "/proc", "proc", 0, "") }},
		{"mount /run", func() error { return unix.Mount("tmpfs", "/run", "tmpfs", 0, "mode=755") }},
		{"name the own network", nameOwn},
	} {
		if err := step.do(); err != nil {
			return fmt.Errorf("%s: %w", step.what, err)
		}
	}
	return nil
}

// own is the name of the program's own network namespace.
const own = "field"

// nameOwn gives it that name, so that package netns can open it.
func nameOwn() error {
	if err := os.MkdirAll(netns.Dir, 0o755); err != nil {
		return err
	}
	path := netns.Dir + "/" + own
	if err := os.WriteFile(path, nil, 0o444); err != nil {
		return err
	}
	return unix.Mount("/proc/self/ns/net", path, "none", unix.MS_BIND, "")
}
