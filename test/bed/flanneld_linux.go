// SPDX-License-Identifier: Apache-2.0

package bed

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/cmd/vxlab/netns"
	"vxtap/encap/ether"
	"vxtap/test/traffic"
)

// FlanneldBinary returns the path of a real flanneld whose process goes by that
// name. make flanneld builds it; where there is none the test ends, in CI as a
// failure.
func FlanneldBinary(t testing.TB) string {
	t.Helper()
	return flanneldOf(t, "test/flanneld")
}

// EarlierFlanneldBinary is FlanneldBinary of the version before.
func EarlierFlanneldBinary(t testing.TB) string {
	t.Helper()
	return flanneldOf(t, "test/flanneld/earlier")
}

func flanneldOf(t testing.TB, module string) string {
	t.Helper()
	const root = "../.." // of the repository, from a package of test
	mod, err := os.ReadFile(filepath.Join(root, module, "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	version := regexp.MustCompile(`(?m)^\s*github\.com/flannel-io/flannel (v\S+)`).FindSubmatch(mod)
	if version == nil {
		t.Fatalf("%s/go.mod does not name a version of flannel", module)
	}
	path, err := filepath.Abs(filepath.Join(root, ".cache/bin/flanneld-"+string(version[1])))
	if err != nil {
		t.Fatal(err)
	}
	if _, err := os.Stat(path); err != nil {
		why := fmt.Sprintf("there is no flanneld %s: make flanneld builds it, from the Go module proxy and with a C compiler", version[1])
		if os.Getenv("CI") == "true" {
			t.Fatal(why)
		}
		t.Skip("not run: " + why)
	}
	// A process is called what its program was called by, without the version.
	name := filepath.Join(t.TempDir(), "flanneld")
	if err := os.Symlink(path, name); err != nil {
		t.Fatal(err)
	}
	return name
}

// Flanneld is a real flanneld on a host.
type Flanneld struct {
	t          testing.TB
	ns         *netns.Namespace
	cmd        *exec.Cmd
	ended      chan struct{}
	log        string // path
	subnetFile string
}

// StartFlanneld starts the flanneld at binary in a namespace, with an etcd's URL
// and more arguments. It ends with the test, whose failure shows its log.
func StartFlanneld(t testing.TB, binary string, ns *netns.Namespace, etcdURL, subnetFile string, args ...string) *Flanneld {
	t.Helper()
	return runFlanneld(t, ns, subnetFile, exec.Command(binary, append([]string{
		"-etcd-endpoints=" + etcdURL, "-etcd-prefix=" + Prefix, "-iface=eth0", "-subnet-file=" + subnetFile, "-v=2",
	}, args...)...))
}

func runFlanneld(t testing.TB, ns *netns.Namespace, subnetFile string, cmd *exec.Cmd) *Flanneld {
	t.Helper()
	f := &Flanneld{t: t, ns: ns, cmd: cmd, ended: make(chan struct{}), subnetFile: subnetFile, log: filepath.Join(t.TempDir(), "flanneld.log")}
	log, err := os.Create(f.log)
	if err != nil {
		t.Fatal(err)
	}
	defer log.Close() // the child has its own
	f.cmd.Stdout, f.cmd.Stderr = log, log
	if err := ns.Start(f.cmd); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(f.ended)
		_ = f.cmd.Wait() // the status is in ProcessState
	}()
	t.Cleanup(func() {
		_ = f.cmd.Process.Kill() // it may have ended already
		<-f.ended
		if t.Failed() {
			t.Logf("log of flanneld on %s:\n%s", ns.Name(), f.Log())
		}
	})
	return f
}

// Again starts one that has ended as it was started before, with what it left.
func (f *Flanneld) Again() *Flanneld {
	f.t.Helper()
	return runFlanneld(f.t, f.ns, f.subnetFile, exec.Command(f.cmd.Path, f.cmd.Args[1:]...))
}

// Log returns what it has printed.
func (f *Flanneld) Log() string {
	b, err := os.ReadFile(f.log)
	if err != nil {
		return err.Error()
	}
	return string(b)
}

// PID is its process.
func (f *Flanneld) PID() int { return f.cmd.Process.Pid }

// Ended reports whether it has ended, and its exit status.
func (f *Flanneld) Ended() (status int, ended bool) {
	select {
	case <-f.ended:
		return f.cmd.ProcessState.ExitCode(), true
	default:
		return 0, false
	}
}

// Stop ends it as systemd would and returns when it is gone.
func (f *Flanneld) Stop() {
	f.t.Helper()
	if err := f.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		f.t.Fatal(err)
	}
	select {
	case <-f.ended:
	case <-time.After(10 * time.Second):
		f.t.Fatal("flanneld goes on 10 s after SIGTERM")
	}
}

// AwaitSubnet waits until it has written its subnet file anew and returns the
// subnet: it does so last. The file of an earlier run must not be there.
func (f *Flanneld) AwaitSubnet() (subnet netip.Prefix) {
	f.t.Helper()
	Eventually(f.t, 20*time.Second, func() error {
		if status, ended := f.Ended(); ended {
			f.t.Fatalf("flanneld ended with status %d", status)
		}
		b, err := os.ReadFile(f.subnetFile)
		if err != nil {
			return err
		}
		m := regexp.MustCompile(`(?m)^FLANNEL_SUBNET=(\S+)$`).FindSubmatch(b)
		if m == nil {
			return fmt.Errorf("%s has no subnet: %q", f.subnetFile, b)
		}
		subnet, err = netip.ParsePrefix(string(m[1]))
		subnet = subnet.Masked()
		return err
	})
	return subnet
}

// FlanneldHost is a host of a lab's underlay on which a real flanneld runs.
type FlanneldHost struct {
	*Flanneld
	Node      string
	Namespace *netns.Namespace
	Container *netns.Namespace // behind a bridge
	VTEP      netip.Addr
	Subnet    netip.Prefix
}

// JoinFlanneld adds a host with a flanneld to the lab, and returns when its
// container has addresses of its subnet.
func (b *Bed) JoinFlanneld(ctx context.Context, binary string, args ...string) *FlanneldHost {
	b.t.Helper()
	h, err := b.JoinBare(ctx)
	if err != nil {
		b.t.Fatal(err)
	}
	return b.FlanneldAt(h, binary, args...)
}

// FlanneldAt is JoinFlanneld for a bare host that is there.
func (b *Bed) FlanneldAt(h lab.Host, binary string, args ...string) *FlanneldHost {
	b.t.Helper()
	b.letFlanneldStart()
	f := &FlanneldHost{Node: h.Node, Namespace: b.Node(h.Node), Container: tempNamespace(b.t, h.Namespace+"f"), VTEP: h.VTEP}
	f.Flanneld = StartFlanneld(b.t, binary, f.Namespace, b.EtcdURL(), filepath.Join(b.t.TempDir(), "subnet.env"), args...)
	f.Subnet = f.AwaitSubnet()
	if err := AddContainer(f.Namespace, f.Container, f.Subnet, b.Options().MTU-50); err != nil {
		b.t.Fatal(err)
	}
	return f
}

// FlanneldOn starts a flanneld on host n of the lab, whose own daemon must not
// run, with the subnet file of that. It returns when the file is written.
func (b *Bed) FlanneldOn(n int, binary string, args ...string) *Flanneld {
	b.t.Helper()
	b.letFlanneldStart()
	h := b.Host(n)
	// flanneld takes its earlier subnet from the lease: it finds it by the host's
	// address. That the file is gone shows that, and when it is ready.
	subnetFile := filepath.Join(h.RunDir, "subnet.env")
	if err := os.Remove(subnetFile); err != nil && !errors.Is(err, fs.ErrNotExist) {
		b.t.Fatal(err)
	}
	f := StartFlanneld(b.t, binary, b.Node(h.Node), b.EtcdURL(), subnetFile, args...)
	f.AwaitSubnet()
	return f
}

// letFlanneldStart writes a config under which a flanneld starts on this
// machine: without br_netfilter it does with nftables only.
func (b *Bed) letFlanneldStart() {
	b.t.Helper()
	if _, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables"); err == nil {
		return
	}
	config := strings.TrimSpace(b.Etcdctl("get", "--print-value-only", Prefix+"/config"))
	if !strings.Contains(config, "EnableNFTables") {
		b.Etcdctl("put", Prefix+"/config", `{"EnableNFTables":true,`+strings.TrimPrefix(config, "{"))
	}
}

// HostEnd is the host itself.
func (f *FlanneldHost) HostEnd() traffic.End {
	return traffic.End{Namespace: f.Namespace, Addr: f.Subnet.Addr()}
}

// ContainerEnd is the host's container.
func (f *FlanneldHost) ContainerEnd() traffic.End {
	return traffic.End{Namespace: f.Container, Addr: f.Subnet.Addr().Next().Next()}
}

// flannelDevice is what both daemons call the device of VNI 1.
const flannelDevice = "flannel.1"

// MAC returns the MAC of flannel.1 in a namespace.
func MAC(ns *netns.Namespace) (ether.MAC, error) { return macOf(ns, flannelDevice) }

// LeaseOf returns the key and the value of the lease with a public IP.
func (b *Bed) LeaseOf(h lab.Host) (key, value string) {
	b.t.Helper()
	lines := strings.Split(b.Etcdctl("get", "--prefix", Prefix+"/subnets/"), "\n")
	for i := 0; i+1 < len(lines); i += 2 {
		if strings.Contains(lines[i+1], fmt.Sprintf("%q", h.VTEP.String())) {
			return lines[i], lines[i+1]
		}
	}
	return "", ""
}
