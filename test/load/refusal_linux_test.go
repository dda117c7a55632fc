// SPDX-License-Identifier: Apache-2.0

package load

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"unsafe"

	"golang.org/x/net/bpf"
	"golang.org/x/sys/unix"

	"vxtap/encap/virtio"
	"vxtap/test/bed"
)

// No kernel of today takes back what it has once granted, so a refusal in
// mid-run has to be made: the daemon runs under a seccomp filter that asks this
// test about the system calls that move super-frames (seccomp_unotify(2)). To
// the daemon it is the kernel that says no.

// The environment of a daemon that is to be refused something: where to send
// the descriptor of its filter, and which program it is.
const (
	refusalSocket  = "VXTAP_TEST_REFUSAL_SOCKET"
	refusalProgram = "VXTAP_TEST_REFUSAL_PROGRAM"
)

// becomeRefused puts a filter on this process, sends its descriptor away, and
// becomes the program. It returns only if that fails.
func becomeRefused(socket, program string) error {
	runtime.LockOSThread() // the filter is this thread's, which becomes the program
	conn, err := net.Dial("unix", socket)
	if err != nil {
		return err
	}
	listener, err := installFilter()
	if err != nil {
		return fmt.Errorf("install seccomp filter: %w", err)
	}
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return fmt.Errorf("connection is a %T", conn)
	}
	if _, _, err := unixConn.WriteMsgUnix([]byte{1}, unix.UnixRights(listener), nil); err != nil {
		return err
	}
	if _, err := unixConn.Read(make([]byte, 1)); err != nil { // until somebody listens
		return err
	}
	return syscall.Exec(program, append([]string{program}, os.Args[1:]...), os.Environ())
}

// installFilter makes sendmmsg, writev, and writes of more than a packet ask.
func installFilter() (int, error) {
	const (
		number, length = 0, 16 + 2*8 // in struct seccomp_data; the lower half of the third argument
		ask, allow     = 0x7fc00000, 0x7fff0000
		newListener    = 8
	)
	program, err := bpf.Assemble([]bpf.Instruction{
		bpf.LoadAbsolute{Off: number, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.SYS_SENDMMSG, SkipTrue: 4},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.SYS_WRITEV, SkipTrue: 3},
		bpf.JumpIf{Cond: bpf.JumpEqual, Val: unix.SYS_WRITE, SkipFalse: 3},
		bpf.LoadAbsolute{Off: length, Size: 4},
		bpf.JumpIf{Cond: bpf.JumpGreaterThan, Val: 1500, SkipFalse: 1},
		bpf.RetConstant{Val: ask},
		bpf.RetConstant{Val: allow},
	})
	if err != nil {
		return -1, err
	}
	filter := make([]unix.SockFilter, len(program))
	for i, r := range program {
		filter[i] = unix.SockFilter{Code: r.Op, Jt: r.Jt, Jf: r.Jf, K: r.K}
	}
	if err := unix.Prctl(unix.PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0); err != nil {
		return -1, err
	}
	f := unix.SockFprog{Len: uint16(len(filter)), Filter: &filter[0]}
	fd, _, errno := unix.Syscall(unix.SYS_SECCOMP, unix.SECCOMP_SET_MODE_FILTER, newListener, uintptr(unsafe.Pointer(&f)))
	if errno != 0 {
		return -1, errno
	}
	return int(fd), nil
}

// refusal says what the daemons of a lab are refused.
type refusal struct {
	segment, tap, uplink atomic.Bool
	refused              atomic.Int64
}

// program returns the path of a daemon that r rules over.
func (r *refusal) program(t *testing.T) string {
	t.Helper()
	dir := t.TempDir()
	socket := filepath.Join(dir, "s")
	listener, err := net.Listen("unix", socket)
	if err != nil {
		t.Fatal(err)
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	script := fmt.Sprintf("#!/bin/sh\nexport %s=%s %s=%s\nexec %s \"$@\"\n", refusalSocket, socket, refusalProgram, bed.Binary(t, "vxtap"), self)
	path := filepath.Join(dir, "vxtap")
	if err := os.WriteFile(path, []byte(script), 0o700); err != nil {
		t.Fatal(err)
	}
	var done sync.WaitGroup
	done.Go(func() {
		for {
			conn, err := listener.Accept()
			if err != nil {
				return
			}
			done.Go(func() {
				if err := r.rule(conn); err != nil {
					t.Error(err)
				}
			})
		}
	})
	t.Cleanup(func() {
		listener.Close()
		done.Wait() // the lab is down by now
	})
	return path
}

// rule answers for one daemon until that has ended.
func (r *refusal) rule(conn net.Conn) error {
	defer conn.Close()
	fd, err := receiveFD(conn)
	if err != nil {
		return fmt.Errorf("receive the filter's descriptor: %w", err)
	}
	defer unix.Close(fd)
	if _, err := conn.Write([]byte{1}); err != nil {
		return err
	}
	for {
		set := []unix.PollFd{{Fd: int32(fd), Events: unix.POLLIN}}
		if _, err := unix.Poll(set, -1); err != nil && !errors.Is(err, unix.EINTR) {
			return fmt.Errorf("wait for a system call: %w", err)
		}
		if set[0].Revents&unix.POLLIN == 0 {
			if set[0].Revents != 0 {
				return nil // the daemon has ended
			}
			continue
		}
		r.answer(fd)
	}
}

func receiveFD(conn net.Conn) (int, error) {
	unixConn, ok := conn.(*net.UnixConn)
	if !ok {
		return -1, fmt.Errorf("connection is a %T", conn)
	}
	oob := make([]byte, unix.CmsgSpace(4))
	_, n, _, _, err := unixConn.ReadMsgUnix(make([]byte, 1), oob)
	if err != nil {
		return -1, err
	}
	messages, err := unix.ParseSocketControlMessage(oob[:n])
	if err != nil || len(messages) != 1 {
		return -1, fmt.Errorf("%d control messages: %w", len(messages), err)
	}
	fds, err := unix.ParseUnixRights(&messages[0])
	if err != nil || len(fds) != 1 {
		return -1, fmt.Errorf("%d descriptors: %w", len(fds), err)
	}
	return fds[0], nil
}

// call is struct seccomp_notif.
type call struct {
	id         uint64
	pid, flags uint32
	nr         int32
	arch       uint32
	ip         uint64
	args       [6]uint64
}

// reply is struct seccomp_notif_resp.
type reply struct {
	id         uint64
	value      int64
	err, flags int32
}

// answer decides about one system call. Whatever goes wrong here means that the
// call is there no more.
func (r *refusal) answer(fd int) {
	const receive, send, goOn = 0xc0502100, 0xc0182101, 1
	var c call
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), receive, uintptr(unsafe.Pointer(&c))); errno != 0 {
		return
	}
	a := reply{id: c.id, flags: goOn}
	if errno := r.judge(&c); errno != 0 {
		r.refused.Add(1)
		a.err, a.flags = -int32(errno), 0
	}
	_, _, _ = unix.Syscall(unix.SYS_IOCTL, uintptr(fd), send, uintptr(unsafe.Pointer(&a)))
}

// judge returns with what error a call fails, 0 if it may go on.
func (r *refusal) judge(c *call) unix.Errno {
	memory := func(at uint64, n int) []byte {
		b := make([]byte, n)
		local := []unix.Iovec{{Base: &b[0]}}
		local[0].SetLen(n)
		if got, err := unix.ProcessVMReadv(int(c.pid), local, []unix.RemoteIovec{{Base: uintptr(at), Len: n}}, 0); err != nil || got != n {
			return make([]byte, n)
		}
		return b
	}
	switch {
	case c.nr == unix.SYS_SENDMMSG && r.segment.Load():
		header := memory(c.args[1], 56) // struct msghdr of the first
		control, length := binary.NativeEndian.Uint64(header[32:]), binary.NativeEndian.Uint64(header[40:])
		if length < 16 {
			return 0
		}
		first := memory(control, 16)
		if binary.NativeEndian.Uint32(first[8:]) == unix.IPPROTO_UDP && binary.NativeEndian.Uint32(first[12:]) == unix.UDP_SEGMENT {
			return unix.EIO
		}
	case c.nr == unix.SYS_WRITEV && r.tap.Load():
		vec := memory(c.args[1], 16)
		if binary.NativeEndian.Uint64(vec[8:]) == virtio.HeaderLen && memory(binary.NativeEndian.Uint64(vec), virtio.HeaderLen)[1] != 0 {
			return unix.EINVAL
		}
	case c.nr == unix.SYS_WRITE && r.uplink.Load():
		h := virtio.Header{}
		h.Decode(memory(c.args[1], virtio.HeaderLen))
		// An answer to vxtap status is long too, and begins with letters.
		if h.Flags == virtio.NeedsCsum|virtio.TunnelCsum && h.GSOType&virtio.GSOTunnelIPv4 != 0 {
			return unix.EINVAL
		}
	}
	return 0
}
