// SPDX-License-Identifier: Apache-2.0

package offload

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/encap/ether"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

const (
	mostResident = 64 << 10 // KiB, with one queue and manyPeers
	manyPeers    = 1000
	// perTransaction is less than the 128 operations that etcd takes.
	perTransaction = 125
	idleFor        = 5 * time.Second
	mostIdle       = 0.005 // of a core
)

// A daemon with a thousand peers stays small under load and comes to rest after
// it.
func TestFrugal(t *testing.T) {
	for _, args := range [][]string{{"-queues=1"}, {"-queues=1", "-offload=off"}} {
		t.Run(fmt.Sprint(args), func(t *testing.T) {
			b := bed.Up(t, lab.Options{Hosts: 2, Network: netip.MustParsePrefix("172.16.0.0/12"), Args: args})
			awaitPeers(t, b, 1)
			alone := memory(t, b.Host(1).PID, "VmRSS")
			addPeers(b, manyPeers)
			awaitPeers(t, b, 1+manyPeers)
			before := memory(t, b.Host(1).PID, "VmRSS")
			load(t, b.ContainerEnd(1), b.ContainerEnd(2))
			for n := 1; n <= 2; n++ {
				pid := b.Host(n).PID
				peak, after := memory(t, pid, "VmHWM"), memory(t, pid, "VmRSS")
				t.Logf("h%d: %d KiB resident at the most, %d after it", n, peak, after)
				if peak > mostResident {
					t.Errorf("h%d: %d KiB resident, want %d at the most", n, peak, mostResident)
				}
			}
			t.Logf("h1: %d KiB with one peer, %d with all; super-frames go by %s", alone, before, b.Status(1).TXPath.InUse)
			idle(t, b)
		})
	}
}

// addPeers puts the leases of n hosts into etcd that nobody will ever meet.
func addPeers(b *bed.Bed, n int) {
	var txn strings.Builder
	for i := range n {
		if i%perTransaction == 0 {
			txn.WriteString("\n") // no conditions
		}
		k := bed.Kernel{
			VTEP:   netip.AddrFrom4([4]byte{10, 99, byte(i >> 8), byte(i)}),
			Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, byte(24 + i>>8), byte(i), 0}), 24),
			MAC:    ether.RandomMAC(),
		}
		fmt.Fprintf(&txn, "put %s %q\n", k.LeaseKey(), k.LeaseValue())
		if i%perTransaction == perTransaction-1 || i == n-1 {
			b.EtcdctlWith(txn.String()+"\n\n", "txn")
			txn.Reset()
		}
	}
}

// load is four TCP streams, then all small and large datagrams that fit.
func load(t *testing.T, from, to traffic.End) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), limit)
	defer cancel()
	n, err := traffic.Pour(ctx, from, to, 4, 2*time.Second)
	if err != nil {
		t.Fatal(err)
	}
	t.Logf("four streams: %.1f Gb/s", float64(n)*8/2e9)
	for _, pattern := range [][]traffic.Burst{{{Size: 64, Count: 1}}, {{Size: 1400, Count: 40}}} {
		tally, err := traffic.Flows{Number: 4, Pattern: pattern, Datagrams: 50000}.Run(ctx, from, to)
		if err != nil {
			t.Fatal(err)
		}
		t.Logf("%d bytes: %s", pattern[0].Size, tally)
	}
}

// idle measures what the daemons use when there is nothing to do.
func idle(t *testing.T, b *bed.Bed) {
	t.Helper()
	time.Sleep(time.Second) // for what the load has left behind
	var before [2]time.Duration
	for i := range before {
		before[i] = busy(t, b.Host(i+1).PID)
	}
	time.Sleep(idleFor)
	for i := range before {
		share := (busy(t, b.Host(i+1).PID) - before[i]).Seconds() / idleFor.Seconds()
		t.Logf("h%d idle: %.3f %% of a core", i+1, 100*share)
		if share > mostIdle {
			t.Errorf("h%d uses %.3f %% of a core when idle, want %.1f at the most", i+1, 100*share, 100*mostIdle)
		}
	}
}

// memory returns a line of /proc/PID/status in KiB.
func memory(t *testing.T, pid int, name string) int {
	t.Helper()
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, name+":"); ok {
			n, err := strconv.Atoi(strings.TrimSuffix(strings.TrimSpace(value), " kB"))
			if err != nil {
				t.Fatal(err)
			}
			return n
		}
	}
	t.Fatalf("the state of process %d lacks %s", pid, name)
	return 0
}

// busy returns for how long the threads of a process have run, from their
// schedstat: /proc/PID/stat counts in hundredths of a second, too coarse here.
func busy(t *testing.T, pid int) (sum time.Duration) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task/*/schedstat"))
	if err != nil || len(files) == 0 {
		t.Fatalf("process %d has no threads: %v", pid, err)
	}
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue // the thread has just ended
		}
		field, _, _ := strings.Cut(string(text), " ")
		ns, atoi := strconv.ParseInt(field, 10, 64)
		if err = errors.Join(err, atoi); err != nil {
			t.Fatal(err)
		}
		sum += time.Duration(ns)
	}
	return sum
}
