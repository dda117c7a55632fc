// SPDX-License-Identifier: Apache-2.0

// Package flood has strangers fill etcd below the network's prefix: with values of a
// megabyte, with keys by the ten thousand, with keys of a megabyte. Hosts may not grow
// with it.
package flood

import (
	"context"
	"fmt"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"vxtap/test/bed"
	"vxtap/test/traffic"
)

func TestMain(m *testing.M) { os.Exit(bed.Main(m)) }

const (
	mib = 1 << 20
	// mostMore is what a daemon may grow by while a flood comes and stands, and
	// leftMore what of it may be left when it has gone.
	mostMore = 64 * mib
	leftMore = 16 * mib
	// gone is how long after a flood its memory may take to be given back.
	gone = 30 * time.Second
)

// flood is what strangers put below the prefix, all of it below one key.
type flood struct {
	name   string
	prefix string
	n      int
	pair   func(i int) (key, value string)
	// refused is what a key of it is shown with; "" where it is not below subnets.
	refused string
}

func floods() []flood {
	large := strings.Repeat("x", mib)
	deep := strings.Repeat("[", mib)
	return []flood{
		{"150 values of a megabyte", "/subnets/junk-", 150, numbered("/subnets/junk-", large), "subnet such as"},
		{"60 leases of a megabyte", "/subnets/10.", 60, func(i int) (string, string) {
			return fmt.Sprintf("/subnets/10.0.%d.0-24", i), large
		}, "no lease is"},
		{"20000 keys of a kilobyte", "/subnets/many-", 20000, numbered("/subnets/many-", large[:1000]), "subnet such as"},
		{"40 keys of a megabyte", "/subnets/long-", 40, func(i int) (string, string) {
			return fmt.Sprintf("/subnets/long-%d-%s", i, large), "x"
		}, "subnet such as"},
		{"JSON of a million levels", "/subnets/10.", 20, func(i int) (string, string) {
			return fmt.Sprintf("/subnets/10.1.%d.0-24", i), deep
		}, "no lease is"},
		{"values beside the config", "/config-", 40, numbered("/config-", large), ""},
	}
}

func numbered(prefix, value string) func(int) (string, string) {
	return func(i int) (string, string) { return prefix + strconv.Itoa(i), value }
}

// Whatever strangers put below the prefix, a daemon's memory is bounded, also that of
// one that starts into it, and comes back when the flood has gone. Hosts go on all the
// while, and the keys are named or at least counted.
func TestMemoryInAFlood(t *testing.T) {
	r := startRig(t)
	sane := r.settled()
	t.Logf("RssAnon of the daemons with sane leases: %d and %d MiB", sane[0]/mib, sane[1]/mib)
	for _, f := range floods() {
		t.Run(f.name, func(t *testing.T) {
			r := &rig{Bed: r.Bed, t: t, ns: r.ns}
			peaks := r.watchMemory()
			r.put(f.n, f.pair)
			r.shows(f)
			r.works()
			running := peaks()

			if err := r.StopHost(t.Context(), 2); err != nil {
				t.Fatal(err)
			}
			peaks = r.watchMemory()
			start := time.Now()
			if err := r.StartHost(t.Context(), 2); err != nil {
				t.Fatal(err)
			}
			took := time.Since(start)
			r.shows(f)
			r.works()
			starting := peaks()
			r.delete(f.prefix)
			r.shows(flood{})
			t.Logf("most RssAnon: %d and %d MiB while it came, %d MiB in a daemon that started into it, in %s",
				running[0]/mib, running[1]/mib, starting[1]/mib, took.Round(time.Millisecond))
			for i, most := range []int64{running[0], running[1], starting[1]} {
				if sane := sane[min(i, 1)]; most > sane+mostMore {
					t.Errorf("%d MiB are more than %d and %d MiB", most/mib, sane/mib, mostMore/mib)
				}
			}
			took = r.comesBack(sane)
			left := r.rss()
			t.Logf("%s after it had gone: %d and %d MiB", took.Round(time.Second), left[0]/mib, left[1]/mib)
		})
	}
}

// A config of a megabyte is no config, and costs nothing but a sentence.
func TestConfigOfAMegabyte(t *testing.T) {
	r := startRig(t)
	sane := r.settled()
	peaks := r.watchMemory()
	for _, value := range []string{strings.Repeat("[", mib), `{"Network": "172.30.0.0/16", "Backend": ` + strings.Repeat(`{"a":`, mib/6)} {
		r.ctl(value, "put", bed.Prefix+"/config")
		bed.Eventually(t, 5*time.Second, func() error {
			if s := r.Status(1); !strings.Contains(fmt.Sprint(s.Warnings), "longer than") {
				return fmt.Errorf("warnings %v do not name it", s.Warnings)
			}
			return nil
		})
		r.works()
	}
	for i, most := range peaks() {
		t.Logf("most RssAnon: %d MiB", most/mib)
		if most > sane[i]+mostMore {
			t.Errorf("%d MiB are more than %d and %d MiB", most/mib, sane[i]/mib, mostMore/mib)
		}
	}
}

// works holds both hosts to what they are for.
func (r *rig) works() {
	r.t.Helper()
	bed.Eventually(r.t, 5*time.Second, func() error {
		ctx, cancel := context.WithTimeout(r.t.Context(), 2*time.Second)
		defer cancel()
		return traffic.Datagrams(ctx, r.ContainerEnd(1), r.ContainerEnd(2), 100)
	})
}

// shows waits until both hosts have left out all of f, name some of it, and know each
// other all the same.
func (r *rig) shows(f flood) {
	r.t.Helper()
	want := f.n
	if f.refused == "" {
		want = 0
	}
	bed.Eventually(r.t, gone, func() error {
		for n := 1; n <= 2; n++ {
			s := r.Status(n)
			if got := len(s.Rejected) + s.RejectedMore; got != want || len(s.Peers) != 1 {
				return fmt.Errorf("h%d leaves out %d keys and has %d peers, want %d and 1", n, got, len(s.Peers), want)
			}
			for _, x := range s.Rejected {
				if !strings.Contains(bed.Prefix+"/"+x.Key, f.prefix) || !strings.Contains(x.Reason, f.refused) || len(x.Key)+len(x.Reason) > 500 {
					return fmt.Errorf("h%d says of %s that %s, want %q", n, x.Key, x.Reason, f.refused)
				}
			}
		}
		return nil
	})
}

// rss returns the anonymous memory of both daemons, in bytes; 0 of one that does not
// run.
func (r *rig) rss() [2]int64 {
	var all [2]int64
	for i := range all {
		status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", r.Host(i+1).PID))
		if err != nil {
			continue
		}
		_, after, _ := strings.Cut(string(status), "RssAnon:")
		kib, _, _ := strings.Cut(strings.TrimSpace(after), " ")
		n, _ := strconv.ParseInt(kib, 10, 64)
		all[i] = n << 10
	}
	return all
}

// settled returns rss when both have been at rest for a moment.
func (r *rig) settled() [2]int64 {
	r.t.Helper()
	last := r.rss()
	bed.Eventually(r.t, 10*time.Second, func() error {
		time.Sleep(500 * time.Millisecond)
		now := r.rss()
		defer func() { last = now }()
		if now[0] == 0 || now[1] == 0 || now != last {
			return fmt.Errorf("%v and then %v", last, now)
		}
		return nil
	})
	return last
}

// watchMemory looks at rss until the returned function is called, which returns the
// most that there was.
func (r *rig) watchMemory() func() [2]int64 {
	var most [2]atomic.Int64
	end, done := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(done)
		each := time.NewTicker(10 * time.Millisecond)
		defer each.Stop()
		for {
			for i, n := range r.rss() {
				most[i].Store(max(most[i].Load(), n))
			}
			select {
			case <-end:
				return
			case <-each.C:
			}
		}
	}()
	return func() [2]int64 {
		close(end)
		<-done
		return [2]int64{most[0].Load(), most[1].Load()}
	}
}

// comesBack waits until both daemons have given back what a flood took.
func (r *rig) comesBack(sane [2]int64) time.Duration {
	r.t.Helper()
	return bed.Eventually(r.t, gone, func() error {
		for i, n := range r.rss() {
			if n > sane[i]+leftMore {
				return fmt.Errorf("h%d has %d MiB, and had %d before", i+1, n/mib, sane[i]/mib)
			}
		}
		return nil
	})
}
