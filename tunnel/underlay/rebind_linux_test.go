// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"errors"
	"net/netip"
	"os"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxtap/tunnel"
)

var thirdAddr = netip.MustParseAddr("127.0.0.3")

// sendOne sends one datagram from a to an address.
func sendOne(t *testing.T, a end, to netip.Addr) {
	t.Helper()
	segs, _ := segments(100, 100)
	m := []tunnel.Message{{To: to, Segments: segs, Size: 100}}
	if a.Send(m); m[0].Err != nil {
		t.Fatal(m[0].Err)
	}
}

// The sockets go over to another address while somebody sleeps on them: what is
// sent to it arrives, what is sent from here has it, ports and offloads stay.
func TestRebind(t *testing.T) {
	a, b := pair(t, backends()["native with offloads"])
	ports, offloads := slices.Clone(b.SourcePorts()), b.Offloads()
	got := make(chan tunnel.Datagram)
	go func() {
		defer close(got)
		for range 2 {
			d := make([]tunnel.Datagram, 8)
			if _, err := b.Receive(d, true); err != nil {
				return
			}
			got <- d[0]
		}
	}()
	sendOne(t, a, netip.MustParseAddr("127.0.0.2"))
	<-got // and it sleeps again
	if err := b.Rebind(thirdAddr); err != nil {
		t.Fatal(err)
	}
	timeout := time.AfterFunc(5*time.Second, b.Interrupt)
	defer timeout.Stop()
	sendOne(t, a, thirdAddr)
	if d, ok := <-got; !ok || len(d.Data) != 100 {
		t.Fatalf("got %d bytes at the new address, %v", len(d.Data), ok)
	}
	sendOne(t, b, netip.MustParseAddr("127.0.0.1"))
	if _, last := receive(t, a, 100); last.From != thirdAddr {
		t.Errorf("sent from %s, want %s", last.From, thirdAddr)
	}
	if !slices.Equal(b.SourcePorts(), ports) || !slices.Equal(b.Offloads(), offloads) {
		t.Errorf("got ports %v and offloads %v, want %v and %v", b.SourcePorts(), b.Offloads(), ports, offloads)
	}
	if err := b.Rebind(netip.MustParseAddr("127.0.0.2")); err != nil {
		t.Errorf("and back: %v", err)
	}
}

// A move that fails changes nothing, and leaves no descriptor open.
func TestRebindThatFails(t *testing.T) {
	a, b := pair(t, Open)
	before := openFiles(t)
	if err := b.Rebind(netip.MustParseAddr("192.0.2.1")); !errors.Is(err, unix.EADDRNOTAVAIL) {
		t.Errorf("to an address that is not here: got %v", err)
	}
	if err := b.Rebind(netip.MustParseAddr("127.0.0.1")); !errors.Is(err, unix.EADDRINUSE) {
		t.Errorf("to where somebody is: got %v", err)
	}
	if err := b.Rebind(netip.MustParseAddr("::1")); err == nil {
		t.Error("to an IPv6 address: got no error")
	}
	if after := openFiles(t); after != before {
		t.Errorf("%d descriptors are open, %d were", after, before)
	}
	sendOne(t, a, netip.MustParseAddr("127.0.0.2"))
	receive(t, b, 100)
}

func TestRebindOfWhatCannot(t *testing.T) {
	_, b := pair(t, openPortable)
	if err := b.Rebind(thirdAddr); !errors.Is(err, errors.ErrUnsupported) {
		t.Errorf("got %v, want ErrUnsupported", err)
	}
}

// Lanes share the port after a move too, and nobody else gets a part of it.
func TestRebindOfLanes(t *testing.T) {
	var c *Conn
	for port := uint16(20200); c == nil && port < 20300; port++ {
		conn, err := Open(Config{Local: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), port), Lanes: 4})
		if errors.Is(err, errPortTaken) {
			continue
		}
		if err != nil {
			t.Fatal(err)
		}
		c = conn
	}
	t.Cleanup(func() { c.Close() })
	port := uint16(localPort(t, c.Lanes()[0].Descriptor()))
	if err := c.Rebind(thirdAddr); err != nil {
		t.Fatal(err)
	}
	for i, l := range c.Lanes() {
		if got := uint16(localPort(t, l.Descriptor())); got != port {
			t.Errorf("lane %d has port %d, want %d", i, got, port)
		}
	}
	again, err := Open(Config{Local: netip.AddrPortFrom(thirdAddr, port), Lanes: 4})
	if err == nil {
		again.Close()
	}
	if !errors.Is(err, errPortTaken) {
		t.Errorf("the same port again: %v, want %v", err, errPortTaken)
	}
	free, err := Open(Config{Local: netip.AddrPortFrom(netip.MustParseAddr("127.0.0.2"), port)})
	if err != nil {
		t.Errorf("the old address is still taken: %v", err)
	} else {
		free.Close()
	}
}

func openFiles(t *testing.T) int {
	t.Helper()
	all, err := os.ReadDir("/proc/self/fd")
	if err != nil {
		t.Fatal(err)
	}
	return len(all)
}
