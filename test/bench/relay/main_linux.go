// SPDX-License-Identifier: Apache-2.0

// Command relay moves the frames of a TAP to one peer over UDP and back, and
// touches nothing: no header, no checksum, no table. It is what is left of a
// program like vxtap when all work of its own is taken away, and so the floor
// of any userspace program that is built of two blocking loops.
//
//	relay -device NAME -local ADDRESS:PORT -peer ADDRESS:PORT
//
// Each frame crosses with the 10 bytes that the TAP puts before it, super-frames
// whole: as one message that the kernel cuts into datagrams (UDP_SEGMENT) and
// that the other kernel keeps together (UDP_GRO). That holds as long as nothing
// on the way joins datagrams of different messages, which a veth pair and a
// bridge do not; this is a yardstick, not a tunnel.
package main

import (
	"errors"
	"flag"
	"fmt"
	"net/netip"
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// segment is what fits an underlay of 1500 bytes: 20 are IPv4's, 8 UDP's. 44 of
// them, the most that one message may have, hold a frame of 64 KiB.
const segment = 1472

// bufferSize is the socket's, as vxtap has it.
const bufferSize = 8 << 20

func main() {
	device := flag.String("device", "relay0", "`name` of the TAP")
	local := flag.String("local", "", "`address:port` of this end")
	peer := flag.String("peer", "", "`address:port` of the other end")
	flag.Parse()
	if err := run(*device, *local, *peer); err != nil {
		fmt.Fprintln(os.Stderr, "relay:", err)
		os.Exit(1)
	}
}

func run(device, local, peer string) error {
	tap, err := openTAP(device)
	if err != nil {
		return fmt.Errorf("open TAP %s: %w", device, err)
	}
	socket, err := openSocket(local, peer)
	if err != nil {
		return fmt.Errorf("open UDP socket %s to %s: %w", local, peer, err)
	}
	// A loop that comes back from the kernel must find a processor free.
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 2)
	ended := make(chan error, 2)
	go func() { ended <- move(tap, socket) }()
	go func() { ended <- move(socket, tap) }()
	return <-ended
}

// move carries what comes from one to the other until reading fails. What
// cannot be written is lost, as on a wire.
func move(from, to int) error {
	runtime.LockOSThread()
	b := make([]byte, 1<<17)
	for {
		n, err := unix.Read(from, b)
		switch {
		case err == nil:
			_, _ = unix.Write(to, b[:n])
		// The other end may not be there yet.
		case errors.Is(err, unix.ECONNREFUSED), errors.Is(err, unix.EINTR):
		default:
			return err
		}
	}
}

// openTAP makes a TAP that hands over super-frames whole and checksums open.
func openTAP(name string) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return -1, err
	}
	ifr.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return -1, err
	}
	offloads := unix.TUN_F_CSUM | unix.TUN_F_TSO4 | unix.TUN_F_TSO6 | unix.TUN_F_TSO_ECN | unix.TUN_F_USO4 | unix.TUN_F_USO6
	err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloads)
	if err != nil { // before Linux 6.2
		err = unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, offloads&^(unix.TUN_F_USO4|unix.TUN_F_USO6))
	}
	return fd, err
}

// openSocket makes a UDP socket that is connected to the peer.
func openSocket(local, peer string) (int, error) {
	var at [2]unix.Sockaddr
	for i, text := range []string{local, peer} {
		a, err := netip.ParseAddrPort(text)
		if err != nil || !a.Addr().Is4() {
			return -1, fmt.Errorf("%q is not an IPv4 address with a port", text)
		}
		at[i] = &unix.SockaddrInet4{Addr: a.Addr().As4(), Port: int(a.Port())}
	}
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return -1, err
	}
	for _, option := range []struct{ level, name, value int }{
		{unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, bufferSize},
		{unix.SOL_SOCKET, unix.SO_SNDBUFFORCE, bufferSize},
		{unix.IPPROTO_UDP, unix.UDP_SEGMENT, segment},
		{unix.IPPROTO_UDP, unix.UDP_GRO, 1},
	} {
		if err := unix.SetsockoptInt(fd, option.level, option.name, option.value); err != nil {
			return -1, os.NewSyscallError("setsockopt", err)
		}
	}
	if err := unix.Bind(fd, at[0]); err != nil {
		return -1, err
	}
	return fd, unix.Connect(fd, at[1])
}
