// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"encoding/binary"
	"log/slog"
	"sync/atomic"

	"golang.org/x/sys/unix"

	"vxtap/encap/virtio"
	"vxtap/tunnel"
)

// The kinds of offload, as bits of granted.use.
const (
	useCsum = 1 << iota
	useTCP4
	useTCP6
	useECN
	useUDP
)

// offloads are the names that people see of each kind, and what TUNSETOFFLOAD
// calls it. USO came with Linux 6.2 and must be asked for in both families at
// once.
var offloads = []struct {
	use   uint32
	bits  uint32
	names []string
}{
	{useCsum, unix.TUN_F_CSUM, []string{"csum"}},
	{useTCP4, unix.TUN_F_TSO4, []string{"tso4"}},
	{useTCP6, unix.TUN_F_TSO6, []string{"tso6"}},
	{useECN, unix.TUN_F_TSO_ECN, []string{"ecn"}},
	{useUDP, unix.TUN_F_USO4 | unix.TUN_F_USO6, []string{"uso4", "uso6"}},
}

// granted is what offloads a device has. All queues share it.
type granted struct {
	log    *slog.Logger
	device string
	ask    func(bits uint32) error // TUNSETOFFLOAD
	use    atomic.Uint32           // it may become less, never more
}

// useOf returns o in bits of granted.use.
func useOf(o tunnel.Offloads) (use uint32) {
	if !o.Csum {
		return 0 // the kernel grants no segmentation without checksums
	}
	use = useCsum
	if o.TCP4 {
		use |= useTCP4 | useECN
	}
	if o.TCP6 {
		use |= useTCP6 | useECN
	}
	if o.UDP {
		use |= useUDP
	}
	return use
}

// bitsOf returns what TUNSETOFFLOAD is given for o.
func bitsOf(o tunnel.Offloads) uint32 { return maskOf(useOf(o)) }

func maskOf(use uint32) (bits uint32) {
	for _, o := range offloads {
		if use&o.use != 0 {
			bits |= o.bits
		}
	}
	return bits
}

// request asks for what is wanted, then for less and less: the kernel refuses a
// mask of which it does not know one bit.
func (g *granted) request(want tunnel.Offloads) {
	use := useOf(want)
	for _, without := range []uint32{0, useUDP, useUDP | useECN, useUDP | useECN | useTCP6 | useTCP4} {
		if g.ask(maskOf(use&^without)) == nil {
			g.use.Store(use &^ without)
			return
		}
	}
}

// takes returns what is in use now.
func (g *granted) takes() tunnel.Offloads {
	use := g.use.Load()
	return tunnel.Offloads{
		Csum: use&useCsum != 0, TCP4: use&useTCP4 != 0, TCP6: use&useTCP6 != 0, UDP: use&useUDP != 0,
	}
}

// names lists what is in use now.
func (g *granted) names() (names []string) {
	use := g.use.Load()
	for _, o := range offloads {
		if use&o.use != 0 {
			names = append(names, o.names...)
		}
	}
	return names
}

// usedBy returns the bit for super-frames of type t.
func usedBy(t virtio.GSOType) uint32 {
	switch t &^ virtio.GSOECN {
	case virtio.GSOTCPv4:
		return useTCP4
	case virtio.GSOTCPv6:
		return useTCP6
	case virtio.GSOUDP:
		return useUDP
	}
	return 0
}

// refused notes that the kernel refuses super-frames of type t on the way in,
// although it granted them, and says so once. What goes out is not touched.
func (g *granted) refused(t virtio.GSOType) {
	use := usedBy(t)
	if before := g.use.And(^use); before&use == 0 {
		return
	}
	g.log.Warn("the kernel refuses super-frames that it had granted, they are written in segments from now on",
		"device", g.device, "kind", int(t&^virtio.GSOECN))
}

// probe writes a super-frame of each kind to the device, which is not up yet:
// the kernel checks the header first and refuses the frame for that (EINVAL), or
// accepts it and then finds the device down (EIO), so that nobody gets to see
// it. Kernels have been released that grant an offload and then refuse every
// frame of it (6.6.44; tailscale issue 13041).
func (g *granted) probe(fd int) {
	for _, p := range []struct {
		typ   virtio.GSOType
		frame []byte
		csum  uint16
	}{
		{virtio.GSOTCPv4, probeFrame(4, 6), 16},
		{virtio.GSOTCPv6, probeFrame(6, 6), 16},
		{virtio.GSOUDP, probeFrame(4, 17), 6},
		{virtio.GSOUDP, probeFrame(6, 17), 6},
	} {
		if g.use.Load()&usedBy(p.typ) == 0 {
			continue
		}
		start := len(p.frame) - 2*probePayload - 20
		if p.typ == virtio.GSOUDP {
			start += 12
		}
		h := virtio.Header{
			Flags: virtio.NeedsCsum, GSOType: p.typ, GSOSize: probePayload,
			HdrLen: uint16(len(p.frame) - 2*probePayload), CsumStart: uint16(start), CsumOffset: p.csum,
		}
		b := make([]byte, virtio.HeaderLen, virtio.HeaderLen+len(p.frame))
		h.Put(b)
		if _, err := unix.Write(fd, append(b, p.frame...)); err == unix.EINVAL {
			g.refused(p.typ)
		}
	}
}

// probePayload is half of what a probe carries: two segments.
const probePayload = 100

// probeFrame is a frame with the headers of IP version and protocol, TCP or
// UDP, whose addresses are nobody's.
func probeFrame(version, proto byte) []byte {
	transport := 20
	if proto == 17 {
		transport = 8
	}
	ip := make([]byte, 20, 40)
	ip[0], ip[8], ip[9] = 0x45, 1, proto
	binary.BigEndian.PutUint16(ip[2:], uint16(20+transport+2*probePayload))
	typ := []byte{0x08, 0x00}
	if version == 6 {
		ip, typ = ip[:40], []byte{0x86, 0xdd}
		clear(ip)
		ip[0], ip[6], ip[7] = 0x60, proto, 1
		binary.BigEndian.PutUint16(ip[4:], uint16(transport+2*probePayload))
	}
	b := append(make([]byte, 12), typ...)
	b = append(b, ip...)
	l4 := len(b)
	b = append(b, make([]byte, transport+2*probePayload)...)
	if proto == 17 {
		binary.BigEndian.PutUint16(b[l4+4:], uint16(transport+2*probePayload))
	} else {
		b[l4+12] = 5 << 4
	}
	return b
}
