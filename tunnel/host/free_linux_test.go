// SPDX-License-Identifier: Apache-2.0

package host

import (
	"encoding/binary"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"
)

var loopback = netip.MustParseAddr("127.0.0.1")

func TestPreflight(t *testing.T) {
	err := Preflight()
	if err != nil {
		needRoot(t, err)
	}
}

func TestPreflightWithoutCapability(t *testing.T) {
	// Capabilities belong to the thread, and the thread ends with f.
	inNamespace(t, func() {
		header := unix.CapUserHeader{Version: unix.LINUX_CAPABILITY_VERSION_3}
		var data [2]unix.CapUserData
		must(t, unix.Capget(&header, &data[0]))
		data[0].Effective &^= 1 << unix.CAP_NET_ADMIN
		must(t, unix.Capset(&header, &data[0]))
		if err := Preflight(); err == nil || !strings.Contains(err.Error(), "--cap-add NET_ADMIN") {
			t.Errorf("got error %v, want one that says how to get CAP_NET_ADMIN", err)
		}
	})
}

func TestTunError(t *testing.T) {
	tests := []struct {
		name string
		err  error
		want string
	}{
		{"no such file", fs.ErrNotExist, "is missing: load the module with modprobe tun"},
		{"no driver behind the node", unix.ENODEV, "has no TUN/TAP driver"},
		{"device cgroup", unix.EPERM, "may not be opened: run as root"},
		{"another", unix.EMFILE, "too many open files"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := tunError(&fs.PathError{Op: "open", Path: tunPath, Err: tt.err}).Error()
			if !strings.Contains(got, tt.want) {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestCheckFreeDevice(t *testing.T) {
	tests := []struct {
		name   string
		device string
		setup  func(t *testing.T)
		want   string // "": free
	}{
		{"free", "flannel.1", func(*testing.T) {}, ""},
		{"name too long", "flannel.16777215", func(*testing.T) {}, "longer than the 15 characters"},
		{"kernel vxlan left by flanneld", "flannel.1", func(t *testing.T) { addVXLAN(t, "flannel.1", 4789) }, "ip link del flannel.1"},
		{"persistent TAP", "flannel.1", func(t *testing.T) { addTAP(t, "flannel.1") }, "of type tuntap"},
		{"another device", "flannel.1", func(t *testing.T) { addInterface(t, "flannel.1") }, "of type bridge"},
		{"TAP of a living process", "flannel.1", func(t *testing.T) { lendTAP(t, "flannel.1") }, "device flannel.1 is in use by sleep (pid "},
		{"TAP of a process in another namespace", "flannel.1", func(t *testing.T) {
			inNamespace(t, func() { lendTAP(t, "flannel.1") })
		}, ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inNamespace(t, func() {
				addInterface(t, "in0", "10.1.0.1/24")
				tt.setup(t)
				checkError(t, CheckFree(tt.device, 8472, netip.MustParseAddr("10.1.0.1")), tt.want)
			})
		})
	}
}

func TestCheckFreePort(t *testing.T) {
	tests := []struct {
		name  string
		setup func(t *testing.T)
		local netip.Addr
		want  string
	}{
		{"free", func(*testing.T) {}, loopback, ""},
		{"kernel vxlan device", func(t *testing.T) { addVXLAN(t, "vx9", 8472) }, loopback, "taken by the kernel vxlan device vx9"},
		{"kernel vxlan device on another port", func(t *testing.T) { addVXLAN(t, "vx9", 4789) }, loopback, ""},
		{"process on the address", func(t *testing.T) { listen(t, "127.0.0.1:8472") }, loopback, fmt.Sprintf("(pid %d)", os.Getpid())},
		{"process on all addresses", func(t *testing.T) { listen(t, "0.0.0.0:8472") }, loopback, fmt.Sprintf("(pid %d)", os.Getpid())},
		{"process on all addresses of both families", func(t *testing.T) { listen(t, "[::]:8472") }, loopback, fmt.Sprintf("(pid %d)", os.Getpid())},
		{"process on another address", func(t *testing.T) { listen(t, "127.0.0.2:8472") }, loopback, ""},
		{"address of another host", func(*testing.T) {}, netip.MustParseAddr("192.0.2.99"), "192.0.2.99 is not on this host"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			inNamespace(t, func() {
				lo, err := netlink.LinkByName("lo")
				must(t, err)
				must(t, netlink.LinkSetUp(lo))
				tt.setup(t)
				checkError(t, CheckFree("flannel.1", 8472, tt.local), tt.want)
			})
		})
	}
}

// checkError wants an error of one line that contains want, or none for "".
func checkError(t *testing.T, err error, want string) {
	t.Helper()
	switch {
	case want == "" && err != nil:
		t.Errorf("got error %v, want none", err)
	case want != "" && err == nil:
		t.Errorf("got no error, want %q", want)
	case want != "" && (!strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "\n")):
		t.Errorf("got error %q, want one line with %q", err, want)
	}
}

// addVXLAN makes a kernel vxlan device as flanneld does, and brings it up: only
// then does it hold its port.
func addVXLAN(t *testing.T, name string, port int) {
	t.Helper()
	l := addLink(t, &netlink.Vxlan{LinkAttrs: netlink.LinkAttrs{Name: name}, VxlanId: 1, Port: port})
	must(t, netlink.LinkSetUp(l))
}

// lendTAP makes a TAP that a process of this namespace holds.
func lendTAP(t *testing.T, name string) {
	t.Helper()
	cmd := exec.Command("sleep", "60")
	cmd.ExtraFiles = []*os.File{openTAP(t, name)}
	must(t, cmd.Start()) // on this thread, and so in its namespace
	t.Cleanup(func() {
		_ = cmd.Process.Kill() // it has not ended yet
		_ = cmd.Wait()
	})
}

func openTAP(t *testing.T, name string) *os.File {
	t.Helper()
	f, err := os.OpenFile(tunPath, os.O_RDWR, 0)
	must(t, err)
	t.Cleanup(func() { f.Close() })
	req, err := unix.NewIfreq(name)
	must(t, err)
	req.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI)
	must(t, unix.IoctlIfreq(int(f.Fd()), unix.TUNSETIFF, req))
	return f
}

func listen(t *testing.T, addr string) {
	t.Helper()
	network := "udp4"
	if strings.HasPrefix(addr, "[") {
		network = "udp6"
	}
	// By "udp" Go takes [::] for 0.0.0.0 where it has first looked for IPv6 in a
	// namespace without a loopback address, which is a matter of the order of tests.
	lc := net.ListenConfig{Control: func(network, _ string, c syscall.RawConn) error {
		if network != "udp6" {
			return nil
		}
		var set error
		err := c.Control(func(fd uintptr) { set = unix.SetsockoptInt(int(fd), unix.IPPROTO_IPV6, unix.IPV6_V6ONLY, 0) })
		return errors.Join(err, set)
	}}
	c, err := lc.ListenPacket(t.Context(), network, addr)
	must(t, err)
	t.Cleanup(func() { c.Close() })
}

func FuzzParseSockets(f *testing.F) {
	const head = "   sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n"
	f.Add(head + "  285: 0100007F:2118 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 77 2 0 0\n")
	f.Add("  1: 00000000000000000000000001000000:0016 0:0 07 0:0 0:0 0 0 0 1 2 0 0\n")
	f.Add("a 0100007F b c d e f g h 1\n")
	f.Fuzz(func(t *testing.T, table string) {
		for _, s := range parseSockets(strings.NewReader(table)) {
			if !s.local.IsValid() {
				t.Errorf("got a socket without an address from %q", table)
			}
		}
	})
}

func TestParseSockets(t *testing.T) {
	const table = "  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode ref pointer drops\n" +
		"  285: %s 00000000:0000 07 00000000:00000000 00:00000000 00000000     0        0 77 2 0 0\n"
	local := "0100007F:2118"
	if binary.NativeEndian.Uint16([]byte{0, 1}) == 1 {
		local = "7F000001:2118"
	}
	got := parseSockets(strings.NewReader(fmt.Sprintf(table, local)))
	want := socket{local: netip.MustParseAddrPort("127.0.0.1:8472"), inode: 77}
	if len(got) != 1 || got[0] != want {
		t.Errorf("got %v, want %v", got, want)
	}
}
