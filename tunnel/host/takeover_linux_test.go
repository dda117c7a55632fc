// SPDX-License-Identifier: Apache-2.0

package host

import (
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/vishvananda/netlink"
)

func TestFindKernelVXLAN(t *testing.T) {
	tests := []struct {
		name  string
		setup func(t *testing.T)
		found bool
		want  string // "": no error
	}{
		{"no such device", func(*testing.T) {}, false, ""},
		{"what flanneld leaves", func(t *testing.T) { addVXLAN(t, "flannel.1", 8472) }, true, ""},
		{"a device that is down, and has no port", func(t *testing.T) {
			addLink(t, &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "flannel.1"}, VxlanId: 1, Port: 8472})
		}, true, ""},
		{"a device on another port", func(t *testing.T) { addVXLAN(t, "flannel.1", 4789) }, true, ""},
		{"another VNI", func(t *testing.T) {
			addLink(t, &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "flannel.1"}, VxlanId: 7, Port: 8472})
		}, false, "device flannel.1 has VNI 7, and this network has 1"},
		{"no vxlan device", func(t *testing.T) { addInterface(t, "flannel.1") }, false, "of type bridge"},
		{"a vxtap's TAP", func(t *testing.T) { lendTAP(t, "flannel.1") }, false, "device flannel.1 is in use by sleep (pid "},
		{"a flanneld that runs", func(t *testing.T) {
			addVXLAN(t, "flannel.1", 8472)
			runAs(t, "flanneld")
		}, false, "runs here and would make flannel.1 again: stop it first"},
		{"a flanneld as flannel's releases call it", func(t *testing.T) {
			addVXLAN(t, "flannel.1", 8472)
			runAs(t, "flanneld-v0.28.10-amd64") // longer than the kernel's name of a process
		}, false, "flanneld-v0.28. (pid "},
		{"a program that only has the word in its name", func(t *testing.T) {
			addVXLAN(t, "flannel.1", 8472)
			runAs(t, "not-flanneld")
		}, true, ""},
		{"a flanneld in another namespace", func(t *testing.T) {
			addVXLAN(t, "flannel.1", 8472)
			inNamespace(t, func() { runAs(t, "flanneld") })
		}, true, ""},
		{"another device that shares the port", func(t *testing.T) {
			addVXLAN(t, "flannel.1", 8472)
			must(t, netlink.LinkSetUp(addLink(t, &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "vx9"}, VxlanId: 9, Port: 8472})))
		}, false, "UDP port 8472 is shared by flannel.1 and the kernel vxlan device vx9"},
		{"a device of IPv6, which has the port for itself", func(t *testing.T) {
			addVXLAN(t, "flannel.1", 8472)
			must(t, netlink.LinkSetUp(addLink(t, &netlink.Vxlan{
				LinkAttrs: netlink.LinkAttrs{Name: "flannel-v6.1"}, VxlanId: 1, Port: 8472, SrcAddr: net.ParseIP("fd00::1"),
			})))
		}, true, ""},
		{"another process on the port, while the device is down", func(t *testing.T) {
			addLink(t, &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: "flannel.1"}, VxlanId: 1, Port: 8472})
			listen(t, "127.0.0.1:8472")
		}, false, "is taken by"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inNamespace(t, func() {
				lo, err := netlink.LinkByName("lo")
				must(t, err)
				must(t, netlink.LinkSetUp(lo))
				tt.setup(t)
				local := netip.AddrPortFrom(loopback, 8472)
				k, found, err := FindKernelVXLAN("flannel.1", 1, local)
				checkError(t, err, tt.want)
				if found != tt.found {
					t.Fatalf("got found %t, want %t", found, tt.found)
				}
				if !found {
					return
				}
				// The way must be free afterwards, which is what it is for.
				link, err := netlink.LinkByName("flannel.1")
				must(t, err)
				if k.MAC.String() != link.Attrs().HardwareAddr.String() {
					t.Errorf("got MAC %s, want the device's %s", k.MAC, link.Attrs().HardwareAddr)
				}
				must(t, k.Remove())
				must(t, CheckFree("flannel.1", 8472, loopback))
				must(t, k.Remove())
			})
		})
	}
}

// Between the look and the deletion somebody may have made another one.
func TestRemoveOfADeviceThatIsAnotherOneNow(t *testing.T) {
	inNamespace(t, func() {
		addVXLAN(t, "flannel.1", 8472)
		k, found, err := FindKernelVXLAN("flannel.1", 1, netip.AddrPortFrom(loopback, 8472))
		if err != nil || !found {
			t.Fatalf("got %t and error %v, want the device", found, err)
		}
		link, err := netlink.LinkByName("flannel.1")
		must(t, err)
		must(t, netlink.LinkDel(link))
		addVXLAN(t, "flannel.1", 8472)
		checkError(t, k.Remove(), "is another one than a moment ago")
		if _, err := netlink.LinkByName("flannel.1"); err != nil {
			t.Errorf("the new device is gone: %v", err)
		}
	})
}

// runAs runs a program of that name in this namespace.
func runAs(t *testing.T, name string) {
	t.Helper()
	sleep, err := exec.LookPath("sleep")
	must(t, err)
	path := filepath.Join(t.TempDir(), name)
	must(t, os.Symlink(sleep, path))
	cmd := exec.Command(path, "60")
	must(t, cmd.Start()) // on this thread, and so in its namespace
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has not ended yet
		_ = cmd.Wait()
	})
}
