// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"encoding/binary"
	"fmt"
	"net"
	"net/netip"
	"strconv"
	"unsafe"

	"golang.org/x/sys/unix"
)

// remote is all of a peer's socket address but the address.
type remote struct {
	six   bool
	port  uint16 // as it stands in a socket address: in network order
	scope uint32 // the interface, where our own address is link-local: the socket is bound to it, and needs no scope to send
}

// remoteOf returns that of the peers of local.
func remoteOf(local netip.AddrPort) (remote, error) {
	var port [2]byte
	binary.BigEndian.PutUint16(port[:], local.Port())
	r := remote{six: local.Addr().Is6(), port: binary.NativeEndian.Uint16(port[:])}
	zone := local.Addr().Zone()
	if zone == "" {
		return r, nil
	}
	if n, err := strconv.ParseUint(zone, 10, 32); err == nil {
		r.scope = uint32(n)
		return r, nil
	}
	i, err := net.InterfaceByName(zone)
	if err != nil {
		return r, fmt.Errorf("zone %s of %s: %w", zone, local.Addr(), err)
	}
	r.scope = uint32(i.Index)
	return r, nil
}

// sockaddr is memory for a socket address of either family.
type sockaddr struct{ six unix.RawSockaddrInet6 }

const sockaddrLen = unix.SizeofSockaddrInet6

func (s *sockaddr) pointer() *byte { return (*byte)(unsafe.Pointer(s)) }

func (s *sockaddr) four() *unix.RawSockaddrInet4 { return (*unix.RawSockaddrInet4)(unsafe.Pointer(s)) }

// put makes s the address of the peer at a, and returns its length. The flow
// label stays 0: the kernel then makes one from the ports where it is told to
// (net.ipv6.auto_flowlabels, RFC 6438).
func (s *sockaddr) put(r remote, a netip.Addr) uint32 {
	if !r.six {
		*s.four() = unix.RawSockaddrInet4{Family: unix.AF_INET, Port: r.port, Addr: a.As4()}
		return unix.SizeofSockaddrInet4
	}
	s.six = unix.RawSockaddrInet6{Family: unix.AF_INET6, Port: r.port, Addr: a.As16()}
	return unix.SizeofSockaddrInet6
}

// addr returns the address in s, without a zone.
func (s *sockaddr) addr(six bool) netip.Addr {
	if six {
		return netip.AddrFrom16(s.six.Addr)
	}
	return netip.AddrFrom4(s.four().Addr)
}
