// SPDX-License-Identifier: Apache-2.0

package offload

import (
	"fmt"
	"os/exec"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/encap/vxlan"
	"vxtap/test/bed"
)

// obstacle is what stands in the way of the uplink TAP here, as the daemon
// names it.
const obstacle = "net.ipv4.conf.all.rp_filter=1"

// Where the uplink TAP cannot be had, a daemon that must have it refuses in one
// line and leaves nothing behind; one that may do without starts, says why once
// in its log, and in vxtap status.
func TestNoUplink(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 2})
	host := b.Node("h1")
	if err := b.StopHost(t.Context(), 1); err != nil {
		t.Fatal(err)
	}
	if err := host.SetSysctl("net.ipv4.conf.all.rp_filter", "1"); err != nil {
		t.Fatal(err)
	}
	keys := func() string { return b.Etcdctl("get", "--prefix", "--keys-only", bed.Prefix) }
	before := keys()
	t.Run("-tx-path=uplink", func(t *testing.T) { refuses(t, b) })
	if after := keys(); after != before {
		t.Errorf("keys in etcd before:\n%s\nand after:\n%s", before, after)
	}

	t.Run("-tx-path=auto", func(t *testing.T) {
		if err := b.StartHost(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		awaitPeers(t, b, 1)
		bed.Eventually(t, limit, func() error {
			if s := b.Status(1); s.TXPath.InUse != "udp" || !strings.HasPrefix(s.TXPath.Reason, obstacle) {
				return fmt.Errorf("super-frames go by %s because %q, want udp because %s", s.TXPath.InUse, s.TXPath.Reason, obstacle)
			}
			return nil
		})
		if lines := logged(t, b.Host(1), obstacle); len(lines) != 1 {
			t.Errorf("got %d lines in the log that name %s, want 1: %q", len(lines), obstacle, lines)
		}
		text := bed.Run(t, host, bed.Binary(t, "vxtap"), "status", "-run-dir", b.Host(1).RunDir)
		if !strings.Contains(text, obstacle) {
			t.Errorf("vxtap status does not name %s:\n%s", obstacle, text)
		}
		everything(t, b.ContainerEnd(1), b.ContainerEnd(2), 1500-vxlan.OverheadIPv4, 8<<20)

		if err := host.SetSysctl("net.ipv4.conf.all.rp_filter", "0"); err != nil {
			t.Fatal(err)
		}
		awaitPath(t, b, 1, "uplink") // without a restart
	})
}

// refuses starts a daemon on host 1 that must have the uplink TAP.
func refuses(t *testing.T, b *bed.Bed) {
	t.Helper()
	dir := t.TempDir()
	var out strings.Builder
	cmd := exec.Command(bed.Binary(t, "vxtap"), "-etcd-endpoints="+b.EtcdURL(), "-etcd-prefix="+bed.Prefix,
		"-iface=eth0", "-subnet-file="+dir+"/subnet.env", "-run-dir="+dir, "-state-dir=none", "-tx-path=uplink")
	cmd.Stderr = &out
	if err := b.Node("h1").Start(cmd); err != nil {
		t.Fatal(err)
	}
	stuck := time.AfterFunc(limit, func() { _ = cmd.Process.Kill() })
	defer stuck.Stop()
	_ = cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != 1 {
		t.Errorf("exit status %d, want 1", code)
	}
	var plain []string
	for line := range strings.Lines(out.String()) {
		if !strings.HasPrefix(line, "time=") {
			plain = append(plain, line)
		}
	}
	if len(plain) != 1 || !strings.HasPrefix(plain[0], "vxtap: ") || !strings.Contains(plain[0], "-tx-path=uplink: "+obstacle) {
		t.Errorf("got %q, want one line that names -tx-path=uplink and %s", plain, obstacle)
	}
	for _, device := range []string{"flannel.1", "vxup.1"} {
		if _, err := b.Node("h1").Interface(device); err == nil {
			t.Errorf("%s is left behind", device)
		}
	}
}
