// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"strconv"
	"strings"
	"testing"
	"time"

	"golang.org/x/sys/unix"
)

// A lane's thread alone is stopped, as if it hung in a driver: every other part
// of the daemon is well, and systemd must hear no more of it.
func TestWatchdogNoticesOneThreadThatHangs(t *testing.T) {
	h := newTestHost(t)
	h.startEtcd(netConfig)
	systemd, path := listenSystemd(t)
	p := h.daemon([]string{"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=400000"}, "-queues=1", "-tx-path=udp")
	hear(t, systemd, "READY=1")
	for range 3 {
		hear(t, systemd, "WATCHDOG=1")
	}
	resume := stopLane(t, h, p.cmd.Process.Pid)
	hear(t, systemd, "STATUS=hangs: lane 1 of 1 does not turn")
	if got := silence(t, systemd, time.Second); strings.Contains(got, "WATCHDOG") {
		t.Errorf("systemd got %q while a lane hangs", got)
	}
	if s := h.status(); s.State != "ready" {
		t.Errorf("got state %q, want the rest of the daemon to be well", s.State)
	}
	resume()
	hear(t, systemd, "WATCHDOG=1")
	p.stop(h)
	hear(t, systemd, "STOPPING=1")
	h.nothingLeft()
}

// etcd that is away is no reason for a restart: that would end the forwarding.
func TestWatchdogIsFedWhileEtcdIsDown(t *testing.T) {
	h := newTestHost(t)
	etcd := h.startEtcd(netConfig)
	systemd, path := listenSystemd(t)
	p := h.daemon([]string{"NOTIFY_SOCKET=" + path, "WATCHDOG_USEC=2000000"})
	hear(t, systemd, "READY=1")
	if err := etcd.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	<-etcd.ended
	for told := ""; !strings.HasPrefix(told, "STATUS=forwarding for ") || !strings.Contains(told, "; etcd: "); {
		told = receive(t, systemd)
	}
	for range 4 {
		hear(t, systemd, "WATCHDOG=1")
	}
	p.stop(h)
}

// silence returns the first message within d, "" if there is none.
func silence(t *testing.T, c *net.UnixConn, d time.Duration) string {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(d)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 256)
	n, err := c.Read(b)
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatal(err)
	}
	return string(b[:n])
}

// stopLane stops the one thread of a process that sleeps in ppoll(2), which
// is its lane's, and returns what lets it go on.
func stopLane(t *testing.T, h *testHost, pid int) (resume func()) {
	t.Helper()
	// One thread does all of it: a tracer is a thread.
	runtime.LockOSThread()
	tid := 0
	h.eventually("the lane sleeps", func() error {
		tasks, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*", pid))
		if err != nil {
			return err
		}
		for _, task := range tasks {
			if !sleepsLong(task) {
				continue
			}
			if tid, err = strconv.Atoi(filepath.Base(task)); err != nil {
				return err
			}
			if err := seize(t, tid); err != nil {
				return err
			}
			if sleepsLong(task) {
				return nil
			}
			if err := unix.PtraceDetach(tid); err != nil {
				return err
			}
		}
		return errors.New("no thread is in ppoll for long")
	})
	return func() {
		if err := unix.PtraceDetach(tid); err != nil {
			t.Error(err)
		}
		runtime.UnlockOSThread()
	}
}

// listenSystemd is the other end of sd_notify(3).
func listenSystemd(t *testing.T) (*net.UnixConn, string) {
	t.Helper()
	path := filepath.Join(runDir(t), "notify")
	c, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: path, Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { c.Close() })
	return c, path
}

// hear returns the next message that begins with a line.
func hear(t *testing.T, c *net.UnixConn, line string) string {
	t.Helper()
	for {
		got := receive(t, c)
		if first, _, _ := strings.Cut(got, "\n"); first == line {
			return got
		}
	}
}

func receive(t *testing.T, c *net.UnixConn) string {
	t.Helper()
	if err := c.SetReadDeadline(time.Now().Add(20 * time.Second)); err != nil {
		t.Fatal(err)
	}
	b := make([]byte, 256)
	n, err := c.Read(b)
	if err != nil {
		t.Fatal(err)
	}
	return string(b[:n])
}

// sleepsLong reports whether a thread is in ppoll(2) without a time limit. A lane's
// first sleep has one, and the Go runtime does not know of it: stopped there, the
// thread would stop the whole daemon with the next garbage collection.
func sleepsLong(task string) bool {
	call, err := os.ReadFile(filepath.Join(task, "syscall"))
	if err != nil {
		return false // the thread has ended
	}
	args := strings.Fields(string(call)) // the number comes first
	return len(args) > 3 && args[0] == strconv.Itoa(unix.SYS_PPOLL) && args[3] == "0x0"
}

// seize stops a thread.
func seize(t *testing.T, tid int) error {
	t.Helper()
	if err := unix.PtraceSeize(tid); err != nil {
		lacking(t, fmt.Sprintf("ptrace: %v", err))
	}
	if err := unix.PtraceInterrupt(tid); err != nil {
		return err
	}
	var ws unix.WaitStatus
	_, err := unix.Wait4(tid, &ws, unix.WALL, nil)
	return err
}
