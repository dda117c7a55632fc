// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"net/netip"
	"slices"
	"strings"
	"testing"

	"vxtap/cmd/vxlab/netns"
)

// A daemon is asked where it is, which need not be where the lab once put its
// host.
func TestAHostWithAnotherAddressStartsAgain(t *testing.T) {
	l := up(t, options(t, "moved", 1))
	host, err := l.Namespace("h1")
	if err != nil {
		t.Fatal(err)
	}
	defer host.Close()
	if err := l.StopHost(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if got := l.Look()[0].VTEP.String(); got != "192.168.77.11" {
		t.Errorf("before: got VTEP %s", got)
	}
	move(t, host, "192.168.77.99/24")
	if err := l.StartHost(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if got := l.Look()[0].VTEP.String(); got != "192.168.77.99" {
		t.Errorf("Look: got VTEP %s, want 192.168.77.99", got)
	}
	move(t, host, "")
	if got := l.Look()[0].VTEP; got.IsValid() {
		t.Errorf("Look at a host without an address: got VTEP %v", got)
	}
}

// move gives the host's uplink one address instead of all that it has.
func move(t *testing.T, host *netns.Namespace, addr string) {
	t.Helper()
	if err := host.DeleteAddrs(uplink); err != nil {
		t.Fatal(err)
	}
	if addr == "" {
		return
	}
	if err := host.AddAddr(uplink, netip.MustParsePrefix(addr)); err != nil {
		t.Fatal(err)
	}
}

// The last line of a log is the reason of a death. Of a daemon that runs it is
// what it happened to say last.
func TestWhyADaemonIsNotReady(t *testing.T) {
	const info, warn = "time=x level=INFO msg=ready", `time=x level=WARN msg="no contact with etcd"`
	tests := []struct {
		name string
		e    ProcessError
		want string
	}{
		{"it ended", ProcessError{Process: "vxtap on h1", What: "ended: exit status 1", Log: "/log", Tail: []string{warn, info}}, "vxtap on h1 ended: exit status 1: " + info},
		{"it runs and complains", ProcessError{Process: "vxtap on h1", What: "is not ready after 30s", Log: "/log", Tail: []string{info, warn, info}, runs: true}, "vxtap on h1 is not ready after 30s; the last warning in its log: " + warn},
		{"it runs and says nothing of it", ProcessError{Process: "vxtap on h1", What: "is not ready after 30s", Log: "/log", Tail: []string{info}, runs: true}, "vxtap on h1 is not ready after 30s, and its log does not say why: /log"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.e.Error(); got != tt.want {
				t.Errorf("got  %s\nwant %s", got, tt.want)
			}
		})
	}
}

// A vxtap that is run in a node is the lab's: it finds the lab's etcd, and
// writes where the lab is.
func TestExecSaysWhereTheLabIs(t *testing.T) {
	l := newLab(state{Options: Options{Name: "x"}.withDefaults()})
	for node, dir := range map[string]string{"h2": "/run/vxlab/x/h2", "c2": "/run/vxlab/x/h2", "net": "/run/vxlab/x/net"} {
		n, err := nodeNumber(node)
		if err != nil {
			t.Fatal(err)
		}
		env := l.environment(node, n, []string{"HOME=/root", "VXTAP_STATE_DIR=/var/lib/vxtap", "PATH=/bin"}, "/dirs:/bin")
		for _, want := range []string{
			"HOME=/root", "PATH=/dirs:/bin", "VXLAB_NAME=x", "VXLAB_NODE=" + node, "ETCDCTL_ENDPOINTS=" + l.EtcdURL(),
			"VXTAP_ETCD_ENDPOINTS=" + l.EtcdURL(), "VXTAP_ETCD_PREFIX=" + EtcdPrefix,
			"VXTAP_RUN_DIR=" + dir, "VXTAP_STATE_DIR=" + dir, "VXTAP_SUBNET_FILE=" + dir + "/subnet.env",
		} {
			if !slices.Contains(env, want) {
				t.Errorf("%s: no %s in %s", node, want, strings.Join(env, " "))
			}
		}
		if slices.Contains(env, "VXTAP_STATE_DIR=/var/lib/vxtap") {
			t.Errorf("%s: the machine's own directory is in the environment too", node)
		}
	}
}
