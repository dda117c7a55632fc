// SPDX-License-Identifier: Apache-2.0

// Package guide types docs/guide.md, from the first command to the last, on
// machines that are network namespaces with files of their own, and looks
// whether what the guide promises came true.
package guide

import (
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
)

// TestMain lets the test binary take the place of programs that a machine of
// this test lacks: see standin_linux_test.go.
func TestMain(m *testing.M) {
	if f := standins()[filepath.Base(os.Args[0])]; f != nil {
		if err := f(os.Args[1:]); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(bed.Main(m))
}

// block is one shell block of the guide.
type block struct {
	heading string   // that it stands below
	where   []string // names of machines
	text    string
}

// readBlocks returns the shell blocks of the guide, each with the machines of
// its first line.
func readBlocks(t *testing.T) []block {
	t.Helper()
	text, err := os.ReadFile("../../docs/guide.md")
	if err != nil {
		t.Fatal(err)
	}
	var blocks []block
	heading := ""
	for i, part := range strings.Split(string(text), "```") {
		for line := range strings.Lines(part) {
			if h, ok := strings.CutPrefix(line, "## "); ok && i%2 == 0 {
				heading = strings.TrimSpace(h)
			}
		}
		body, ok := strings.CutPrefix(part, "sh\n")
		if !ok || i%2 == 0 {
			continue
		}
		first, rest, _ := strings.Cut(body, "\n")
		where, ok := strings.CutPrefix(first, "# on ")
		if !ok {
			t.Fatalf("a block of the guide does not say where it is typed: %s", body)
		}
		blocks = append(blocks, block{heading, strings.Split(where, ", "), rest})
	}
	return blocks
}

// cluster is the machines of the guide and what its commands printed.
type cluster struct {
	t        *testing.T
	bed      *bed.Bed
	start    time.Time
	machines map[string]*machine
	printed  []printed
}

type printed struct{ machine, text, output string }

func (c *cluster) say(format string, args ...any) {
	c.t.Logf("[%5.1fs] %s", time.Since(c.start).Seconds(), fmt.Sprintf(format, args...))
}

// startCluster makes the machines of the guide, by their addresses there.
func startCluster(t *testing.T) *cluster {
	t.Helper()
	names := []string{"etcd1", "etcd2", "etcd3", "node1", "node2", "node3", "node4", "node5", "admin"}
	c := &cluster{t: t, start: time.Now(), machines: map[string]*machine{}}
	c.bed = bed.Up(t, lab.Options{
		EtcdURLs: "https://10.0.0.11:2379,https://10.0.0.12:2379,https://10.0.0.13:2379",
		Underlay: netip.MustParsePrefix("10.0.0.0/24"),
	})
	hosts := filepath.Join(t.TempDir(), "hosts")
	for _, name := range names {
		h, err := c.bed.JoinBare(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		m := startMachine(t, name, c.bed.Node(h.Node), h.VTEP)
		m.hosts = hosts
		c.machines[name] = m
		f, err := os.OpenFile(hosts, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
		if err != nil {
			t.Fatal(err)
		}
		fmt.Fprintf(f, "%s %d\n", h.VTEP, m.pid)
		f.Close()
	}
	t.Cleanup(c.report)
	// Debian starts what it installs.
	c.typeIn(block{"Debian's packages", names[:3], "systemctl start etcd\n"})
	c.say("%d machines", len(names))
	return c
}

// report shows the logs of all services when the test failed.
func (c *cluster) report() {
	if !c.t.Failed() {
		return
	}
	for name, m := range c.machines {
		for _, service := range []string{"etcd", "vxtap"} {
			if text, err := os.ReadFile(m.path(logOf(service))); err == nil {
				c.t.Logf("%s on %s:\n%s", service, name, text[max(0, len(text)-4000):])
			}
		}
	}
}

// typeIn runs a block on all its machines at once.
func (c *cluster) typeIn(b block) {
	c.t.Helper()
	outputs, errs := make([]string, len(b.where)), make([]error, len(b.where))
	var wg sync.WaitGroup
	for i, name := range b.where {
		m := c.machines[name]
		if m == nil {
			c.t.Fatalf("the guide has no machine %q", name)
		}
		wg.Go(func() { outputs[i], errs[i] = m.run(c.t.Context(), b.text) })
	}
	wg.Wait()
	for i, name := range b.where {
		if errs[i] != nil {
			c.t.Fatalf("on %s: %v\ntyped: %s\nprinted: %s", name, errs[i], b.text, outputs[i])
		}
		c.printed = append(c.printed, printed{name, b.text, outputs[i]})
	}
	c.say("%s: %d lines on %s", b.heading, strings.Count(b.text, "\n"), strings.Join(b.where, ", "))
}

// output returns what the last block with some text printed on a machine.
func (c *cluster) output(machine, text string) string {
	c.t.Helper()
	for _, p := range slices.Backward(c.printed) {
		if p.machine == machine && strings.Contains(p.text, text) {
			return p.output
		}
	}
	c.t.Fatalf("no block of the guide has %q for %s", text, machine)
	return ""
}

// wants fails the test unless that output has something n times.
func (c *cluster) wants(machine, text, want string, n int) {
	c.t.Helper()
	if out := c.output(machine, text); strings.Count(out, want) != n {
		c.t.Errorf("%s on %s: want %q %d times, got\n%s", text, machine, want, n, out)
	}
}

const year = "./issue node1 clientAuth\nscp"

func TestGuide(t *testing.T) {
	bed.NeedRoot(t)
	blocks := readBlocks(t)
	c := startCluster(t)
	var later []block
	for _, b := range blocks {
		if strings.Contains(b.text, year) {
			later = append(later, b)
			continue
		}
		c.typeIn(b)
	}
	c.wants("admin", "openssl verify", ": OK", 9)
	c.wants("admin", "endpoint health", "is healthy", 3)
	c.wants("admin", "member list", "started", 3)
	c.strangerIsRefused()
	nodes := c.nodes()
	c.leases(nodes)
	c.pairs(nodes)
	c.table(nodes)
	if len(later) != 1 {
		t.Fatalf("got %d blocks that replace a certificate, want 1", len(later))
	}
	c.typeIn(later[0])
	log := c.machines["node1"].path(logOf("vxtap"))
	took := bed.Eventually(t, 15*time.Second, func() error {
		text, err := os.ReadFile(log)
		if err == nil && !strings.Contains(string(text), "connected to etcd with the new certificates") {
			err = fmt.Errorf("node1 does not say that it has its new certificate")
		}
		return err
	})
	c.say("node1 uses its new certificate %s after it came", took.Round(time.Millisecond))
}
