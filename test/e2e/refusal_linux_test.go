// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"net/netip"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
)

// A host that cannot take part says in one line what is wrong and what to do,
// exits with 1, and leaves nothing behind: no device, no lease, no socket.
func TestRefusals(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 1})
	bare, err := b.JoinBare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	kernel := b.JoinKernel(t.Context(), netip.MustParsePrefix("172.30.200.0/24"))
	dir := t.TempDir()
	vxtap := strings.Join([]string{
		bed.Binary(t, "vxtap"), "-etcd-endpoints=" + b.EtcdURL(), "-etcd-prefix=" + bed.Prefix,
		"-iface=eth0", "-subnet-file=" + dir + "/subnet.env", "-run-dir=" + dir + "/run", "-state-dir=none",
	}, " ")
	tests := []struct {
		name   string
		node   string
		script string
		want   []string
	}{
		{
			"no /dev/net/tun", bare.Node,
			"mount -t tmpfs none /dev/net && exec " + vxtap,
			[]string{"/dev/net/tun"},
		},
		{
			"no CAP_NET_ADMIN", bare.Node,
			"exec setpriv --bounding-set=-net_admin --inh-caps=-net_admin " + vxtap,
			[]string{"CAP_NET_ADMIN"},
		},
		{
			// The device that flanneld leaves behind holds both the name and
			// the port.
			"the kernel's own flannel.1", strings.TrimPrefix(kernel.Namespace.Name(), "vxlab-"+b.Name()+"-"),
			"exec " + vxtap,
			[]string{"flannel.1", "vxlan", "ip link del flannel.1"},
		},
		{
			"a kernel device of another name on our port", bare.Node,
			"ip link add kvx type vxlan id 7 dstport 8472 local " + bare.VTEP.String() + " dev eth0 && ip link set kvx up; " + vxtap + "; status=$?; ip link del kvx; exit $status",
			[]string{"8472", "kvx"},
		},
	}
	before := b.Etcdctl("get", "--prefix", "--keys-only", bed.Prefix)
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var out strings.Builder
			cmd := exec.Command("unshare", "-m", "bash", "-c", tt.script)
			cmd.Stderr = &out
			if err := b.Node(tt.node).Start(cmd); err != nil {
				t.Fatal(err)
			}
			stuck := time.AfterFunc(20*time.Second, func() { _ = cmd.Process.Kill() })
			defer stuck.Stop()
			_ = cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != 1 {
				t.Errorf("exit status %d, want 1", code)
			}
			lines := strings.Split(strings.TrimSpace(out.String()), "\n")
			last := lines[len(lines)-1]
			for _, want := range append(tt.want, "vxtap: ") {
				if !strings.Contains(last, want) {
					t.Errorf("the last line lacks %q:\n%s", want, out.String())
				}
			}
			for _, line := range lines[:len(lines)-1] {
				if !strings.HasPrefix(line, "time=") {
					t.Errorf("more than one line that is no log: %q", line)
				}
			}
			for _, path := range []string{"/subnet.env", "/run/flannel.1.sock"} {
				if exists(dir + path) {
					t.Errorf("%s is left behind", path)
				}
			}
			if after := b.Etcdctl("get", "--prefix", "--keys-only", bed.Prefix); after != before {
				t.Errorf("keys in etcd before:\n%s\nand after:\n%s", before, after)
			}
		})
	}
	if _, err := b.Node(bare.Node).Interface("flannel.1"); err == nil {
		t.Error("a device is left behind")
	}
}

func exists(path string) bool {
	_, err := os.Lstat(path)
	return err == nil
}
