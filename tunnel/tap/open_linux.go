// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"vxtap/encap/ether"
	"vxtap/encap/virtio"
	"vxtap/tunnel"
)

const haveVnetHdr = true

// openVnet opens the device with a virtio-net header before every frame.
func openVnet(c Config) (*Device, error) {
	flags := uint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR | unix.IFF_TUN_EXCL)
	if c.Queues > 1 {
		flags |= unix.IFF_MULTI_QUEUE
	}
	d := &Device{name: c.Name}
	var shared *granted
	for range c.Queues {
		fd, err := attach(c.Name, flags)
		if err != nil {
			return nil, errors.Join(err, d.Close())
		}
		// The first queue has made the device: the others join it. Never join
		// one that somebody else made.
		flags &^= unix.IFF_TUN_EXCL
		if shared == nil {
			if shared, err = setUp(fd, c); err != nil {
				return nil, errors.Join(err, unix.Close(fd))
			}
			d.offloads = shared.names
		}
		q, err := newVnet(fd, shared)
		if err != nil {
			return nil, errors.Join(err, unix.Close(fd), d.Close())
		}
		d.queues = append(d.queues, q)
	}
	return d, nil
}

// attach opens a queue of the TAP called name, and the TAP with the first.
func attach(name string, flags uint16) (int, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return -1, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	ifr, err := unix.NewIfreq(name)
	if err != nil {
		return -1, errors.Join(fmt.Errorf("device name %q: %w", name, err), unix.Close(fd))
	}
	ifr.SetUint16(flags)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, ifr); err != nil {
		return -1, errors.Join(fmt.Errorf("create TAP %s: %w", name, err), unix.Close(fd))
	}
	return fd, nil
}

// setUp gives the device its MAC and asks for its offloads, which are all
// queues' at once.
func setUp(fd int, c Config) (*granted, error) {
	if !c.MAC.IsZero() {
		if err := setMAC(fd, c.Name, c.MAC); err != nil {
			return nil, fmt.Errorf("set MAC of %s: %w", c.Name, err)
		}
	}
	g := &granted{log: c.Log, device: c.Name, ask: func(bits uint32) error {
		return unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, int(bits))
	}}
	g.request(c.Want)
	g.probe(fd)
	return g, nil
}

// setMAC gives the address at once, before anyone sees the device with a
// random one: systemd's MACAddressPolicy then leaves it alone (flannel issue
// 1155). The structure is the kernel's struct ifreq, 40 bytes on 64-bit and 32
// on 32-bit machines.
func setMAC(fd int, name string, mac ether.MAC) error {
	var req struct {
		name   [unix.IFNAMSIZ]byte
		family uint16
		addr   [14]byte
		_      [8]byte
	}
	copy(req.name[:], name)
	req.family = unix.ARPHRD_ETHER
	copy(req.addr[:], mac[:])
	_, _, errno := unix.Syscall(unix.SYS_IOCTL, uintptr(fd), unix.SIOCSIFHWADDR, uintptr(unsafe.Pointer(&req)))
	if errno != 0 {
		return errno
	}
	return nil
}

// OpenUplink creates the TAP by which super-frames enter the host's own stack
// with their outer headers on: one queue, the virtio header of
// virtio.TunnelHeaderLen bytes, and the offloads of UDP tunnels (Linux 6.17).
// The descriptor is the caller's. Without such a kernel the error matches
// errors.ErrUnsupported.
func OpenUplink(name string, mac ether.MAC) (int, error) {
	fd, err := attach(name, unix.IFF_TAP|unix.IFF_NO_PI|unix.IFF_VNET_HDR|unix.IFF_TUN_EXCL)
	if err != nil {
		return -1, err
	}
	if err := setMAC(fd, name, mac); err != nil {
		return -1, errors.Join(fmt.Errorf("set MAC of %s: %w", name, err), unix.Close(fd))
	}
	const tunnelGSO, tunnelGSOCsum = 0x80, 0x100 // TUN_F_UDP_TUNNEL_GSO, TUN_F_UDP_TUNNEL_GSO_CSUM
	bits := bitsOf(tunnel.Offloads{Csum: true, TCP4: true, TCP6: true, UDP: true}) | tunnelGSO | tunnelGSOCsum
	if err := unix.IoctlSetPointerInt(fd, unix.TUNSETVNETHDRSZ, virtio.TunnelHeaderLen); err != nil {
		return -1, errors.Join(fmt.Errorf("header size of %s: %w", name, err), unix.Close(fd))
	}
	if err := unix.IoctlSetInt(fd, unix.TUNSETOFFLOAD, int(bits)); err != nil {
		return -1, errors.Join(fmt.Errorf("the kernel has no TUN_F_UDP_TUNNEL_GSO, which came with Linux 6.17: %w", errors.ErrUnsupported), unix.Close(fd))
	}
	return fd, nil
}
