// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/urfave/cli/v2"
)

// operate runs a command in the namespace and returns its status and what it
// printed.
func (h *testHost) operate(args ...string) (int, string) {
	h.Helper()
	cmd := exec.Command("/proc/self/exe", args...)
	cmd.Env = append(os.Environ(), asVxtap+"=1", "VXTAP_ETCD_ENDPOINTS="+etcdURL, "VXTAP_RUN_DIR="+h.run)
	p := h.start(cmd)
	return p.wait(h, 10*time.Second), p.printed()
}

// What an operator reserves is what the daemon has, and keeps.
func TestDaemonTakesItsReservation(t *testing.T) {
	h := newTestHost(t)
	h.startEtcd(netConfig)
	const key = "/coreos.com/network/subnets/10.5.77.0-24"
	if status, out := h.operate("lease", "reserve", "10.5.77.0/24", "-public-ip="+hostAddr); status != exitOK {
		t.Fatalf("got status %d and %q", status, out)
	}
	p := h.daemon(nil, "-lease-ttl=10s")
	h.ready(p)
	if s := h.status(); s.Subnet.String() != "10.5.77.0/24" || s.Lease.State != leaseReserved || s.Lease.Expires != nil {
		t.Errorf("got %s with lease %+v, want the reservation", s.Subnet, s.Lease)
	}
	if got := h.etcdctl("get", "-w=fields", key); !strings.Contains(got, `"Lease" : 0`) || !strings.Contains(got, "VtepMAC") {
		t.Errorf("got %s, want our value without a lease of etcd's", got)
	}
	if status, out := h.operate("lease", "show"); status != exitOK || !strings.Contains(out, "vxlan    reserved") {
		t.Errorf("got status %d and\n%s", status, out)
	}
	want := fmt.Sprintf("10.5.77.0/24 is not released: the vxtap that runs here, pid %d, holds it", p.cmd.Process.Pid)
	if status, out := h.operate("lease", "release", "own"); status != exitError || !strings.Contains(out, want) {
		t.Errorf("got status %d and %q, want %q", status, out, want)
	}
	p.stop(h)
	if status, out := h.operate("lease", "release", "own"); status != exitOK || h.leases() != "" {
		t.Errorf("got status %d and %q, there is %q", status, out, h.leases())
	}
}

// Every command in the documents and in the help is one that works.
func TestCommandsInDocuments(t *testing.T) {
	text, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	documents := map[string][]string{"docs/operations.md": commandLines(shellBlocks(string(text)), "vxtap ")}
	for _, g := range []*cli.Command{configCommand(nil), leaseCommand(nil)} {
		for _, c := range g.Subcommands {
			documents[g.Name+" "+c.Name+" -help"] = commandLines(c.Description, "  vxtap ")
		}
	}
	for name, lines := range documents {
		t.Run(name, func(t *testing.T) {
			n := newTestNetwork(t, netConfig)
			n.put("subnets/10.5.3.0-24", `{"PublicIP":"192.0.2.7"}`)
			own := n.putOwn()
			t.Chdir(t.TempDir())
			if err := os.WriteFile("net.json", []byte(netConfig), 0o600); err != nil {
				t.Fatal(err)
			}
			for _, line := range lines {
				switch {
				case strings.HasPrefix(line, "config check"): // which takes no etcd
					if status, _, stderr := runVxtap(t, nil, strings.Fields(line)...); status != exitOK {
						t.Errorf("%s: got status %d and %q", line, status, stderr)
					}
				case strings.HasSuffix(line, " own") && !own:
					n.run(line, exitError)
				default:
					n.run(line, exitOK)
				}
			}
			if len(lines) == 0 {
				t.Error("there is no command")
			}
		})
	}
}

// putOwn gives this host a lease, and reports whether it has an address for one.
func (n *testNetwork) putOwn() bool {
	n.Helper()
	own, err := readThisHost(cli.NewContext(nil, nil, nil))
	if err != nil {
		n.Fatal(err)
	}
	for a := range own.addrs {
		if a.Is4() {
			n.put("subnets/10.5.50.0-24", leaseValue(a.String(), "02:00:00:00:00:09"))
			return true
		}
	}
	return false
}

// shellBlocks returns what stands in the sh blocks of a document.
func shellBlocks(text string) string {
	var b strings.Builder
	for i, part := range strings.Split(text, "```") {
		if body, ok := strings.CutPrefix(part, "sh\n"); ok && i%2 == 1 {
			b.WriteString(body)
		}
	}
	return b.String()
}

// commandLines returns the rest of the lines of text that start with start.
func commandLines(text, start string) []string {
	var all []string
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(line, start); ok {
			all = append(all, strings.TrimSpace(rest))
		}
	}
	return all
}
