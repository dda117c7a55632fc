// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vxtap/lease"
	"vxtap/lease/etcd"
	"vxtap/lease/leasetest"
	"vxtap/test/ports"
)

// testNetwork is a real etcd on loopback, and the flags that say so.
type testNetwork struct {
	*testing.T
	store *etcd.Store
	flag  string
	env   []string
}

const testPrefix = "/kubernetes/network"

func newTestNetwork(t *testing.T, config string) *testNetwork {
	t.Helper()
	bin, err := exec.LookPath("etcd")
	if err != nil {
		lacking(t, "there is no etcd binary: install Debian's etcd-server")
	}
	client, peer := "http://"+ports.Keep(t), "http://"+ports.Keep(t)
	cmd := exec.Command(bin, "--data-dir", filepath.Join(t.TempDir(), "etcd"), "--unsafe-no-fsync",
		"--listen-client-urls", client, "--advertise-client-urls", client, "--listen-peer-urls", peer,
		"--initial-advertise-peer-urls", peer, "--initial-cluster", "default="+peer, "--logger", "zap", "--log-level", "error")
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	store, err := etcd.Open(t.Context(), etcd.Config{Endpoints: []string{client}, Prefix: testPrefix}, nil)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { store.Close() })
	deadline := time.Now().Add(20 * time.Second)
	for {
		if _, err = store.List(t.Context(), "config", func(lease.Pair) {}); err == nil {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
	n := &testNetwork{T: t, store: store, flag: "-etcd-endpoints=" + client, env: []string{"FLANNELD_ETCD_PREFIX=" + testPrefix}}
	if config != "" {
		n.put("config", config)
	}
	return n
}

// put writes key whatever is there, without a time to live.
func (n *testNetwork) put(key, value string) {
	n.Helper()
	var revision int64
	if p, ok := leasetest.Get(n, n.store, key); ok {
		revision = p.Revision
	}
	if _, err := n.store.Put(n.Context(), key, []byte(value), revision, 0); err != nil {
		n.Fatal(err)
	}
}

// value returns what stands under key, "" if it does not exist.
func (n *testNetwork) value(key string) string {
	n.Helper()
	p, _ := leasetest.Get(n, n.store, key)
	return string(p.Value)
}

// lease gives the host at 192.168.0.<host> a lease of a day.
func (n *testNetwork) lease(host int) lease.Lease {
	n.Helper()
	return leasetest.Acquire(n, lease.New(n.store, lease.Options{Pick: func(int) int { return 0 }}), host)
}

// run runs a command with the flags of the network before everything else, and
// wants a status and parts of what it prints.
func (n *testNetwork) run(command string, status int, want ...string) string {
	n.Helper()
	words := strings.Fields(command)
	args := append([]string{words[0], words[1], n.flag}, words[2:]...)
	got, stdout, stderr := runVxtap(n.T, n.env, args...)
	if got != status || strings.Count(stderr, "\n") > 1 || (status == exitOK) != (stderr == "") {
		n.Errorf("%s: got status %d and %q on standard error, want %d and at most a line", command, got, stderr, status)
	}
	for _, part := range want {
		if !strings.Contains(stdout+stderr, part) {
			n.Errorf("%s: got\n%s%s\nwant it to say %q", command, stdout, stderr, part)
		}
	}
	for _, c := range stdout + stderr {
		if c != '\n' && printable(string(c)) != string(c) {
			n.Errorf("%s: printed %q", command, c)
		}
	}
	return stdout
}
