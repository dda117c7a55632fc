// SPDX-License-Identifier: Apache-2.0

package field

import (
	"bufio"
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"vxtap/cmd/vxlab/netns"
)

// Host is a host of the overlay network with a vxtap.
type Host struct {
	process
	Name string     // "h1"
	Addr netip.Addr // its VTEP; in a field of both families IPv6Of it is the other one
	Dir  string     // of its socket, its subnet file and what it remembers
}

// AddHost makes another host, whose daemon is not started. flags are added to
// those that every daemon gets.
func (f *Field) AddHost(vxtap, prefix string, flags ...string) (*Host, error) {
	n := len(f.Hosts) + 1
	h := &Host{Name: fmt.Sprintf("h%d", n), Addr: at(1+(n-1)/250, 1+(n-1)%250)}
	// A socket's name has room for 107 bytes, which is not much of a path.
	h.Dir = filepath.Join("/run", h.Name)
	ns, err := f.node(h.Name, h.Addr)
	if err == nil {
		err = f.addSecond(ns, h.Addr)
	}
	if err == nil {
		err = os.MkdirAll(h.Dir, 0o755)
	}
	if err != nil {
		return nil, fmt.Errorf("add host %s: %w", h.Name, err)
	}
	h.process = process{ns: ns, log: filepath.Join(f.Dir, h.Name+".log"), args: append([]string{
		vxtap, "-etcd-endpoints=" + f.URLs(), "-etcd-prefix=" + prefix, "-iface=eth0",
		"-subnet-file=" + h.SubnetFile(), "-run-dir=" + h.Dir, "-state-dir=" + h.Dir,
	}, flags...)}
	f.Hosts = append(f.Hosts, h)
	return h, nil
}

// addSecond gives a host its other family, where the field has it.
func (f *Field) addSecond(ns *netns.Namespace, addr netip.Addr) error {
	if !f.dual {
		return nil
	}
	if err := f.addIPv6(ns, "eth0", addr); err != nil {
		return err
	}
	// What the daemon makes has it as on any other host.
	if err := ns.SetSysctl("net.ipv6.conf.all.disable_ipv6", "0"); err != nil {
		return err
	}
	return ns.SetSysctl("net.ipv6.conf.all.forwarding", "1")
}

// TakeIPv6 takes the IPv6 address from its interface, and GiveIPv6 gives it back.
func (h *Host) TakeIPv6() error {
	return h.ns.DeleteAddr("eth0", netip.PrefixFrom(IPv6Of(h.Addr), underlay6))
}

// GiveIPv6 undoes TakeIPv6.
func (h *Host) GiveIPv6() error {
	return h.ns.AddAddr("eth0", netip.PrefixFrom(IPv6Of(h.Addr), underlay6))
}

// SubnetFile is where its daemon writes its subnet.
func (h *Host) SubnetFile() string { return filepath.Join(h.Dir, "subnet.env") }

// Log is where its daemon writes its log.
func (h *Host) Log() string { return h.log }

// Namespace is where it runs.
func (h *Host) Namespace() *netns.Namespace { return h.ns }

// CutOff keeps it from etcd, silently; the overlay goes on.
func (h *Host) CutOff() error { return block(h.ns, ClientPort) }

// Rejoin undoes CutOff.
func (h *Host) Rejoin() error { return unblock(h.ns) }

// Status asks its daemon, whose device has the name of the VNI 1.
func (h *Host) Status(ctx context.Context) (Status, error) {
	var d net.Dialer
	conn, err := d.DialContext(ctx, "unix", filepath.Join(h.Dir, "flannel.1.sock"))
	if err != nil {
		return Status{}, err
	}
	defer conn.Close()
	stop := context.AfterFunc(ctx, func() { conn.Close() })
	defer stop()
	return readStatus(conn)
}

// TalksTo reports whether the daemon has a connection to a member right now.
func (h *Host) TalksTo(m *Member) bool {
	pid := h.PID()
	if pid == 0 {
		return false
	}
	text, err := os.Open(fmt.Sprintf("/proc/%d/net/tcp", pid))
	if err != nil {
		return false
	}
	defer text.Close()
	a := m.Addr.As4()
	remote := fmt.Sprintf("%02X%02X%02X%02X:%04X", a[3], a[2], a[1], a[0], ClientPort)
	for lines := bufio.NewScanner(text); lines.Scan(); {
		if f := strings.Fields(lines.Text()); len(f) > 3 && f[2] == remote && f[3] == "01" { // ESTABLISHED
			return true
		}
	}
	return false
}

// Memory returns how many bytes of its daemon's memory are not a file's, of
// those that are in use (RssAnon, proc(5)).
func (h *Host) Memory() (int64, error) {
	text, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", h.PID()))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if v, ok := strings.CutPrefix(line, "RssAnon:"); ok {
			kib, err := strconv.ParseInt(strings.TrimSuffix(strings.TrimSpace(v), " kB"), 10, 64)
			return kib << 10, err
		}
	}
	return 0, fmt.Errorf("the process %d has no RssAnon", h.PID())
}
