// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"errors"
	"slices"
	"strings"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vxtap/encap/ether"
	"vxtap/encap/virtio"
	"vxtap/tunnel"
)

// A kernel that does not know one bit refuses the whole mask, and is then asked
// for less.
func TestRequestAsksForLessAndLess(t *testing.T) {
	tests := []struct {
		name    string
		unknown uint32
		want    string
	}{
		{"everything known", 0, "csum tso4 tso6 ecn uso4 uso6"},
		{"before Linux 6.2", unix.TUN_F_USO4 | unix.TUN_F_USO6, "csum tso4 tso6 ecn"},
		{"no ECN", unix.TUN_F_USO4 | unix.TUN_F_USO6 | unix.TUN_F_TSO_ECN, "csum tso4 tso6"},
		{"checksums only", ^uint32(unix.TUN_F_CSUM), "csum"},
		{"nothing", ^uint32(0), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			g := &granted{ask: func(bits uint32) error {
				if bits&tt.unknown != 0 || bits == 0 {
					return unix.EINVAL
				}
				return nil
			}}
			g.request(everything)
			if got := strings.Join(g.names(), " "); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// What is not wanted is not asked for.
func TestWantedOffloads(t *testing.T) {
	tests := []struct {
		name string
		want tunnel.Offloads
		got  []string
	}{
		{"checksums", tunnel.Offloads{Csum: true}, []string{"csum"}},
		{"TCP", tunnel.Offloads{Csum: true, TCP4: true, TCP6: true}, []string{"csum", "tso4", "tso6", "ecn"}},
		{"UDP", tunnel.Offloads{Csum: true, UDP: true}, []string{"csum", "uso4", "uso6"}},
		{"super-frames without checksums", tunnel.Offloads{TCP4: true, UDP: true}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			ownNamespace(t)
			d, err := Open(Config{Name: "tap0", Want: tt.want})
			if err != nil {
				t.Fatal(err)
			}
			defer d.Close()
			if got := d.Offloads(); !slices.Equal(got, tt.got) {
				t.Errorf("offloads %v, want %v", got, tt.got)
			}
		})
	}
}

// The kernel takes the probes at their word: none of them takes an offload from
// a kernel that has it, and a header that no kernel takes is one it refuses.
func TestProbe(t *testing.T) {
	d, _ := open(t, true)
	if got := d.Takes(); got != everything {
		t.Errorf("after the probes the TAP takes %+v", got)
	}
	f := d.Port.(*vnet)
	link, err := netlink.LinkByName(d.Name())
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetDown(link); err != nil {
		t.Fatal(err)
	}
	h := virtio.Header{Flags: virtio.NeedsCsum, GSOType: virtio.GSOTCPv4, GSOSize: probePayload, HdrLen: 54, CsumStart: 34, CsumOffset: 6}
	b := slices.Concat(make([]byte, virtio.HeaderLen), probeFrame(4, 6))
	h.Put(b)
	if _, err := unix.Write(f.fd, b); !errors.Is(err, unix.EINVAL) {
		t.Errorf("a super-frame with its checksum in the wrong place: %v, want %v", err, unix.EINVAL)
	}
}

// A kernel that goes on refusing is not asked any more; one bad frame changes
// nothing.
func TestRefusalsSwitchSuperFramesOff(t *testing.T) {
	d, _ := open(t, true)
	bad := virtio.Header{Flags: virtio.NeedsCsum, GSOType: virtio.GSOTCPv4, GSOSize: 100, HdrLen: 54, CsumStart: 34, CsumOffset: 6}
	good := virtio.Header{Flags: virtio.NeedsCsum, GSOType: virtio.GSOTCPv4, GSOSize: probePayload, HdrLen: 54, CsumStart: 34, CsumOffset: 16}
	for range manyRefusals - 1 {
		if err := d.WriteFrame(bad, probeFrame(4, 6), nil); !errors.Is(err, tunnel.ErrRefused) {
			t.Fatal(err)
		}
	}
	if err := d.WriteFrame(good, probeFrame(4, 6), nil); err != nil {
		t.Fatal(err)
	}
	for range manyRefusals - 1 {
		_ = d.WriteFrame(bad, probeFrame(4, 6), nil)
	}
	if !d.Takes().TCP4 {
		t.Fatal("off although a good frame came between")
	}
	_ = d.WriteFrame(bad, probeFrame(4, 6), nil)
	if got, want := d.Takes(), (tunnel.Offloads{Csum: true, TCP6: true, UDP: true}); got != want {
		t.Errorf("takes %+v, want %+v", got, want)
	}
	if slices.Contains(d.Offloads(), "tso4") {
		t.Errorf("offloads %v", d.Offloads())
	}
}

// All queues are one device: what is written into any comes out of it.
func TestQueues(t *testing.T) {
	ownNamespace(t)
	d, err := Open(Config{Name: "tap0", MAC: testMAC, Queues: 3, Want: everything})
	if err != nil {
		t.Fatal(err)
	}
	defer d.Close()
	link, err := netlink.LinkByName("tap0")
	if err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	if len(d.Queues()) != 3 || link.Attrs().NumTxQueues < 3 {
		t.Fatalf("%d queues, the kernel has %d", len(d.Queues()), link.Attrs().NumTxQueues)
	}
	for i, q := range d.Queues() {
		if err := q.WriteFrame(virtio.Header{}, testFrame(100), nil); err != nil {
			t.Errorf("queue %d: %v", i, err)
		}
		if got := q.Takes(); got != everything {
			t.Errorf("queue %d takes %+v", i, got)
		}
	}
}

// The uplink TAP takes a frame inside a tunnel, which an ordinary one refuses.
func TestOpenUplink(t *testing.T) {
	ownNamespace(t)
	fd, err := OpenUplink("up0", ether.MAC{2, 0, 0, 0, 0, 1})
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skip("not run: needs Linux 6.17")
	}
	if err != nil {
		t.Fatal(err)
	}
	defer unix.Close(fd)
	if _, err := OpenUplink("up0", ether.MAC{2, 0, 0, 0, 0, 1}); !errors.Is(err, unix.EBUSY) {
		t.Errorf("a second one of the name: %v, want %v", err, unix.EBUSY)
	}
}
