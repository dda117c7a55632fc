// SPDX-License-Identifier: Apache-2.0

// Package bed puts up what the black-box tests stand on: the two programs,
// built from this tree, a lab of their own, hosts whose kernel does VXLAN
// beside the lab's own, and the eyes and hands of an operator: vxtap status and
// etcdctl.
package bed

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/cmd/vxlab/netns"
	"vxtap/encap/ether"
	"vxtap/test/stall"
	"vxtap/test/traffic"
)

// Bed is a lab that ends with its test.
type Bed struct {
	*lab.Lab
	t *testing.T
}

// binaries builds the programs once for each test binary.
var binaries = sync.OnceValues(func() (string, error) {
	dir, err := os.MkdirTemp("", "vxtap-test-")
	if err != nil {
		return "", err
	}
	cmd := exec.Command("go", "build", "-o", dir+string(filepath.Separator), "vxtap/cmd/vxtap", "vxtap/cmd/vxlab")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return "", fmt.Errorf("build: %w\n%s", err, out)
	}
	return dir, nil
})

// Binary returns the path of vxtap or vxlab, built from this tree.
func Binary(t testing.TB, name string) string {
	t.Helper()
	dir, err := binaries()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(dir, name)
}

// Main runs a package's tests and removes the built programs: for TestMain.
func Main(m *testing.M) int {
	code := m.Run()
	if dir, err := binaries(); err == nil {
		_ = os.RemoveAll(dir)
	}
	return code
}

// NeedRoot ends a test that cannot run without root: in CI as a failure.
func NeedRoot(t testing.TB) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("network namespaces need root")
	}
	t.Skip("not run: network namespaces need root")
}

// Up puts up a lab for the time of the test. The test fails if any daemon of
// it loses count of a frame.
func Up(t *testing.T, o lab.Options) *Bed {
	t.Helper()
	NeedRoot(t)
	o.Vxlab, o.Owned = Binary(t, "vxlab"), true
	if o.Vxtap == "" {
		o.Vxtap = Binary(t, "vxtap")
	}
	if o.Name == "" {
		o.Name = fmt.Sprintf("t%d", os.Getpid()%100000)
	}
	l, err := lab.Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	b := &Bed{Lab: l, t: t}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
		defer cancel()
		b.report(ctx)
		if err := l.Down(ctx); err != nil {
			t.Errorf("take the lab down: %v", err)
		}
	})
	return b
}

// report checks the books of every daemon that still runs, and shows what a
// daemon wrote when the test failed.
func (b *Bed) report(ctx context.Context) {
	for _, h := range b.Hosts() {
		if h.Bare || h.PID == 0 {
			continue
		}
		if _, err := b.status(ctx, h); err != nil {
			b.t.Errorf("%s: %v", h.Node, err)
		}
	}
	if !b.t.Failed() {
		return
	}
	for _, h := range b.Hosts() {
		if text, err := os.ReadFile(h.Log); err == nil {
			b.t.Logf("log of %s:\n%s", h.Node, text)
		}
	}
}

// Node opens a node's namespace ("h1", "c1", "net") until the test ends.
func (b *Bed) Node(node string) *netns.Namespace {
	b.t.Helper()
	ns, err := b.Namespace(node)
	if err != nil {
		b.t.Fatal(err)
	}
	b.t.Cleanup(func() { ns.Close() })
	return ns
}

// Host returns host n, counted from 1.
func (b *Bed) Host(n int) lab.Host { return b.Hosts()[n-1] }

// HostEnd is host n itself, with the address that its traffic into the overlay
// has.
func (b *Bed) HostEnd(n int) traffic.End {
	b.t.Helper()
	h := b.Host(n)
	return traffic.End{Namespace: b.Node(h.Node), Addr: h.Subnet.Addr()}
}

// ContainerEnd is the container of host n.
func (b *Bed) ContainerEnd(n int) traffic.End {
	b.t.Helper()
	return traffic.End{Namespace: b.Node(lab.ContainerNode(n)), Addr: b.Host(n).Container}
}

// ContainerEnd6 is ContainerEnd with the container's IPv6 address.
func (b *Bed) ContainerEnd6(n int) traffic.End {
	b.t.Helper()
	return traffic.End{Namespace: b.Node(lab.ContainerNode(n)), Addr: b.Host(n).IPv6Container}
}

// Status is what these tests read of vxtap status -o json.
type Status struct {
	State    string   `json:"state"`
	Warnings []string `json:"warnings"`

	Subnet netip.Prefix `json:"subnet"`
	MAC    ether.MAC    `json:"mac"`
	MTU    int          `json:"mtu"`
	VTEP   netip.Addr   `json:"vtep"`
	Port   uint16       `json:"port"`
	Config struct {
		State   string `json:"state"`
		Refused uint64 `json:"refused"`
	} `json:"config"`
	Etcd struct {
		Connected bool       `json:"connected"`
		PeersAsOf *time.Time `json:"peers_as_of"`
	} `json:"etcd"`
	Lease struct {
		Key  string  `json:"key"`
		Left float64 `json:"left_seconds"`
	} `json:"lease"`
	Offloads struct {
		TAP []string `json:"tap"`
		UDP []string `json:"udp"`
	} `json:"offloads"`
	Queues int `json:"queues"`
	TXPath struct {
		InUse  string `json:"in_use"`
		Device string `json:"device"`
		Reason string `json:"reason"`
		Frames uint64 `json:"frames"`
		Cut    []struct {
			VTEP   netip.Addr `json:"vtep"`
			Reason string     `json:"reason"`
		} `json:"cut"`
	} `json:"tx_path"`
	SocketOverflows uint64 `json:"socket_overflows"`
	TAPOverflows    uint64 `json:"tap_overflows"`

	Out   Direction `json:"out"`
	In    Direction `json:"in"`
	Peers []Peer    `json:"peers"`
	IPv6  *struct {
		Reason string       `json:"reason"`
		Device string       `json:"device"`
		Subnet netip.Prefix `json:"subnet"`
		VTEP   netip.Addr   `json:"vtep"`
		MAC    ether.MAC    `json:"mac"`
		MTU    int          `json:"mtu"`

		Address netip.Addr `json:"address"`
		TXPath  struct {
			InUse  string `json:"in_use"`
			Reason string `json:"reason"`
		} `json:"tx_path"`
		Out   Direction `json:"out"`
		In    Direction `json:"in"`
		Peers []Peer    `json:"peers"`
	} `json:"ipv6"`
	Rejected []struct {
		Key    string `json:"key"`
		Reason string `json:"reason"`
	} `json:"rejected"`
	RejectedMore int `json:"rejected_more"`
}

// Peer is one peer of a Status.
type Peer struct {
	Subnet    netip.Prefix `json:"subnet"`
	VTEP      netip.Addr   `json:"vtep"`
	MAC       ether.MAC    `json:"mac"`
	OutFrames uint64       `json:"out_frames"`
	InFrames  uint64       `json:"in_frames"`
	Direct    bool         `json:"direct"`
}

// Direction is one direction of a Status.
type Direction struct {
	Received  uint64            `json:"received"`
	Delivered uint64            `json:"delivered"`
	Drops     map[string]uint64 `json:"drops"`
}

// Status asks the daemon of host n. Its books must be balanced: received =
// delivered + the sum of drops, in both directions.
func (b *Bed) Status(n int) Status {
	b.t.Helper()
	s, err := b.status(b.t.Context(), b.Host(n))
	if err != nil {
		b.t.Fatal(err)
	}
	return s
}

// TryStatus is Status of a daemon that may be between two segments, and not
// answer.
func (b *Bed) TryStatus(n int) (Status, error) {
	b.t.Helper()
	return b.status(b.t.Context(), b.Host(n))
}

func (b *Bed) status(ctx context.Context, h lab.Host) (s Status, err error) {
	out, err := exec.CommandContext(ctx, Binary(b.t, "vxtap"), "status", "-o", "json", "-run-dir", h.RunDir).Output()
	if err != nil {
		return s, fmt.Errorf("vxtap status: %w: %s", err, stderrOf(err))
	}
	if err := json.Unmarshal(out, &s); err != nil {
		return s, fmt.Errorf("vxtap status -o json: %w", err)
	}
	books := map[string]Direction{"out": s.Out, "in": s.In}
	if s.IPv6 != nil && s.IPv6.Device != "" {
		books["IPv6 out"], books["IPv6 in"] = s.IPv6.Out, s.IPv6.In
	}
	for name, d := range books {
		sum := d.Delivered
		for _, n := range d.Drops {
			sum += n
		}
		if sum != d.Received {
			return s, fmt.Errorf("%s: received %d frames, delivered and dropped %d: %v", name, d.Received, sum, d.Drops)
		}
	}
	return s, nil
}

// HasPeer reports whether s has a peer with subnet.
func (s Status) HasPeer(subnet netip.Prefix) bool {
	for _, p := range s.Peers {
		if p.Subnet == subnet {
			return true
		}
	}
	return false
}

// Run runs a program in a namespace and returns what it prints. It fails the
// test if the program does; name the Debian package that has it in .ci/deps.
func Run(t testing.TB, ns *netns.Namespace, program string, args ...string) string {
	t.Helper()
	return RunWith(t, ns, "", program, args...)
}

// RunWith is Run with something on standard input.
func RunWith(t testing.TB, ns *netns.Namespace, input, program string, args ...string) string {
	t.Helper()
	cmd := exec.Command(program, args...)
	var out strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &out
	if err := ns.Start(cmd); err != nil {
		t.Fatalf("%s (.ci/deps installs it): %v", program, err)
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("%s %s: %v: %s", program, strings.Join(args, " "), err, out.String())
	}
	return out.String()
}

// Prefix is the -etcd-prefix of a lab's daemons.
const Prefix = lab.EtcdPrefix

// Etcdctl runs etcdctl where the lab's etcd is and returns what it prints.
func (b *Bed) Etcdctl(args ...string) string {
	b.t.Helper()
	return b.EtcdctlWith("", args...)
}

// EtcdctlWith is Etcdctl with something on standard input.
func (b *Bed) EtcdctlWith(input string, args ...string) string {
	b.t.Helper()
	out, err := etcdctl(b.Node("net"), b.EtcdURL(), input, args...)
	if err != nil {
		b.t.Fatal(err)
	}
	return out
}

// Etcdctl runs etcdctl in a namespace and returns what it prints.
func Etcdctl(ns *netns.Namespace, url string, args ...string) (string, error) {
	return etcdctl(ns, url, "", args...)
}

func etcdctl(ns *netns.Namespace, url, input string, args ...string) (string, error) {
	cmd := exec.Command("etcdctl", append([]string{"--endpoints", url, "--command-timeout", "5s"}, args...)...)
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
	var out strings.Builder
	cmd.Stdin, cmd.Stdout, cmd.Stderr = strings.NewReader(input), &out, &out
	if err := ns.Start(cmd); err != nil {
		return "", fmt.Errorf("etcdctl (Debian: etcd-client): %w", err)
	}
	if err := cmd.Wait(); err != nil {
		return "", fmt.Errorf("etcdctl %s: %w: %s", strings.Join(args, " "), err, out.String())
	}
	return out.String(), nil
}

// Eventually calls f until it returns nil, and fails the test with its last
// error after limit, from which the time is taken out for which the machine was
// short of processors. It returns the time that it took.
func Eventually(t testing.TB, limit time.Duration, f func() error) time.Duration {
	t.Helper()
	start, clock := time.Now(), stall.Start()
	for {
		err := f()
		if err == nil {
			return time.Since(start)
		}
		if clock.Took() > limit {
			t.Fatalf("not within %s: %v", limit, err)
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func stderrOf(err error) string {
	if exit, ok := errors.AsType[*exec.ExitError](err); ok {
		return strings.TrimSpace(string(exit.Stderr))
	}
	return ""
}
