// SPDX-License-Identifier: Apache-2.0

package flood

import (
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
)

// url is where the etcd of a rig is: that of a lab has a quota that a flood is not
// to hit on.
const url = "http://192.168.77.2:2379"

// rig is hosts on a real etcd that strangers may write to.
type rig struct {
	*bed.Bed
	t  *testing.T
	ns *netns.Namespace
}

// startRig puts up two hosts.
func startRig(t *testing.T) *rig {
	t.Helper()
	bed.NeedRoot(t)
	if _, err := exec.LookPath("etcd"); err != nil {
		if os.Getenv("CI") == "true" {
			t.Fatal("there is no etcd: install Debian's etcd-server")
		}
		t.Skip("not run: there is no etcd: .ci/deps installs it")
	}
	b := bed.Up(t, lab.Options{Name: fmt.Sprintf("f%d", os.Getpid()%100000), EtcdURLs: url})
	r := &rig{Bed: b, t: t, ns: b.Node("net")}
	r.startEtcd()
	r.ctl("", "put", bed.Prefix+"/config", `{"Network": "172.30.0.0/16", "Backend": {"Type": "vxlan"}}`)
	for range 2 {
		if _, err := r.Join(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

func (r *rig) startEtcd() {
	r.t.Helper()
	if err := r.ns.AddAddr("br0", netip.MustParsePrefix("192.168.77.2/24")); err != nil {
		r.t.Fatal(err)
	}
	const peer = "http://192.168.77.2:2380"
	cmd := exec.Command("etcd", "--name=m", "--data-dir="+filepath.Join(r.t.TempDir(), "m"), "--unsafe-no-fsync",
		"--listen-client-urls="+url, "--advertise-client-urls="+url, "--listen-peer-urls="+peer,
		"--initial-advertise-peer-urls="+peer, "--initial-cluster=m="+peer, "--log-level=error", "--logger=zap")
	if err := r.ns.Start(cmd); err != nil {
		r.t.Fatal(err)
	}
	r.t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	})
	bed.Eventually(r.t, 20*time.Second, func() error {
		_, err := bed.Etcdctl(r.ns, url, "endpoint", "health")
		return err
	})
}

// ctl runs etcdctl with something on its standard input.
func (r *rig) ctl(input string, args ...string) {
	r.t.Helper()
	bed.RunWith(r.t, r.ns, input, "etcdctl", append([]string{"--endpoints=" + url, "--command-timeout=60s"}, args...)...)
}

// put writes values of many keys, as many at once as etcd takes.
func (r *rig) put(n int, pair func(i int) (key, value string)) {
	r.t.Helper()
	const atOnce, mostBytes = 100, 1 << 20
	for i := 0; i < n; {
		var b strings.Builder
		b.WriteString("\n")
		for of := 0; i < n && of < atOnce && b.Len() < mostBytes; of++ {
			key, value := pair(i)
			fmt.Fprintf(&b, "put %s %s\n", bed.Prefix+key, value)
			i++
		}
		b.WriteString("\n\n")
		r.ctl(b.String(), "txn")
	}
}

// delete removes what begins with a key.
func (r *rig) delete(prefix string) {
	r.t.Helper()
	r.ctl("", "del", "--prefix", bed.Prefix+prefix)
}
