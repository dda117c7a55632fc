// SPDX-License-Identifier: Apache-2.0

package ports

import (
	"errors"
	"fmt"
	"net"
	"os"
	"syscall"
	"testing"

	"vxtap/cmd/vxlab/netns"
)

// Whoever asks for the port gets it, and loses it to nobody when it goes and
// comes again; until it is there connections are refused.
func TestAKeptPort(t *testing.T) {
	addr := Keep(t)
	for range 3 {
		if c, err := net.Dial("tcp", addr); !errors.Is(err, syscall.ECONNREFUSED) {
			t.Errorf("nobody listens: got %v, %v, want the connection to be refused", c, err)
		}
		l, err := net.Listen("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if second, err := net.Listen("tcp", addr); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("listened on twice: got %v, %v", second, err)
		}
		c, err := net.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		c.Close()
		l.Close()
	}
}

// The kernel has thousands of ports to choose from. Where there are four, all of
// which are kept, it finds none, neither for who listens nor for who connects.
func TestTheKernelChoosesAnother(t *testing.T) {
	name := fmt.Sprintf("vxports%d", os.Getpid())
	ns, err := netns.Create(name)
	if errors.Is(err, os.ErrPermission) && os.Getenv("CI") != "true" {
		t.Skipf("not run: network namespaces need root: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := errors.Join(ns.Close(), netns.Delete(name)); err != nil {
			t.Error(err)
		}
	})
	if err := ns.SetSysctl("net.ipv4.ip_local_port_range", "40000 40003"); err != nil {
		t.Fatal(err)
	}
	err = ns.Do(func() error {
		kept := make(map[string]bool)
		for range 4 {
			addr, release, err := keep()
			if err != nil {
				return err
			}
			defer release()
			kept[addr] = true
		}
		if len(kept) != 4 {
			t.Errorf("got %v, want four different ones", kept)
		}
		if l, err := net.Listen("tcp", "127.0.0.1:0"); !errors.Is(err, syscall.EADDRINUSE) {
			t.Errorf("listen: got %v, %v, want no port to be free", l, err)
		}
		l, err := net.Listen("tcp", "127.0.0.1:50000")
		if err != nil {
			return err
		}
		defer l.Close()
		if c, err := net.Dial("tcp", l.Addr().String()); !errors.Is(err, syscall.EADDRNOTAVAIL) {
			t.Errorf("connect: got %v, %v, want no port to be free", c, err)
		}
		return nil
	})
	if err != nil {
		t.Error(err)
	}
}
