// SPDX-License-Identifier: Apache-2.0

package load

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

// maxResident is what a daemon with one queue and a thousand peers may use, in
// KiB.
const maxResident = 64 << 10

func TestMemory(t *testing.T) {
	const peers = 1000
	b := bed.Up(t, lab.Options{Hosts: 2, SubnetLen: 26, Args: []string{"-queues=1"}})
	addLeases(t, b, peers-1)
	for n := 1; n <= 2; n++ {
		took := bed.Eventually(t, 10*time.Second, func() error {
			if s := b.Status(n); len(s.Peers) != peers {
				return fmt.Errorf("h%d knows %d peers, want %d; rejected %.300v", n, len(s.Peers), peers, s.Rejected)
			}
			return nil
		})
		t.Logf("h%d knows all after %s", n, took.Round(time.Millisecond))
	}
	from, to := b.ContainerEnd(1), b.ContainerEnd(2)
	warm(t, from, to)
	t.Run("idle", func(t *testing.T) { checkMemory(t, b) })
	t.Run("four streams", func(t *testing.T) {
		fourStreams(t, from, to)
		checkMemory(t, b)
	})
	t.Run("flood", func(t *testing.T) {
		for _, p := range patterns {
			ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
			_, err := traffic.Flows{Number: 4, Pattern: p.pattern, Datagrams: 10000}.Run(ctx, from, to)
			cancel()
			if err != nil {
				t.Fatal(err)
			}
		}
		checkMemory(t, b)
	})
}

// checkMemory looks at the daemons' memory, now and at its highest so far.
func checkMemory(t *testing.T, b *bed.Bed) {
	t.Helper()
	for n := 1; n <= 2; n++ {
		text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(b.Host(n).PID), "status"))
		if err != nil {
			t.Fatal(err)
		}
		kib := map[string]int{}
		for line := range strings.Lines(string(text)) {
			name, value, _ := strings.Cut(line, ":")
			if fields := strings.Fields(value); len(fields) == 2 && fields[1] == "kB" {
				kib[name], _ = strconv.Atoi(fields[0])
			}
		}
		t.Logf("h%d: resident %.1f MiB, at its highest %.1f MiB", n, float64(kib["VmRSS"])/1024, float64(kib["VmHWM"])/1024)
		if high := kib["VmHWM"]; high == 0 || high > maxResident {
			t.Errorf("h%d had %d KiB resident, want %d at the most", n, high, maxResident)
		}
	}
}

// addLeases puts leases of n hosts into etcd that are not there.
func addLeases(t *testing.T, b *bed.Bed, n int) {
	t.Helper()
	taken := map[netip.Prefix]bool{}
	for _, h := range b.Hosts() {
		taken[h.Subnet] = true
	}
	var script strings.Builder
	flush := func() {
		if script.Len() > 0 {
			// No comparison, and nothing to do where one fails.
			b.EtcdctlWith("\n"+script.String()+"\n\n", "txn")
			script.Reset()
		}
	}
	for i, added := 1, 0; added < n; i++ {
		subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 30, byte(i >> 2), byte(i << 6)}), 26)
		if taken[subnet] {
			continue
		}
		value := fmt.Sprintf(`{"PublicIP":"10.77.%d.%d","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:%02x:%02x"}}`, i>>8, i&255, i>>8, i&255)
		fmt.Fprintf(&script, "put %s/subnets/%s-26 %q\n", bed.Prefix, subnet.Addr(), value)
		if added++; added%100 == 0 {
			flush()
		}
	}
	flush()
}

// maxIdle is how much of a core a daemon may use that has nothing to do.
const maxIdle = 0.005

func TestIdle(t *testing.T) {
	const during = 5 * time.Second
	b := bed.Up(t, lab.Options{Hosts: 2, Args: []string{"-queues=4"}})
	warm(t, b.ContainerEnd(1), b.ContainerEnd(2))
	time.Sleep(time.Second) // until what a start leaves to do is done
	before := [2]time.Duration{cpuTime(t, b, 1), cpuTime(t, b, 2)}
	time.Sleep(during)
	for n := 1; n <= 2; n++ {
		used := cpuTime(t, b, n) - before[n-1]
		t.Logf("h%d: %.3f %% of a core", n, 100*used.Seconds()/during.Seconds())
		if used.Seconds() > maxIdle*during.Seconds() {
			t.Errorf("h%d used %s of %s, want %.1f %% at the most", n, used, during, 100*maxIdle)
		}
	}
}

// cpuTime returns how long the threads of a daemon have been running, to the
// nanosecond: the ticks of /proc/PID/stat are too coarse here.
func cpuTime(t *testing.T, b *bed.Bed, n int) (sum time.Duration) {
	t.Helper()
	files, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(b.Host(n).PID), "task/*/schedstat"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no threads of h%d: %v", n, err)
	}
	for _, f := range files {
		text, err := os.ReadFile(f)
		if err != nil {
			continue // a thread that has ended
		}
		fields := strings.Fields(string(text))
		ns, err := strconv.ParseInt(fields[0], 10, 64)
		if err != nil {
			t.Fatal(err)
		}
		sum += time.Duration(ns)
	}
	return sum
}
