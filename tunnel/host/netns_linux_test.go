// SPDX-License-Identifier: Apache-2.0

package host

import (
	"os"
	"runtime"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

// inNamespace runs f in a network namespace of its own, which vanishes with
// everything in it when f returns. f must not call t.Parallel or t.Run.
func inNamespace(t *testing.T, f func()) {
	t.Helper()
	done := make(chan error, 1)
	go func() {
		// Never unlocked: the runtime ends the thread with the goroutine, and
		// with the thread goes the namespace. t.FailNow inside f ends the
		// goroutine as well; the deferred close then unblocks the test.
		runtime.LockOSThread()
		defer close(done)
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			done <- err
			return
		}
		f()
	}()
	if err := <-done; err != nil {
		needRoot(t, err)
	}
}

// needRoot skips with the reason, except where every capability has to be.
func needRoot(t *testing.T, err error) {
	t.Helper()
	if os.Getenv("CI") == "true" {
		t.Fatalf("make a network namespace: %v", err)
	}
	t.Skipf("cannot make a network namespace, run as root: %v", err)
}

// addLink makes a link and returns it as the kernel knows it.
func addLink(t *testing.T, l netlink.Link) netlink.Link {
	t.Helper()
	if err := netlink.LinkAdd(l); err != nil {
		t.Errorf("add link %s: %v", l.Attrs().Name, err)
		runtime.Goexit()
	}
	link, err := netlink.LinkByName(l.Attrs().Name)
	if err != nil {
		t.Errorf("look for link %s: %v", l.Attrs().Name, err)
		runtime.Goexit()
	}
	return link
}

// addInterface makes an interface that is up and has the given addresses: a
// bridge without ports, which every kernel with containers has.
func addInterface(t *testing.T, name string, addrs ...string) netlink.Link {
	t.Helper()
	link := addLink(t, &netlink.Bridge{LinkAttrs: netlink.LinkAttrs{Name: name, MTU: 1500}})
	for _, a := range addrs {
		addr, err := netlink.ParseAddr(a)
		if err != nil {
			t.Fatal(err)
		}
		must(t, netlink.AddrAdd(link, addr))
	}
	must(t, netlink.LinkSetUp(link))
	return link
}

// addTAP makes a persistent TAP, which stands in for the switch's own.
func addTAP(t *testing.T, name string) netlink.Link {
	t.Helper()
	return addLink(t, &netlink.Tuntap{
		LinkAttrs: netlink.LinkAttrs{Name: name},
		Mode:      netlink.TUNTAP_MODE_TAP,
		Flags:     netlink.TUNTAP_NO_PI,
	})
}

func must(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Error(err)
		runtime.Goexit()
	}
}
