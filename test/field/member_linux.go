// SPDX-License-Identifier: Apache-2.0

package field

import (
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"

	"vxtap/cmd/vxlab/netns"
)

// Ports of every member.
const (
	ClientPort = 2379
	peerPort   = 2380
)

// Member is one member of the etcd cluster: Debian's etcd, in a process of its
// own, with its data in a directory that stays when it is killed.
type Member struct {
	process
	Name string // "e1"
	Addr netip.Addr
	f    *Field
}

// AddMembers makes and starts a cluster of n members. Data are not synced to
// the disk: what is killed here are processes, not the machine.
func (f *Field) AddMembers(n int) error {
	var cluster []string
	for i := 1; i <= n; i++ {
		cluster = append(cluster, fmt.Sprintf("e%d=http://%s", i, netip.AddrPortFrom(at(0, 10+i), peerPort)))
	}
	for i := 1; i <= n; i++ {
		m := &Member{Name: fmt.Sprintf("e%d", i), Addr: at(0, 10+i), f: f}
		ns, err := f.node(m.Name, m.Addr)
		if err != nil {
			return fmt.Errorf("add member %s: %w", m.Name, err)
		}
		peer := "http://" + netip.AddrPortFrom(m.Addr, peerPort).String()
		m.process = process{ns: ns, log: filepath.Join(f.Dir, m.Name+".log"), args: []string{
			"etcd", "--name=" + m.Name, "--data-dir=" + filepath.Join(f.Dir, m.Name), "--logger=zap", "--log-level=warn",
			"--listen-client-urls=" + m.URL(), "--advertise-client-urls=" + m.URL(),
			"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
			"--initial-cluster=" + strings.Join(cluster, ","), "--initial-cluster-state=new", "--unsafe-no-fsync",
		}}
		f.Members = append(f.Members, m)
		if err := m.Start(); err != nil {
			return fmt.Errorf("start etcd (Debian: etcd-server): %w", err)
		}
	}
	return nil
}

// URL is where clients come.
func (m *Member) URL() string {
	return "http://" + netip.AddrPortFrom(m.Addr, ClientPort).String()
}

// URLs returns that of every member, separated by commas.
func (f *Field) URLs() string {
	var all []string
	for _, m := range f.Members {
		all = append(all, m.URL())
	}
	return strings.Join(all, ",")
}

// Namespace is where it runs.
func (m *Member) Namespace() *netns.Namespace { return m.ns }

// Silence takes the member's cable out: nobody is told that it is gone.
func (m *Member) Silence() error { return m.f.root.SetDown(m.Name) }

// Part keeps it from the other members; clients reach it.
func (m *Member) Part() error { return block(m.ns, peerPort) }

// Heal undoes Silence and Part.
func (m *Member) Heal() error {
	if err := m.f.root.SetUp(m.Name); err != nil {
		return err
	}
	return unblock(m.ns)
}
