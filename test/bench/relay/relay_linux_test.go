// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"testing"

	"golang.org/x/sys/unix"
)

// pair returns two sockets with boundaries between messages, joined, of which
// a read from the first ends after a while.
func pair(t *testing.T) [2]int {
	t.Helper()
	fds, err := unix.Socketpair(unix.AF_UNIX, unix.SOCK_SEQPACKET|unix.SOCK_CLOEXEC, 0)
	if err == nil {
		err = unix.SetsockoptTimeval(fds[0], unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000})
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _, _ = unix.Close(fds[0]), unix.Close(fds[1]) })
	return fds
}

func TestMoveCarriesWholeMessagesAndEndsWithItsSource(t *testing.T) {
	in, out := pair(t), pair(t)
	for _, size := range []int{1, 65000} {
		if _, err := unix.Write(in[1], make([]byte, size)); err != nil {
			t.Fatal(err)
		}
	}
	if err := move(in[0], out[1]); !errors.Is(err, unix.EAGAIN) {
		t.Errorf("got %v, want %v", err, unix.EAGAIN)
	}
	for _, want := range []int{1, 65000} {
		if got, err := unix.Read(out[0], make([]byte, 1<<17)); got != want || err != nil {
			t.Errorf("got %d bytes and %v, want %d", got, err, want)
		}
	}
}

func TestOpenSocket(t *testing.T) {
	for _, tt := range []struct {
		name, local, peer string
		good              bool
	}{
		{"two addresses", "127.0.0.1:0", "127.0.0.1:9", true},
		{"no port", "127.0.0.1", "127.0.0.1:9", false},
		{"no address", "", "", false},
		{"IPv6", "[::1]:0", "[::1]:9", false},
		{"an address that is not ours", "192.0.2.1:0", "127.0.0.1:9", false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			fd, err := openSocket(tt.local, tt.peer)
			if (err == nil) != tt.good {
				t.Errorf("got %v", err)
			}
			if fd >= 0 {
				_ = unix.Close(fd)
			}
		})
	}
}
