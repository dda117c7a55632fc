// SPDX-License-Identifier: Apache-2.0

package offload

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"

	"golang.org/x/sys/unix"

	"vxtap/cmd/vxlab/lab"
	"vxtap/encap/vxlan"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

// outer is the length of what is before the inner IP packet: Ethernet, IPv4,
// UDP, VXLAN, Ethernet.
const outer = 14 + 20 + 8 + 8 + 14

// wire is what one host has put on the wire.
type wire struct {
	whole, runs, single int // captured packets: inner super-frames, runs of datagrams, one datagram
	partial             int // of them, with a checksum left to the card
	packets             []ip4
	ports               map[uint16]uint16 // outer source ports by inner one
}

// add takes a captured packet, if it is a VXLAN datagram, apart.
func (w *wire) add(v vnet, from netip.Addr) error {
	f := v.frame
	if len(f) < outer || binary.BigEndian.Uint16(f[12:]) != 0x0800 || f[23] != unix.IPPROTO_UDP ||
		binary.BigEndian.Uint16(f[36:]) != vxlan.PortFlannel || f[42] == 0 /* a probe */ ||
		netip.AddrFrom4([4]byte(f[26:30])) != from {
		return nil
	}
	out, err := asIP(f[14:])
	if err != nil {
		return fmt.Errorf("outer header: %w", err)
	}
	if v.partial {
		w.partial++
	}
	var inner []ip4
	switch {
	case v.partial && v.start == 34: // up to the card: the outer checksum, and maybe to cut a run
		inner, err = w.ofRun(v, out)
	case v.gso != unix.VIRTIO_NET_HDR_GSO_NONE:
		inner, err = w.ofWhole(v, out)
	default:
		inner, err = w.ofSingle(v, out)
	}
	for _, p := range inner {
		w.note(p, binary.BigEndian.Uint16(out.payload()))
	}
	return err
}

// ofRun takes a datagram, or a run of them, with a partial outer checksum. What
// is inside must be complete.
func (w *wire) ofRun(v vnet, out ip4) (inner []ip4, err error) {
	errs := []error{out.checkPartial("outer UDP")}
	w.single++
	payload, size := out.payload()[8:], len(out)
	if v.gso == unix.VIRTIO_NET_HDR_GSO_UDP_L4 {
		w.single, w.runs, size = w.single-1, w.runs+1, v.size
	}
	for len(payload) > 0 {
		n := min(size, len(payload))
		if n < 22 {
			return inner, fmt.Errorf("a run ends with %d bytes", n)
		}
		p, err := asIP(payload[22:n])
		payload = payload[n:]
		if err != nil {
			return inner, fmt.Errorf("inner header: %w", err)
		}
		errs = append(errs, p.checkFull("inner"))
		inner = append(inner, p)
	}
	return inner, errors.Join(errs...)
}

// ofWhole takes an inner super-frame behind one outer header.
func (w *wire) ofWhole(v vnet, out ip4) ([]ip4, error) {
	w.whole++
	p, err := asIP(v.frame[outer:])
	if err != nil {
		return nil, fmt.Errorf("inner header: %w", err)
	}
	off := 6
	if p.protocol() == unix.IPPROTO_TCP {
		off = 16
	}
	if want := outer + p.header(); !v.partial || v.start != want || v.off != off {
		return nil, fmt.Errorf("a whole super-frame's checksum is at %d+%d, want %d+%d", v.start, v.off, want, off)
	}
	err = errors.Join(out.checkPartial("outer UDP of super-frame"), p.checkPartial("inner"))
	if p.protocol() == unix.IPPROTO_TCP {
		return []ip4{p}, err
	}
	return p.cut(v.size), err
}

// ofSingle takes one datagram whose outer checksum is complete.
func (w *wire) ofSingle(v vnet, out ip4) ([]ip4, error) {
	w.single++
	p, err := asIP(v.frame[outer:])
	if err != nil {
		return nil, fmt.Errorf("inner header: %w", err)
	}
	if v.partial { // the outer one is right when this is done
		err = p.checkPartial("inner")
		p.finish()
	}
	return []ip4{p}, errors.Join(err, p.checkFull("inner"), out.checkFull("outer UDP"))
}

// note keeps an inner UDP packet, without what differs from host to host and
// from socket to socket: addresses, ports, where IDs begin, and so checksums,
// which were right.
func (w *wire) note(p ip4, port uint16) {
	flow := binary.BigEndian.Uint16(p.payload())
	if was, ok := w.ports[flow]; ok && was != port {
		port = 0
	}
	w.ports[flow] = port
	if p.protocol() != unix.IPPROTO_UDP {
		return
	}
	q := slices.Clone(p)
	clear(q[10:20])
	clear(q.payload()[:4])
	clear(q.transport())
	w.packets = append(w.packets, q)
}

// relate makes the IDs of packets relative to the first of their flow, which
// lengths tell.
func relate(packets []ip4, lengths []int) {
	for _, n := range lengths {
		n = min(n, len(packets))
		for i, first := 0, uint16(0); i < n; i++ {
			if i == 0 {
				first = packets[0].id()
			}
			binary.BigEndian.PutUint16(packets[i][4:], packets[i].id()-first)
		}
		packets = packets[n:]
	}
}

// What one host puts on the wire, as the receiving host's device sees it, is
// the same inside whichever offloads are in use, its checksums are right or
// validly left to the card, and a flow has one source port.
func TestWire(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 1})
	senders := []struct {
		args, path  string
		whole, runs bool
	}{
		{args: "-offload=off", path: "udp"},
		{args: "-tx-path=udp", path: "udp", runs: true},
		{args: "-tx-path=auto", path: "uplink", whole: true},
	}
	for _, s := range senders {
		if _, err := b.Join(t.Context(), s.args); err != nil {
			t.Fatal(err)
		}
	}
	awaitPeers(t, b, 3)
	for _, card := range []string{"tx on", "tx off"} {
		if card == "tx off" {
			for i := range b.Hosts() {
				bed.Run(t, b.Node(b.Host(i+1).Node), "ethtool", "-K", "eth0", "tx", "off")
			}
		}
		var first *wire
		for i, s := range senders {
			t.Run(card+" "+s.args, func(t *testing.T) {
				n := i + 2
				awaitPath(t, b, n, s.path)
				w := record(t, b, n)
				t.Logf("%d whole super-frames, %d runs, %d single datagrams, %d packets in them; %d partial", w.whole, w.runs, w.single, len(w.packets), w.partial)
				if card == "tx on" && ((w.whole > 0) != s.whole || (w.runs > 0) != s.runs) || card == "tx off" && w.partial+w.whole+w.runs > 0 {
					t.Errorf("not what %s stands for", s.args)
				}
				if first == nil {
					first = w
				}
				same(t, w.packets, first.packets)
			})
		}
	}
}

// bursts are what one call sends, as size and number.
var bursts = [][2]int{{1200, 40}, {1422, 4}, {100, 60}, {1, 64}, {1201, 2}}

// record sends a fixed set of datagrams, and a stream, from the container of
// host n to that of host 1 and returns what host 1 saw of it.
func record(t *testing.T, b *bed.Bed, n int) *wire {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	from, to := b.ContainerEnd(n), b.ContainerEnd(1)
	if err := traffic.Ping(ctx, from, to, 1); err != nil {
		t.Fatal(err)
	}
	packets := capture(t, b.Node("h1"), "eth0")
	sizes := []int{1, 2, 3, 100, 1000, 1421, 1422}
	errs := []error{traffic.Datagrams(ctx, from, to, sizes...)}
	lengths := []int{len(sizes)}
	for _, burst := range bursts {
		errs = append(errs, traffic.Segments(ctx, from, to, burst[0], burst[1]))
		lengths = append(lengths, burst[1])
	}
	_, err := traffic.Stream(ctx, from, to, 1<<20)
	if err = errors.Join(append(errs, err)...); err != nil {
		t.Fatal(err)
	}
	w := &wire{ports: map[uint16]uint16{}}
	back := &wire{ports: map[uint16]uint16{}}
	for _, b1 := range packets() {
		v := readVnet(b1)
		if err := errors.Join(w.add(v, b.Host(n).VTEP), back.add(v, b.Host(1).VTEP)); err != nil {
			t.Errorf("%+v: %v", vnet{v.partial, v.gso, v.size, v.start, v.off, v.frame[:min(100, len(v.frame))]}, err)
		}
	}
	for flow, port := range w.ports {
		if port == 0 {
			t.Errorf("the flow from port %d has more than one outer source port", flow)
		}
	}
	relate(w.packets, lengths)
	return w
}

// same compares what two hosts have sent.
func same(t *testing.T, got, want []ip4) {
	t.Helper()
	if len(got) != len(want) || len(got) != 7+40+4+60+64+2 {
		t.Fatalf("got %d UDP packets, want %d", len(got), len(want))
	}
	for i := range got {
		if !bytes.Equal(got[i], want[i]) {
			t.Fatalf("packet %d is\n%x, want\n%x", i, got[i], want[i])
		}
	}
}
