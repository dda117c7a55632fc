// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"bytes"
	"errors"
	"net"
	"net/netip"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vxtap/tunnel"
)

// inNamespace6 runs f in a network namespace whose loopback has fd00::1 and
// fd00::2, and where a0 and b0, the ends of one cable, have fe80::1 and fe80::2.
// It vanishes when f returns.
func inNamespace6(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		runtime.LockOSThread() // never unlocked: the namespace goes with the thread
		defer close(done)
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		cable := &netlink.Veth{LinkAttrs: netlink.LinkAttrs{Name: "a0"}, PeerName: "b0"}
		if err := netlink.LinkAdd(cable); err != nil {
			t.Error(err)
			return
		}
		for _, x := range []struct{ device, addr string }{
			{"lo", "fd00::1/128"}, {"lo", "fd00::2/128"}, {"a0", "fe80::1/64"}, {"b0", "fe80::2/64"},
		} {
			link, err := netlink.LinkByName(x.device)
			if err != nil {
				t.Error(err)
				return
			}
			addr, err := netlink.ParseAddr(x.addr)
			if err != nil {
				t.Error(err)
				return
			}
			addr.Flags = unix.IFA_F_NODAD
			if err := errors.Join(netlink.LinkSetUp(link), netlink.AddrAdd(link, addr)); err != nil {
				t.Error(err)
				return
			}
			if !isLocal(addr.IP) {
				t.Errorf("the kernel does not take up %s", x.addr)
				return
			}
		}
		f()
	}()
	if err := <-done; err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatalf("make a network namespace: %v", err)
		}
		t.Skipf("cannot make a network namespace, run as root: %v", err)
	}
}

// isLocal waits until the kernel takes what is for a as its own, which it does a
// little later than it tells of the address.
func isLocal(a net.IP) bool {
	routes, done := make(chan netlink.RouteUpdate), make(chan struct{})
	defer close(done)
	if netlink.RouteSubscribeWithOptions(routes, done, netlink.RouteSubscribeOptions{ListExisting: true}) != nil {
		return false
	}
	for limit := time.After(5 * time.Second); ; {
		select {
		case r := <-routes:
			if r.Table == unix.RT_TABLE_LOCAL && r.Dst != nil && r.Dst.IP.Equal(a) {
				return true
			}
		case <-limit:
			return false
		}
	}
}

// open6 opens one lane at local.
func open6(t *testing.T, open func(Config) (*Conn, error), local string) end {
	t.Helper()
	c, err := open(Config{Local: netip.AddrPortFrom(netip.MustParseAddr(local), 8472)})
	if err != nil {
		t.Error(err)
		runtime.Goexit()
	}
	return end{c, c.Lanes()[0]}
}

var (
	one6 = netip.MustParseAddr("fd00::1")
	two6 = netip.MustParseAddr("fd00::2")
)

func TestSendReceive6(t *testing.T) {
	tests := []struct {
		name     string
		from, to string
		bytes    int
		size     int
	}{
		{"one small datagram", "fd00::1", "fd00::2", 50, 50},
		{"equal segments", "fd00::1", "fd00::2", 44 * 1452, 1452},
		{"shorter tail", "fd00::1", "fd00::2", 44*1452 - 700, 1452},
		{"most segments of a message", "fd00::1", "fd00::2", 63 * 100, 100},
		{"the largest that the loopback takes", "fd00::1", "fd00::2", 65536 - 48, 65536 - 48},
		{"link-local", "fe80::1%a0", "fe80::2%b0", 10 * 1400, 1400},
	}
	for name, open := range backends() {
		for _, tt := range tests {
			t.Run(name+", "+tt.name, func(t *testing.T) {
				inNamespace6(t, func() {
					a, b := open6(t, open, tt.from), open6(t, open, tt.to)
					defer a.Close()
					defer b.Close()
					segs, want := segments(tt.bytes, tt.size)
					m := []tunnel.Message{{To: netip.MustParseAddr(tt.to).WithZone(""), Segments: segs, Size: tt.size}}
					a.Send(m)
					if m[0].Err != nil {
						t.Errorf("send: %v", m[0].Err)
						return
					}
					got, last := receive(t, b, tt.bytes)
					if !slices.EqualFunc(got, want, bytes.Equal) {
						t.Errorf("got %d datagrams, want %d, or their contents differ", len(got), len(want))
					}
					if from := netip.MustParseAddr(tt.from).WithZone(""); last.From != from {
						t.Errorf("from %s, want %s", last.From, from)
					}
				})
			})
		}
	}
}

func TestTrafficClassCrosses(t *testing.T) {
	inNamespace6(t, func() {
		open := backends()["native with offloads"]
		a, b := open6(t, open, "fd00::1"), open6(t, open, "fd00::2")
		defer a.Close()
		defer b.Close()
		for _, tos := range []uint8{0, 1, 2, 3, 0xff} {
			segs, _ := segments(4000, 1000) // joined, where the kernel can
			a.Send([]tunnel.Message{{To: two6, Segments: segs, Size: 1000, TOS: tos}})
			if _, d := receive(t, b, 4000); d.TOS != tos {
				t.Errorf("got traffic class %d, want %d", d.TOS, tos)
			}
		}
		if got, want := a.Offloads(), []string{"udp-segment", "udp-gro"}; !slices.Equal(got, want) {
			t.Errorf("offloads %v, want %v", got, want)
		}
	})
}

func TestSendErrors6(t *testing.T) {
	inNamespace6(t, func() {
		a := open6(t, Open, "fd00::1")
		defer a.Close()
		for _, tt := range []struct {
			to    string
			bytes int
			want  error
		}{
			{"fd00::2", 1<<16 - 1, tunnel.ErrMTU}, // larger than a datagram can be
			{"2001:db8::1", 100, tunnel.ErrUnreachable},
		} {
			segs, _ := segments(tt.bytes, tt.bytes)
			m := []tunnel.Message{{To: netip.MustParseAddr(tt.to), Segments: segs, Size: tt.bytes}}
			if a.Send(m); !errors.Is(m[0].Err, tt.want) {
				t.Errorf("to %s: got error %v, want %v", tt.to, m[0].Err, tt.want)
			}
		}
	})
}

// Both families of one host, and several lanes, live beside each other on one
// port; nobody else can have it.
func TestPortOfBothFamilies(t *testing.T) {
	inNamespace6(t, func() {
		six, err := Open(Config{Local: netip.MustParseAddrPort("[fd00::1]:8472"), Lanes: 4})
		if err != nil {
			t.Error(err)
			return
		}
		defer six.Close()
		four, err := Open(Config{Local: netip.MustParseAddrPort("127.0.0.1:8472")})
		if err != nil {
			t.Error(err)
			return
		}
		defer four.Close()
		for _, local := range []string{"[::]:8473", "127.0.0.1:8473"} {
			c, err := Open(Config{Local: netip.MustParseAddrPort(local)})
			if err != nil {
				t.Errorf("%s: %v", local, err)
				return
			}
			defer c.Close()
		}
		if _, err := Open(Config{Local: netip.MustParseAddrPort("[fd00::1]:8472"), Lanes: 4}); !errors.Is(err, errPortTaken) {
			t.Errorf("the same port again: %v, want %v", err, errPortTaken)
		}
	})
}

// What comes without a checksum is refused and counted by the kernel, as a kernel
// VXLAN device has it.
func TestZeroChecksumIsRefused(t *testing.T) {
	inNamespace6(t, func() {
		b := open6(t, backends()["native with offloads"], "fd00::2")
		defer b.Close()
		for _, without := range []int{1, 0} {
			fd, err := unix.Socket(unix.AF_INET6, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
			if err != nil {
				t.Error(err)
				return
			}
			defer unix.Close(fd)
			const noCheck6TX = 101 // UDP_NO_CHECK6_TX
			err = errors.Join(
				unix.SetsockoptInt(fd, unix.IPPROTO_UDP, noCheck6TX, without),
				unix.Bind(fd, &unix.SockaddrInet6{Addr: one6.As16()}),
				unix.Sendto(fd, bytes.Repeat([]byte{byte(without)}, 100), 0, &unix.SockaddrInet6{Port: 8472, Addr: two6.As16()}),
			)
			if err != nil {
				t.Error(err)
				return
			}
		}
		got, _ := receive(t, b, 100)
		if len(got) != 1 || got[0][0] != 0 {
			t.Errorf("received %x, want only what came with a checksum", got)
		}
		if n := snmp6(t, "Udp6InCsumErrors"); n != 1 {
			t.Errorf("%d datagrams refused for their checksum, want 1", n)
		}
	})
}

// snmp6 returns a counter of this thread's network namespace.
func snmp6(t *testing.T, name string) int {
	t.Helper()
	text, err := os.ReadFile("/proc/thread-self/net/snmp6")
	if err != nil {
		t.Error(err)
	}
	for l := range strings.Lines(string(text)) {
		if f := strings.Fields(l); len(f) == 2 && f[0] == name {
			n, err := strconv.Atoi(f[1])
			if err != nil {
				t.Error(err)
			}
			return n
		}
	}
	t.Errorf("no counter %s", name)
	return -1
}

// The sockets go over to another address of IPv6, and to none of IPv4.
func TestRebind6(t *testing.T) {
	inNamespace6(t, func() {
		open := backends()["native with offloads"]
		a, b := open6(t, open, "fd00::1"), open6(t, open, "::1")
		defer a.Close()
		defer b.Close()
		for _, bad := range []string{"127.0.0.1", "::ffff:127.0.0.1", "2001:db8::1"} {
			if err := b.Rebind(netip.MustParseAddr(bad)); err == nil {
				t.Errorf("got no error for %s", bad)
			}
		}
		for _, to := range []string{"fd00::2", "fe80::2%b0", "fd00::2"} {
			if err := b.Rebind(netip.MustParseAddr(to)); err != nil {
				t.Errorf("%s: %v", to, err)
				return
			}
		}
		segs, _ := segments(4000, 1000)
		a.Send([]tunnel.Message{{To: two6, Segments: segs, Size: 1000, TOS: 2}})
		if _, d := receive(t, b, 4000); d.From != one6 || d.TOS != 2 {
			t.Errorf("got traffic class %d from %s", d.TOS, d.From)
		}
		b.Send([]tunnel.Message{{To: one6, Segments: segs, Size: 1000}})
		if _, d := receive(t, a, 4000); d.From != two6 {
			t.Errorf("sent from %s, want %s", d.From, two6)
		}
	})
}

func TestSendAndReceive6DoNotAllocate(t *testing.T) {
	inNamespace6(t, func() {
		open := backends()["native with offloads"]
		a, b := open6(t, open, "fd00::1"), open6(t, open, "fd00::2")
		defer a.Close()
		defer b.Close()
		segs, _ := segments(44*1452, 1452)
		messages := []tunnel.Message{{To: two6, Segments: segs, Size: 1452, TOS: 2}}
		datagrams := make([]tunnel.Datagram, 8)
		got := testing.AllocsPerRun(100, func() {
			a.Send(messages)
			if _, err := b.Receive(datagrams, true); err != nil {
				t.Error(err)
			}
		})
		if got != 0 {
			t.Errorf("%v allocations for one message, want 0", got)
		}
	})
}
