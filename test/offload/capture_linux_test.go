// SPDX-License-Identifier: Apache-2.0

package offload

import (
	"encoding/binary"
	"errors"
	"fmt"
	"net"
	"testing"

	"golang.org/x/sys/unix"

	"vxtap/cmd/vxlab/netns"
)

// capture opens a packet socket on a device, for what comes in and goes out,
// and returns a function that takes all packets that were seen so far, each
// behind the virtio header that says what about it is unfinished.
func capture(t *testing.T, ns *netns.Namespace, device string) func() [][]byte {
	t.Helper()
	fd := -1
	err := ns.Do(func() (err error) {
		ifc, err := net.InterfaceByName(device)
		if err != nil {
			return err
		}
		// Protocol 0 sees nothing before the options are set.
		if fd, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, 0); err != nil {
			return err
		}
		all := binary.NativeEndian.Uint16(binary.BigEndian.AppendUint16(nil, unix.ETH_P_ALL))
		return errors.Join(
			unix.SetsockoptInt(fd, unix.SOL_PACKET, unix.PACKET_VNET_HDR, 1),
			unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUFFORCE, 64<<20),
			unix.SetsockoptTimeval(fd, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Usec: 100_000}),
			unix.Bind(fd, &unix.SockaddrLinklayer{Protocol: all, Ifindex: ifc.Index}))
	})
	if err != nil {
		t.Fatalf("capture on %s of %s: %v", device, ns.Name(), err)
	}
	t.Cleanup(func() { unix.Close(fd) })
	return func() (packets [][]byte) {
		for b := make([]byte, 1<<17); ; {
			n, err := unix.Read(fd, b)
			if err != nil {
				break
			}
			packets = append(packets, append([]byte(nil), b[:n]...))
		}
		if s, err := unix.GetsockoptTpacketStats(fd, unix.SOL_PACKET, unix.PACKET_STATISTICS); err != nil || s.Drops > 0 {
			t.Fatalf("the capture is incomplete: %v, %v", s, err)
		}
		return packets
	}
}

// vnet is the virtio header of a captured packet, and the packet.
type vnet struct {
	partial    bool // the checksum of what starts at start is only begun
	gso        byte // one of unix.VIRTIO_NET_HDR_GSO_*
	size       int  // of the segments
	start, off int
	frame      []byte
}

const vnetLen = 10

func readVnet(b []byte) vnet {
	n := binary.NativeEndian.Uint16
	return vnet{
		partial: b[0]&1 != 0, gso: b[1], size: int(n(b[4:])),
		start: int(n(b[6:])), off: int(n(b[8:])), frame: b[vnetLen:],
	}
}

// sum returns the checksum of RFC 1071 over b, which goes on from s.
func sum(b []byte, s uint32) uint32 {
	for ; len(b) > 1; b = b[2:] {
		s += uint32(b[0])<<8 | uint32(b[1])
	}
	if len(b) == 1 {
		s += uint32(b[0]) << 8
	}
	for s > 0xffff {
		s = s>>16 + s&0xffff
	}
	return s
}

// ip4 is an IPv4 packet with TCP or UDP, of which lengths have been checked.
type ip4 []byte

func (p ip4) header() int     { return int(p[0]&15) * 4 }
func (p ip4) payload() []byte { return p[p.header():] }
func (p ip4) protocol() byte  { return p[9] }
func (p ip4) id() uint16      { return binary.BigEndian.Uint16(p[4:]) }

// pseudo returns the sum over the pseudo header of n bytes of payload.
func (p ip4) pseudo(n int) uint32 { return sum(p[12:20], uint32(p[9])+uint32(n)) }

// transport returns where the checksum of TCP or UDP is.
func (p ip4) transport() []byte {
	if p.protocol() == unix.IPPROTO_TCP {
		return p.payload()[16:18]
	}
	return p.payload()[6:8]
}

// asIP returns the packet in b. It fails unless all of b is one, with TCP or
// UDP, not a fragment, and its header's checksum is right.
func asIP(b []byte) (ip4, error) {
	p := ip4(b)
	switch {
	case len(b) < 28 || b[0]>>4 != 4 || p.header() < 20 || len(b) < p.header()+8:
		return nil, errors.New("no IPv4")
	case int(binary.BigEndian.Uint16(b[2:])) != len(b):
		return nil, fmt.Errorf("IPv4 length %d of %d bytes", binary.BigEndian.Uint16(b[2:]), len(b))
	case sum(b[:p.header()], 0) != 0xffff:
		return nil, errors.New("IPv4 checksum is wrong")
	case binary.BigEndian.Uint16(b[6:])&0x3fff != 0:
		return nil, errors.New("a fragment")
	case p.protocol() == unix.IPPROTO_UDP:
		if n := int(binary.BigEndian.Uint16(p.payload()[4:])); n != len(p.payload()) {
			return nil, fmt.Errorf("UDP length %d of %d bytes", n, len(p.payload()))
		}
	case p.protocol() != unix.IPPROTO_TCP || len(p.payload()) < 20:
		return nil, fmt.Errorf("protocol %d, neither TCP nor UDP", p.protocol())
	}
	return p, nil
}

// checkFull fails unless the transport checksum is right. In UDP, 0 is none.
func (p ip4) checkFull(what string) error {
	none := p.protocol() == unix.IPPROTO_UDP && binary.BigEndian.Uint16(p.transport()) == 0
	if s := sum(p.payload(), p.pseudo(len(p.payload()))); s != 0xffff || none {
		return fmt.Errorf("%s checksum %x is wrong", what, p.transport())
	}
	return nil
}

// checkPartial fails unless the transport checksum is that of the pseudo
// header, for whoever finishes it.
func (p ip4) checkPartial(what string) error {
	if got, want := uint32(binary.BigEndian.Uint16(p.transport())), p.pseudo(len(p.payload())); got != want {
		return fmt.Errorf("partial %s checksum %#x, want %#x", what, got, want)
	}
	return nil
}

// finish completes the transport checksum.
func (p ip4) finish() {
	c := p.transport()
	c[0], c[1] = 0, 0
	s := ^uint16(sum(p.payload(), p.pseudo(len(p.payload()))))
	if s == 0 && p.protocol() == unix.IPPROTO_UDP {
		s = 0xffff
	}
	binary.BigEndian.PutUint16(c, s)
}

// cut returns the packets that a UDP super-frame stands for.
func (p ip4) cut(size int) (packets []ip4) {
	head := p.header() + 8
	for rest := p[head:]; len(rest) > 0; {
		n := min(size, len(rest))
		q := append(append(ip4(nil), p[:head]...), rest[:n]...)
		rest = rest[n:]
		binary.BigEndian.PutUint16(q[2:], uint16(len(q)))
		binary.BigEndian.PutUint16(q[4:], p.id()+uint16(len(packets)))
		binary.BigEndian.PutUint16(q.payload()[4:], uint16(8+n))
		q[10], q[11] = 0, 0
		binary.BigEndian.PutUint16(q[10:], ^uint16(sum(q[:q.header()], 0)))
		q.finish()
		packets = append(packets, q)
	}
	return packets
}
