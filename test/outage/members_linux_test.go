// SPDX-License-Identifier: Apache-2.0

package outage

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/cmd/vxlab/netns"
	"vxtap/test/bed"
	"vxtap/test/pki"
)

// members are an etcd cluster that wants certificates, on addresses of the
// lab's underlay.
type members struct {
	t    *testing.T
	ns   *netns.Namespace
	ca   *pki.Authority
	crl  string // list of certificates that are good no more
	crt  string // of whoever asks here
	key  string
	args []string // for all
	each []*member
}

type member struct {
	name, addr, dir string
	cmd             *exec.Cmd // nil: it does not run
}

// urls are the members' for clients.
func urls(n int) string {
	all := make([]string, n)
	for i := range all {
		all[i] = fmt.Sprintf("https://192.168.77.%d:2379", i+2)
	}
	return strings.Join(all, ",")
}

// startMembers starts n members beside the bridge of the lab. They have short
// heartbeats, so that a leader is missed after a second.
func startMembers(t *testing.T, ns *netns.Namespace, n int, more ...string) *members {
	t.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("there is no etcd: install Debian's etcd-server")
		}
		t.Skip("not run: there is no etcd: .ci/deps installs it")
	}
	dir := t.TempDir()
	m := &members{t: t, ns: ns, ca: pki.New(t, dir, "ca"), crl: filepath.Join(dir, "revoked.crl")}
	m.crt, m.key = m.ca.Sign(t, "operator", time.Now().Add(time.Hour))
	m.ca.Revoke(t, m.crl)
	var cluster, hosts []string
	for i := range n {
		addr := fmt.Sprintf("192.168.77.%d", i+2)
		if err := ns.AddAddr("br0", netip.MustParsePrefix(addr+"/24")); err != nil {
			t.Fatal(err)
		}
		name := fmt.Sprintf("m%d", i+1)
		m.each = append(m.each, &member{name: name, addr: addr, dir: filepath.Join(dir, name)})
		cluster, hosts = append(cluster, name+"=https://"+addr+":2380"), append(hosts, addr)
	}
	// The members are in one namespace: what asks from one of their addresses
	// is to be believed whichever it is.
	crt, key := m.ca.Sign(t, "etcd", time.Now().Add(time.Hour), append(hosts, "192.168.77.1", "127.0.0.1")...)
	m.args = append([]string{
		"--initial-cluster=" + strings.Join(cluster, ","), "--initial-cluster-state=new", "--log-level=warn", "--logger=zap",
		"--cert-file=" + crt, "--key-file=" + key, "--trusted-ca-file=" + m.ca.File, "--client-crl-file=" + m.crl,
		"--peer-cert-file=" + crt, "--peer-key-file=" + key, "--peer-trusted-ca-file=" + m.ca.File, "--peer-client-cert-auth",
	}, more...)
	for i := range n {
		m.start(i)
	}
	t.Cleanup(func() {
		for i := range m.each {
			m.kill(i)
		}
	})
	m.healthy()
	return m
}

// start starts a member and does not wait for it.
func (m *members) start(i int) {
	m.t.Helper()
	e := m.each[i]
	client, peer := "https://"+e.addr+":2379", "https://"+e.addr+":2380"
	log, err := os.OpenFile(e.dir+".log", os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		m.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command("etcd", append([]string{
		"--name=" + e.name, "--data-dir=" + e.dir, "--unsafe-no-fsync",
		"--listen-client-urls=" + client, "--advertise-client-urls=" + client,
		"--listen-peer-urls=" + peer, "--initial-advertise-peer-urls=" + peer,
	}, m.args...)...)
	cmd.Stdout, cmd.Stderr = log, log
	if err := m.ns.Start(cmd); err != nil {
		m.t.Fatal(err)
	}
	e.cmd = cmd
}

// kill ends a member as a power cut does.
func (m *members) kill(i int) {
	if e := m.each[i]; e.cmd != nil {
		_ = e.cmd.Process.Kill()
		_ = e.cmd.Wait()
		e.cmd = nil
	}
}

// etcdctl asks all members that run, or those at some endpoints.
func (m *members) etcdctl(endpoints string, args ...string) (string, error) {
	ctx, cancel := context.WithTimeout(m.t.Context(), 10*time.Second)
	defer cancel()
	if endpoints == "" {
		var running []string
		for _, e := range m.each {
			if e.cmd != nil {
				running = append(running, "https://"+e.addr+":2379")
			}
		}
		endpoints = strings.Join(running, ",")
	}
	cmd := exec.CommandContext(ctx, "etcdctl", append([]string{
		"--endpoints", endpoints, "--command-timeout=3s", "--dial-timeout=3s", "--cacert", m.ca.File, "--cert", m.crt, "--key", m.key,
	}, args...)...)
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
	var out, diag strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &diag
	err := m.ns.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return out.String(), fmt.Errorf("etcdctl %s: %w: %s", strings.Join(args, " "), err, diag.String())
	}
	return out.String(), nil
}

func (m *members) must(args ...string) string {
	m.t.Helper()
	out, err := m.etcdctl("", args...)
	if err != nil {
		m.t.Fatal(err)
	}
	return out
}

// healthy waits until every member that runs says that it is.
func (m *members) healthy() {
	m.t.Helper()
	bed.Eventually(m.t, 20*time.Second, func() error {
		_, err := m.etcdctl("", "endpoint", "health")
		return err
	})
}

// leader returns the number of the member that leads, and its id.
func (m *members) leader() (int, uint64) {
	m.t.Helper()
	ids := m.ids()
	leader := -1
	bed.Eventually(m.t, 10*time.Second, func() error {
		for i, s := range ids() {
			if s.id != 0 && s.id == s.leader {
				leader = i
				return nil
			}
		}
		return fmt.Errorf("no member says that it leads")
	})
	return leader, ids()[leader].id
}

type memberStatus struct{ id, leader uint64 }

// ids returns a function that asks every member that runs who it is and whom
// it follows.
func (m *members) ids() func() []memberStatus {
	return func() []memberStatus {
		all := make([]memberStatus, len(m.each))
		for i, e := range m.each {
			if e.cmd == nil {
				continue
			}
			out, err := m.etcdctl("https://"+e.addr+":2379", "endpoint", "status", "-w", "json")
			var got []struct {
				Status struct {
					Header struct {
						ID uint64 `json:"member_id"`
					} `json:"header"`
					Leader uint64 `json:"leader"`
				}
			}
			if err == nil && json.Unmarshal([]byte(out), &got) == nil && len(got) == 1 {
				all[i] = memberStatus{got[0].Status.Header.ID, got[0].Status.Leader}
			}
		}
		return all
	}
}

// lead makes member i the leader.
func (m *members) lead(i int) {
	m.t.Helper()
	now, _ := m.leader()
	if now == i {
		return
	}
	id := m.ids()()[i].id
	if _, err := m.etcdctl("https://"+m.each[now].addr+":2379", "move-leader", fmt.Sprintf("%x", id)); err != nil {
		m.t.Fatal(err)
	}
	bed.Eventually(m.t, 10*time.Second, func() error {
		if got, _ := m.leader(); got != i {
			return fmt.Errorf("%s leads, want %s", m.each[got].name, m.each[i].name)
		}
		return nil
	})
}

// network writes the network config of the lab's daemons.
func (m *members) network() {
	m.t.Helper()
	m.must("put", bed.Prefix+"/config", `{"Network":"172.30.0.0/16","SubnetLen":24,"Backend":{"Type":"vxlan"}}`)
}

// outside is a lab whose etcd are n members that are yet to come.
func outside(t *testing.T, suffix string, n int, args ...string) *bed.Bed {
	t.Helper()
	return bed.Up(t, lab.Options{Name: fmt.Sprintf("o%d%s", os.Getpid()%100000, suffix), EtcdURLs: urls(n), Args: args})
}
