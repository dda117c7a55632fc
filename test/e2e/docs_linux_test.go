// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/netns"
	"vxtap/test/bed"
)

// shellBlocks returns the ```sh blocks of a Markdown file.
func shellBlocks(t *testing.T, path string) []string {
	t.Helper()
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	var blocks []string
	for i, part := range strings.Split(string(text), "```") {
		if body, ok := strings.CutPrefix(part, "sh\n"); ok && i%2 == 1 {
			blocks = append(blocks, body)
		}
	}
	return blocks
}

// script runs a shell script from the root of the repository, with the
// programs of this tree first in PATH, and returns what it printed.
func script(t *testing.T, text string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", text)
	cmd.Dir = "../.."
	cmd.Env = append(os.Environ(), "PATH="+binDir(t)+":"+os.Getenv("PATH"))
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Errorf("%v\nscript: %s\noutput: %s", err, text, out)
	}
	return string(out)
}

func binDir(t *testing.T) string {
	t.Helper()
	return strings.TrimSuffix(bed.Binary(t, "vxtap"), "/vxtap")
}

// noNamespaces fails the test when a lab is left standing.
func noNamespaces(t *testing.T, lab string) {
	t.Helper()
	left, err := netns.List("vxlab-" + lab + "-")
	if err != nil || len(left) != 0 {
		t.Errorf("namespaces left: %v %v", left, err)
	}
}

// What README tells people to type is what runs here, block by block. A block
// that is not known here is a claim that nothing backs.
func TestREADME(t *testing.T) {
	bed.NeedRoot(t)
	runs := map[string]func(*testing.T, string){
		"make demo":  readmeTwoCommands,
		"make build": readmeLab,
		"etcdctl":    readmeCluster,
	}
	blocks := shellBlocks(t, "../../README.md")
	if len(blocks) != len(runs) {
		t.Errorf("README has %d shell blocks, want %d", len(blocks), len(runs))
	}
	for _, block := range blocks {
		known := false
		for start, f := range runs {
			if strings.HasPrefix(block, start) {
				known = true
				t.Run(start, func(t *testing.T) { f(t, block) })
			}
		}
		if !known {
			t.Errorf("nothing runs this block:\n%s", block)
		}
	}
}

// readmeTwoCommands runs make demo. make test is the one that runs this test.
func readmeTwoCommands(t *testing.T, block string) {
	t.Helper()
	if !strings.Contains(block, "make test") {
		t.Error("make test is missing")
	}
	out := script(t, "make demo")
	for _, want := range []string{"HOST", "SUBNET", "VTEP", "MAC", "MTU", "RTT", "THROUGHPUT", "b/s", "SHA-256"} {
		if !strings.Contains(out, want) {
			t.Errorf("the demo's output lacks %s:\n%s", want, out)
		}
	}
	noNamespaces(t, "demo")
}

func readmeLab(t *testing.T, block string) {
	t.Helper()
	noNamespaces(t, "lab")
	if t.Failed() {
		return // somebody's lab: it is not ours to take down
	}
	defer script(t, "bin/vxlab down -name lab") // of a lab that is down already it says so and is content
	out := script(t, block)
	for _, want := range []string{"172.30.", "192.168.77.11", "h3"} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %s:\n%s", want, out)
		}
	}
	noNamespaces(t, "lab")
}

// docs/lab.md has one block, from up to down.
func TestLabDocument(t *testing.T) {
	bed.NeedRoot(t)
	noNamespaces(t, "lab")
	if t.Failed() {
		return // somebody's lab: it is not ours to take down
	}
	defer script(t, "bin/vxlab down -name lab")
	blocks := shellBlocks(t, "../../docs/lab.md")
	if len(blocks) != 1 {
		t.Fatalf("docs/lab.md has %d shell blocks, want 1", len(blocks))
	}
	out := script(t, "make build >/dev/null\n"+blocks[0])
	for _, want := range []string{
		" stands after ", "level=", "vxtap_ready 1", "vxtap is down: vxlab start h2", "h2 is ready: vxtap, pid ",
		"WARNING", "net.ipv4.ip_forward=0: containers on this host are cut off", " lab is down\n",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %s:\n%s", want, out)
		}
	}
	noNamespaces(t, "lab")
}

// clusterScript is what stands around the three lines: the config, the daemon,
// the look at it.
const clusterScript = `
mount -t tmpfs none /run
ip link add eth0 type veth peer name far
ip addr add 10.0.0.1/24 dev eth0
ip link set eth0 up
ip link set far up
etcd --data-dir /run/etcd --listen-client-urls http://10.0.0.1:2379 --advertise-client-urls http://10.0.0.1:2379 >/run/etcd.log 2>&1 &
etcd=$!
export ETCDCTL_API=3 ETCDCTL_ENDPOINTS=http://10.0.0.1:2379
for i in $(seq 100); do etcdctl endpoint health >/dev/null 2>&1 && break; sleep 0.1; done
%s
%s >/run/vxtap.log 2>&1 &
vxtap=$!
for i in $(seq 100); do test -e /run/flannel/subnet.env && break; sleep 0.1; done
%s
cat /run/flannel/subnet.env
kill $vxtap
wait $vxtap
kill $etcd
`

// readmeCluster runs the lines for a cluster on a host that is as they say:
// etcd on 10.0.0.1, an interface eth0, and /run to itself.
func readmeCluster(t *testing.T, block string) {
	t.Helper()
	ns, err := netns.Create("vxtap-readme")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := ns.KillProcesses(ctx); err != nil {
			t.Error(err)
		}
		ns.Close()
		if err := netns.Delete("vxtap-readme"); err != nil {
			t.Error(err)
		}
	})
	lines := strings.Split(strings.TrimSpace(block), "\n")
	if len(lines) != 3 || !strings.HasPrefix(lines[1], "vxtap -etcd-endpoints") || lines[2] != "vxtap status" {
		t.Fatalf("the block is not config, daemon, status:\n%s", block)
	}
	path := filepath.Join(t.TempDir(), "cluster.sh")
	if err := os.WriteFile(path, []byte(fmt.Sprintf(clusterScript, lines[0], lines[1], lines[2])), 0o600); err != nil {
		t.Fatal(err)
	}
	out := script(t, "ip netns exec vxtap-readme unshare -m bash -euo pipefail "+path)
	for _, want := range []string{"flannel.1", "10.5.", "FLANNEL_NETWORK=10.5.0.0/16", "FLANNEL_MTU=1450"} {
		if !strings.Contains(out, want) {
			t.Errorf("output lacks %s:\n%s", want, out)
		}
	}
}

// A lab leaves nothing behind when one of its daemons is killed meanwhile, and
// says which.
func TestDemoWithAChildKilled(t *testing.T) {
	bed.NeedRoot(t)
	for _, child := range []string{"vxtap", "etcd-server"} {
		t.Run(child, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
			defer cancel()
			var out strings.Builder
			cmd := exec.CommandContext(ctx, bed.Binary(t, "vxlab"), "demo", "-vxtap", bed.Binary(t, "vxtap"), "-size", "3000")
			cmd.Stdout, cmd.Stderr = &out, &out
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			bed.Eventually(t, 20*time.Second, func() error {
				// The one process of that name in the lab's first place for it.
				node := "h2"
				if child == "etcd-server" {
					node = "net"
				}
				ns, err := netns.Open("vxlab-demo-" + node)
				if err != nil {
					return err
				}
				defer ns.Close()
				if _, err := ns.Interface("flannel.1"); err != nil && node != "net" {
					return err
				}
				return killOne(ns)
			})
			err := cmd.Wait()
			if code := cmd.ProcessState.ExitCode(); code != 1 {
				t.Errorf("exit status %d (%v), want 1:\n%s", code, err, out.String())
			}
			noNamespaces(t, "demo")
		})
	}
}

// killOne kills the first process that lives in ns.
func killOne(ns *netns.Namespace) error {
	pids, err := ns.Processes()
	if err != nil {
		return err
	}
	if len(pids) == 0 {
		return os.ErrNotExist
	}
	p, err := os.FindProcess(pids[0])
	if err != nil {
		return err
	}
	return p.Kill()
}
