// SPDX-License-Identifier: Apache-2.0

package flannel

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/cmd/vxlab/netns"
	"vxtap/test/bed"
)

const (
	hosts  = 40
	rounds = 4 // of flannelds, until one of them has failed
)

// fleetConfig has room for 60 hosts: forty that choose at random and at once
// choose the same somewhere, as they do with a hundred to choose from, but later.
const fleetConfig = `{"Network":"172.30.0.0/16","SubnetMin":"172.30.1.0","SubnetMax":"172.30.60.0",%s"Backend":{"Type":"vxlan"}}`

// F3: of flannelds that are started at once some end, because two of them chose
// the same subnet and the one that lost does not choose again. vxtaps all get one.
func TestF03StartedAtOnce(t *testing.T) {
	flanneld := bed.FlanneldBinary(t)
	b := bed.Up(t, lab.Options{Hosts: 1})
	var nodes []*netns.Namespace
	for range hosts {
		h, err := b.JoinBare(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		nodes = append(nodes, b.Node(h.Node))
	}
	nft := ""
	if _, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables"); err != nil {
		nft = `"EnableNFTables":true,` // without br_netfilter a flanneld starts with that only
	}
	config := fmt.Sprintf(fleetConfig, nft)

	t.Run("vxtap", func(t *testing.T) {
		// Nothing is forwarded here, and forty daemons share two cores.
		f := startFleet(t, b, nodes, "/ours", bed.Binary(t, "vxtap"), "-offload=off", "-queues=1", "-state-dir=none")
		f.release(b, config)
		f.await(t)
		for i, p := range f.members {
			if p.ended() {
				t.Errorf("host %d: vxtap ended with status %d:\n%s", i+1, p.cmd.ProcessState.ExitCode(), p.log())
			}
		}
		if n := f.subnets(t); n != hosts {
			t.Errorf("%d hosts have %d subnets", hosts, n)
		}
	})
	t.Run("flanneld", func(t *testing.T) {
		for round := range rounds {
			if failed := flanneldRound(t, b, nodes, fmt.Sprintf("/theirs%d", round+1), flanneld, config); failed > 0 {
				t.Logf("round %d: %d of %d flannelds ended with \"subnet already exists\"", round+1, failed, hosts)
				return
			}
		}
		t.Logf("no flanneld of %d failed in %d rounds: that is luck, or a version that is mended", hosts, rounds)
	})
}

func flanneldRound(t *testing.T, b *bed.Bed, nodes []*netns.Namespace, prefix, flanneld, config string) (failed int) {
	t.Helper()
	f := startFleet(t, b, nodes, prefix, flanneld)
	defer f.stop()
	f.release(b, config)
	f.await(t)
	for _, p := range f.members {
		if p.ended() && strings.Contains(p.log(), "subnet already exists") {
			failed++
		}
	}
	f.subnets(t)
	return failed
}

// fleet is one program on many hosts.
type fleet struct {
	prefix  string
	members []*member
}

type member struct {
	cmd  *exec.Cmd
	dir  string
	gone chan struct{}
}

// startFleet starts a program everywhere, as a network without a config, for
// which all wait.
func startFleet(t *testing.T, b *bed.Bed, nodes []*netns.Namespace, prefix, program string, args ...string) *fleet {
	t.Helper()
	f := &fleet{prefix: prefix}
	t.Cleanup(f.stop)
	for _, ns := range nodes {
		m := &member{dir: t.TempDir(), gone: make(chan struct{})}
		own := []string{"-etcd-endpoints=" + b.EtcdURL(), "-etcd-prefix=" + prefix, "-iface=eth0", "-subnet-file=" + m.subnetFile()}
		if filepath.Base(program) == "vxtap" {
			own = append(own, "-run-dir="+m.dir)
		}
		m.cmd = exec.Command(program, append(own, args...)...)
		log, err := os.Create(filepath.Join(m.dir, "log"))
		if err != nil {
			t.Fatal(err)
		}
		m.cmd.Stdout, m.cmd.Stderr = log, log
		err = ns.Start(m.cmd)
		log.Close() // the child has its own
		if err != nil {
			t.Fatal(err)
		}
		go func() {
			defer close(m.gone)
			_ = m.cmd.Wait() // the status is in ProcessState
		}()
		f.members = append(f.members, m)
	}
	for _, m := range f.members {
		bed.Eventually(t, 60*time.Second, func() error {
			if log := m.log(); !strings.Contains(log, "network config") && !strings.Contains(log, prefix+"/config") {
				return fmt.Errorf("it does not wait for the config: %s", log)
			}
			return nil
		})
	}
	return f
}

// release lets all of them see the config at the same time.
func (f *fleet) release(b *bed.Bed, config string) {
	f.signal(syscall.SIGSTOP)
	b.Etcdctl("put", f.prefix+"/config", config)
	f.signal(syscall.SIGCONT)
}

func (f *fleet) signal(sig syscall.Signal) {
	for _, m := range f.members {
		_ = m.cmd.Process.Signal(sig) // it may have ended: await tells
	}
}

func (f *fleet) stop() {
	f.signal(syscall.SIGKILL)
	for _, m := range f.members {
		<-m.gone
	}
}

// await waits until each has its subnet file or has ended.
func (f *fleet) await(t *testing.T) {
	t.Helper()
	for i, m := range f.members {
		bed.Eventually(t, 60*time.Second, func() error {
			if _, err := os.Stat(m.subnetFile()); err != nil && !m.ended() {
				return fmt.Errorf("host %d: %w", i+1, err)
			}
			return nil
		})
	}
}

// subnets returns how many different subnets there are in files. Two files with
// one subnet are an error, whoever wrote them.
func (f *fleet) subnets(t *testing.T) int {
	t.Helper()
	seen := make(map[string]int)
	for i, m := range f.members {
		b, err := os.ReadFile(m.subnetFile())
		if err != nil {
			continue
		}
		_, rest, _ := strings.Cut(string(b), "FLANNEL_SUBNET=")
		subnet, _, _ := strings.Cut(rest, "\n")
		if other, twice := seen[subnet]; twice {
			t.Errorf("hosts %d and %d both have %s", other, i+1, subnet)
		}
		seen[subnet] = i + 1
	}
	return len(seen)
}

func (m *member) subnetFile() string { return filepath.Join(m.dir, "subnet.env") }

func (m *member) log() string {
	b, err := os.ReadFile(filepath.Join(m.dir, "log"))
	if err != nil {
		return err.Error()
	}
	return string(b)
}

func (m *member) ended() bool {
	select {
	case <-m.gone:
		return true
	default:
		return false
	}
}
