// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"errors"
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"github.com/vishvananda/netns"
)

// newHost moves the test into a network namespace of its own, a host with the
// address 192.0.2.1 on eth0, whose only neighbour is 192.0.2.2.
func newHost(t *testing.T) (eth0 netlink.Link) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("network namespaces need root")
		}
		t.Skip("not run: network namespaces need root")
	}
	runtime.LockOSThread() // and never unlocked: the thread dies with the goroutine
	far, err := netns.New()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { far.Close() })
	if _, err := netns.New(); err != nil {
		t.Fatal(err)
	}
	attrs := netlink.NewLinkAttrs()
	attrs.Name = "eth0"
	if err := netlink.LinkAdd(&netlink.Veth{LinkAttrs: attrs, PeerName: "eth0", PeerNamespace: netlink.NsFd(far)}); err != nil {
		t.Fatal(err)
	}
	there, err := netlink.NewHandleAt(far)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(there.Close)
	here, err := netlink.NewHandle()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(here.Close)
	for addr, h := range map[string]*netlink.Handle{"192.0.2.1/24": here, "192.0.2.2/24": there} {
		link, err := h.LinkByName("eth0")
		if err != nil {
			t.Fatal(err)
		}
		a, err := netlink.ParseAddr(addr)
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(h.AddrAdd(link, a), h.LinkSetUp(link)); err != nil {
			t.Fatal(err)
		}
		if h == here {
			eth0 = link
		}
	}
	return eth0
}

// openOn opens the uplink TAP of a new host.
func openOn(t *testing.T) *Device {
	t.Helper()
	newHost(t)
	return open(t)
}

// open opens the uplink TAP of the test's host until the test ends.
func open(t *testing.T) *Device {
	t.Helper()
	d := openFor(t)
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

func openFor(t *testing.T) *Device {
	t.Helper()
	d, err := Open(config(false))
	if errors.Is(err, errors.ErrUnsupported) {
		t.Skipf("not run: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	return d
}

func config(must bool) Config {
	return Config{Name: "vxup.1", Local: local, MTU: 1450, Must: must, Ports: []uint16{49152, 49153, 49154, 49155}}
}

// prove asks about the host's neighbour, until there is an answer: a neighbour
// may take a while to answer on a busy machine.
func prove(d *Device) answer {
	for range 20 {
		if a := d.ask([]question{{vtep: peerAddr, anew: true}})[0]; a.verdict != unknown {
			return a
		}
	}
	return answer{}
}

func sysctl(t *testing.T, name, value string) {
	t.Helper()
	if err := os.WriteFile("/proc/sys/"+name, []byte(value), 0); err != nil {
		t.Fatal(err)
	}
}
