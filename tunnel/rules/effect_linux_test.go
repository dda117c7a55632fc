// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"errors"
	"fmt"
	"net"
	"net/netip"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/netns"
)

// world is a host whose rules are tested, with a container, a second host of
// the overlay with a container of its own, and the outside. The overlay is a
// plain wire here: rules do not see what carries it.
//
//	container 10.5.1.5 -- host 10.5.1.1, 192.0.2.1, 10.5.1.0 -- 10.5.2.5 container elsewhere
//	                        |
//	                     outside 192.0.2.9, 198.51.100.9
type world struct {
	host, container, elsewhere, outside space
}

const (
	hostAddr      = "192.0.2.1"
	overlayAddr   = "10.5.1.0" // of the host's overlay device
	containerAddr = "10.5.1.5"
	elsewhereAddr = "10.5.2.5"
	outsideAddr   = "192.0.2.9"
	excludedAddr  = "198.51.100.9" // also outside
	secondAddr    = "203.0.113.1"  // also of the host
	echoPort      = "7007"
)

// newWorldOf makes a world of the family.
func newWorldOf(t *testing.T, f family) world {
	t.Helper()
	if f == six {
		return newWorld6(t)
	}
	return newWorld(t)
}

func newWorld(t *testing.T) world {
	t.Helper()
	w := world{newSpace(t, "h"), newSpace(t, "c"), newSpace(t, "e"), newSpace(t, "o")}
	for _, l := range []struct {
		peer       space
		name       string
		ours, mine string
		gateway    string
	}{
		{w.container, "cni0", "10.5.1.1/24", containerAddr + "/24", "10.5.1.1"},
		{w.elsewhere, "flannel.1", overlayAddr + "/32", elsewhereAddr + "/32", ""},
		{w.outside, "eth0", hostAddr + "/24", outsideAddr + "/24", ""},
	} {
		err := netns.AddVeth(w.host.Namespace, l.name, l.peer.Namespace, "eth0", 1500)
		if err == nil {
			err = errors.Join(w.host.AddAddr(l.name, netip.MustParsePrefix(l.ours)), w.host.SetUp(l.name),
				l.peer.AddAddr("eth0", netip.MustParsePrefix(l.mine)), l.peer.SetUp("eth0"))
		}
		if err != nil {
			t.Fatal(err)
		}
		if l.gateway != "" {
			l.peer.run("ip route add default via " + l.gateway)
		}
	}
	w.host.run("sysctl -qw net.ipv4.ip_forward=1; ip route add 10.5.0.0/16 dev flannel.1 src " + overlayAddr + "; ip route add 198.51.100.0/24 dev eth0; ip addr add " + secondAddr + "/32 dev lo")
	w.elsewhere.run("ip route add default via " + overlayAddr + " dev eth0 onlink")
	w.outside.run("ip addr add " + excludedAddr + "/32 dev lo; ip route add 10.5.0.0/16 via " + hostAddr)
	w.container.echo(containerAddr)
	w.elsewhere.echo(elsewhereAddr)
	w.outside.echo(outsideAddr)
	w.outside.echo(excludedAddr)
	return w
}

// echo answers datagrams to addr with the address that they came from, until the
// test ends.
func (s space) echo(addr string) {
	s.Helper()
	var conn net.PacketConn
	err := s.Do(func() (err error) {
		conn, err = net.ListenPacket("udp", net.JoinHostPort(addr, echoPort))
		return err
	})
	if err != nil {
		s.Fatal(err)
	}
	done := make(chan struct{})
	go func() {
		defer close(done)
		b := make([]byte, 64)
		for {
			_, from, err := conn.ReadFrom(b)
			if err != nil {
				return
			}
			// Who cannot be answered hears nothing.
			_, _ = conn.WriteTo([]byte(from.String()), from)
		}
	}()
	s.Cleanup(func() { conn.Close(); <-done })
}

// seen sends a datagram and returns the address that the receiver saw, or
// "dropped".
func (s space) seen(from, to string) string {
	s.Helper()
	var conn net.Conn
	err := s.Do(func() (err error) {
		d := net.Dialer{}
		if from != "" {
			d.LocalAddr = &net.UDPAddr{IP: net.ParseIP(from)}
		}
		conn, err = d.DialContext(s.Context(), "udp", net.JoinHostPort(to, echoPort))
		return err
	})
	if err != nil {
		s.Fatal(err)
	}
	defer conn.Close()
	b := make([]byte, 64)
	// A first datagram may be lost to ARP's patience; a flow keeps its rules.
	for range 3 {
		if _, err := conn.Write([]byte("who?")); err != nil {
			return "dropped"
		}
		if err := conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
			s.Fatal(err)
		}
		if n, err := conn.Read(b); err == nil {
			return netip.MustParseAddrPort(string(b[:n])).Addr().String()
		}
	}
	return "dropped"
}

func TestWhoIsMasqueraded(t *testing.T) {
	need(t, "nft", "iptables", "iptables-restore", "ip6tables", "ip6tables-restore", "ip", "sysctl")
	everywhere(t, func(t *testing.T, f family, k Kind) {
		w := newWorldOf(t, f)
		p := f.plan(k)
		p.Exclude = []netip.Prefix{netip.MustParsePrefix("198.51.100.0/24"), netip.MustParsePrefix("2001:db8:9::/48")}
		w.host.apply(p)
		for _, tt := range []struct {
			name     string
			who      space
			from, to string
			want     string
		}{
			{"container to container elsewhere", w.container, "", elsewhereAddr, containerAddr},
			{"container elsewhere to container", w.elsewhere, "", containerAddr, elsewhereAddr},
			{"container to outside", w.container, "", outsideAddr, hostAddr},
			{"container to what is excluded", w.container, "", excludedAddr, containerAddr},
			{"container elsewhere to outside, by this host", w.elsewhere, "", outsideAddr, hostAddr},
			{"outside to container", w.outside, "", containerAddr, outsideAddr},
			{"host to its container", w.host, hostAddr, containerAddr, hostAddr},
			{"host to container elsewhere", w.host, "", elsewhereAddr, overlayAddr},
			{"host to container elsewhere, from another of its addresses", w.host, secondAddr, elsewhereAddr, overlayAddr},
			{"outside to container elsewhere, by this host", w.outside, "", elsewhereAddr, overlayAddr},
			{"host to outside", w.host, "", outsideAddr, hostAddr},
		} {
			if got, want := tt.who.seen(f.in(tt.from), f.in(tt.to)), f.in(tt.want); got != want {
				t.Errorf("%s: got source %s, want %s", tt.name, got, want)
			}
		}

		// What kube-proxy has marked is left to it, whatever else is in the mark.
		w.host.run(f.in("nft add table ip marks; nft add chain ip marks p '{ type filter hook prerouting priority -150; }'; nft add rule ip marks p iifname cni0 meta mark set 0x14001"))
		if got, want := w.container.seen("", f.in(outsideAddr)), f.in(containerAddr); got != want {
			t.Errorf("marked: got source %s, want %s", got, want)
		}
	})
}

// A change of rules is one step: no flow begins in the middle of it.
func TestNoFlowSlipsThroughAChange(t *testing.T) {
	need(t, "nft", "iptables", "iptables-restore", "ip", "sysctl")
	both(t, func(t *testing.T, k Kind) {
		w := newWorld(t)
		w.host.run("iptables -P FORWARD DROP")
		p, more := plan(k), exclude(plan(k))
		more.Previous, p.Previous = netip.MustParsePrefix("10.6.0.0/16"), netip.MustParsePrefix("10.6.0.0/16")
		elsewhere := p // our place in another network, which containers are still in
		elsewhere.Network, elsewhere.Subnet, elsewhere.Previous = netip.MustParsePrefix("10.4.0.0/15"), netip.MustParsePrefix("10.5.2.0/24"), p.Network
		back := p
		back.Previous = elsewhere.Network
		want := hostAddr
		if k == NFTables {
			w.host.run("iptables -P FORWARD ACCEPT")
		}
		w.host.apply(p)
		stop := make(chan struct{})
		flows := make(chan int)
		go func() {
			n := 0
			defer func() { flows <- n }()
			for {
				select {
				case <-stop:
					return
				default:
				}
				if got := w.container.seen("", outsideAddr); got != want {
					t.Errorf("flow %d: got source %s, want %s", n, got, want)
					return
				}
				n++
			}
		}()
		changes := 0
		for range 8 {
			for _, next := range []Plan{more, p, elsewhere, back} {
				changes += len(w.host.apply(next))
			}
		}
		close(stop)
		n := <-flows
		t.Logf("%d flows began during %d changes", n, changes)
		if n < changes {
			t.Errorf("got %d flows during %d changes", n, changes)
		}
	})
}

// With flannel's own fourth rule, in place of ours, what a host sends to
// containers elsewhere keeps a source that nobody there can answer (F9).
func TestFlannelsFourthRule(t *testing.T) {
	need(t, "nft", "ip", "sysctl")
	w := newWorld(t)
	theirs := strings.NewReplacer("saddr != 10.5.0.0/16 ip daddr 10.5.1.0/24", "saddr != 10.5.1.0/24 ip daddr 10.5.0.0/16").Replace(goldenNFT)
	w.host.run("nft -f - <<'E'\n" + theirs + "E")
	if got := w.host.seen(secondAddr, elsewhereAddr); got == overlayAddr {
		t.Errorf("got source %s: flannel's rule is not wrong any more", got)
	}
	w.host.apply(plan(NFTables))
	if got := w.host.seen(secondAddr, elsewhereAddr); got != overlayAddr {
		t.Errorf("got source %s, want %s", got, overlayAddr)
	}
}

// Multicast from a container keeps its source.
func TestMulticastIsNotMasqueraded(t *testing.T) {
	need(t, "nft", "iptables", "iptables-restore", "ip", "sysctl")
	both(t, func(t *testing.T, k Kind) {
		w := newWorld(t)
		w.host.apply(plan(k))
		// With an address of a container the host sends what a container would.
		w.host.run("ip addr add 10.5.1.77/32 dev eth0; ip route add 224.0.0.0/4 dev eth0")
		frames := make(chan string, 1)
		var conn net.PacketConn
		err := w.outside.Do(func() (err error) {
			eth, err := net.InterfaceByName("eth0")
			if err != nil {
				return err
			}
			conn, err = net.ListenMulticastUDP("udp4", eth, &net.UDPAddr{IP: net.IPv4(239, 1, 2, 3), Port: 7008})
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		go func() {
			b := make([]byte, 64)
			if _, from, err := conn.ReadFrom(b); err == nil {
				frames <- netip.MustParseAddrPort(from.String()).Addr().String()
			}
			close(frames)
		}()
		w.outside.run("sysctl -qw net.ipv4.conf.all.rp_filter=0 net.ipv4.conf.eth0.rp_filter=0")
		err = w.host.Do(func() error {
			c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.IPv4(10, 5, 1, 77)}, &net.UDPAddr{IP: net.IPv4(239, 1, 2, 3), Port: 7008})
			if err != nil {
				return err
			}
			defer c.Close()
			for range 5 {
				if _, err := c.Write([]byte("hello")); err != nil {
					return err
				}
				select {
				case got := <-frames:
					if got != "10.5.1.77" {
						t.Errorf("got source %s, want 10.5.1.77", got)
					}
					return nil
				case <-time.After(300 * time.Millisecond):
				}
			}
			return errors.New("no multicast came through")
		})
		if err != nil {
			t.Error(err)
		}
	})
}

// A policy of drop is overruled in the chains of iptables. It cannot be from a
// table of nftables of one's own, as flannel's is: then it is said who drops. One
// for the other family is none of its business.
func TestForwardRulesAndADropPolicy(t *testing.T) {
	need(t, "nft", "iptables", "iptables-restore", "ip6tables", "ip6tables-restore", "ip", "sysctl")
	const ofBoth = "nft add table inet fw; nft add chain inet fw f '{ type filter hook forward priority 0; policy drop; }'"
	for _, tt := range []struct {
		kind          Kind
		policy        string
		without, want string // seen without our rules, and with them
		dropping      string
	}{
		{IPTables, "iptables -P FORWARD DROP", "dropped", elsewhereAddr, ""},
		{NFTables, "iptables -P FORWARD DROP", "dropped", "dropped", "ip filter FORWARD"},
		{NFTables, "ip6tables -P FORWARD DROP", elsewhereAddr, elsewhereAddr, ""},
		{NFTables, ofBoth, "dropped", "dropped", "inet fw f"},
		{IPTables, ofBoth, "dropped", "dropped", "inet fw f"},
	} {
		for _, f := range []family{four, six} {
			t.Run(fmt.Sprintf("%s, %s: %s", f, tt.kind, f.in(tt.policy)), func(t *testing.T) {
				w := newWorldOf(t, f)
				w.host.run(f.in(tt.policy))
				if got, want := w.elsewhere.seen("", f.in(containerAddr)), f.in(tt.without); got != want {
					t.Errorf("without rules: got %s, want %s", got, want)
				}
				p := f.plan(tt.kind)
				w.host.apply(p)
				if got, want := w.elsewhere.seen("", f.in(containerAddr)), f.in(tt.want); got != want {
					t.Errorf("got %s, want %s", got, want)
				}
				var dropping []string
				err := w.host.Do(func() (err error) {
					dropping, err = Dropping(p)
					return err
				})
				if got, want := strings.Join(dropping, ", "), f.in(tt.dropping); err != nil || got != want {
					t.Errorf("got %q said to drop, and %v, want %q", got, err, want)
				}
				p.Forward = false
				if got, err := Dropping(p); got != nil || err != nil {
					t.Errorf("got %v without forward rules, and %v", got, err)
				}
			})
		}
	}
}

// What comes by the uplink device is forwarded, and the tunnel's own datagrams
// keep their source and port whatever the rules.
func TestTheTunnelsOwnDatagrams(t *testing.T) {
	need(t, "nft", "iptables", "iptables-restore", "ip", "sysctl")
	both(t, func(t *testing.T, k Kind) {
		w := newWorld(t)
		// A wire in place of the uplink TAP: what comes by it has an address of the
		// host as its source, as the switch writes it.
		uplink := newSpace(t, "u")
		if err := netns.AddVeth(w.host.Namespace, "vxup.1", uplink.Namespace, "eth0", 1500); err != nil {
			t.Fatal(err)
		}
		w.host.run("ip link set vxup.1 up; sysctl -qw net.ipv4.conf.vxup/1.accept_local=1 net.ipv4.conf.vxup/1.rp_filter=0 net.ipv4.conf.all.rp_filter=0")
		mac := strings.TrimSpace(w.host.run("ip -br link show dev vxup.1 | awk '{ print $3 }'"))
		uplink.run("ip addr add " + hostAddr + "/32 dev eth0; ip link set eth0 up; ip route add default dev eth0; ip neigh add " + outsideAddr + " lladdr " + mac + " dev eth0")
		if k == IPTables {
			w.host.run("iptables -P FORWARD DROP")
		}
		p := plan(k)
		p.Whole = true
		w.host.apply(p)
		var got string
		var conn net.PacketConn
		err := w.outside.Do(func() (err error) {
			conn, err = net.ListenPacket("udp4", outsideAddr+":8472")
			return err
		})
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		err = uplink.Do(func() error {
			c, err := net.DialUDP("udp4", &net.UDPAddr{IP: net.ParseIP(hostAddr), Port: 50000}, &net.UDPAddr{IP: net.ParseIP(outsideAddr), Port: 8472})
			if err != nil {
				return err
			}
			defer c.Close()
			b := make([]byte, 64)
			for range 5 {
				if _, err := c.Write([]byte("vxlan")); err != nil {
					return err
				}
				if err := conn.SetReadDeadline(time.Now().Add(300 * time.Millisecond)); err != nil {
					return err
				}
				if _, from, err := conn.ReadFrom(b); err == nil {
					got = from.String()
					return nil
				}
			}
			return errors.New("nothing came through")
		})
		if want := hostAddr + ":50000"; err != nil || got != want {
			t.Errorf("got a datagram from %q and error %v, want %s", got, err, want)
		}
	})
}
