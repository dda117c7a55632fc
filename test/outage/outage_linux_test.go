// SPDX-License-Identifier: Apache-2.0

// Package outage takes etcd away from hosts that carry traffic: all of it, its
// leader, and the certificate that it lets them in by. Nothing that containers
// send each other may be lost.
package outage

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
	"vxtap/test/stall"
	"vxtap/test/traffic"
)

func TestMain(m *testing.M) { os.Exit(bed.Main(m)) }

// downFor is how long all of etcd is away.
const downFor = 60 * time.Second

// rig is hosts on a cluster of three members.
type rig struct {
	*bed.Bed
	t   *testing.T
	m   *members
	new int // hosts that were made up
}

func startRig(t *testing.T) *rig {
	t.Helper()
	bed.NeedRoot(t)
	b := outside(t, "z", 3)
	r := &rig{Bed: b, t: t, m: startMembers(t, b.Node("net"), 3)}
	r.m.network()
	for n := 1; n <= 2; n++ {
		if _, err := r.join(n); err != nil {
			t.Fatal(err)
		}
	}
	return r
}

// join adds a host with a certificate of its own, hN.crt.
func (r *rig) join(n int) (lab.Host, error) {
	crt, key := r.m.ca.Sign(r.t, lab.HostNode(n), time.Now().Add(time.Hour))
	return r.Join(r.t.Context(), "-etcd-cafile="+r.m.ca.File, "-etcd-certfile="+crt, "-etcd-keyfile="+key)
}

// learns puts the lease of a host that does not exist into etcd, and waits
// until both hosts know it: they are not merely forwarding what they knew.
func (r *rig) learns(within time.Duration) {
	r.t.Helper()
	r.new++
	key := fmt.Sprintf("%s/subnets/172.30.%d.0-24", bed.Prefix, 200+r.new)
	r.m.must("put", key, fmt.Sprintf(`{"PublicIP":"192.168.77.%d","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:01:%02x"}}`, 200+r.new, r.new))
	defer r.m.must("del", key)
	took := bed.Eventually(r.t, within, func() error {
		for n := 1; n <= 2; n++ {
			s, err := r.TryStatus(n)
			if err != nil || !s.Etcd.Connected || s.State != "ready" {
				return fmt.Errorf("h%d is %q, connected: %v, %w", n, s.State, s.Etcd.Connected, err)
			}
			if !strings.Contains(fmt.Sprint(s.Peers), fmt.Sprintf("172.30.%d.0/24", 200+r.new)) {
				return fmt.Errorf("h%d does not know the new host", n)
			}
		}
		return nil
	})
	r.t.Logf("both hosts learn a new one within %s", took.Round(time.Millisecond))
}

// carry lets the containers of hosts 1 and 2 talk to each other while f runs:
// numbered datagrams and a stream, each way. Nothing may be lost, come twice,
// late or spoilt, and no stream may stand still for a second.
func (r *rig) carry(f func()) {
	r.t.Helper()
	ctx, cancel := context.WithTimeout(r.t.Context(), 3*time.Minute)
	defer cancel()
	one, two := r.ContainerEnd(1), r.ContainerEnd(2)
	end := make(chan struct{})
	type outcome struct {
		text string
		err  error
	}
	outcomes := make(chan outcome, 4)
	for _, way := range [][2]traffic.End{{one, two}, {two, one}} {
		go func() {
			flows := traffic.Flows{Number: 1, Pattern: []traffic.Burst{{Size: 200, Count: 1}}, Pace: 2 * time.Millisecond, Until: end}
			t, err := flows.Run(ctx, way[0], way[1])
			if err == nil && (t.Lost() != 0 || t.Late != 0 || t.Twice != 0 || t.Spoilt != 0 || t.Sent == 0) {
				err = errors.New("want none lost")
			}
			outcomes <- outcome{fmt.Sprintf("datagrams %s to %s: %s", way[0].Addr, way[1].Addr, t), err}
		}()
		go func() {
			n, err := traffic.Trickle(ctx, way[0], way[1], 5*time.Millisecond, time.Second, end)
			outcomes <- outcome{fmt.Sprintf("stream %s to %s: %d bytes, same SHA-256", way[0].Addr, way[1].Addr, n), err}
		}()
	}
	func() {
		defer close(end) // also when f ends the test
		f()
	}()
	for range 4 {
		if o := <-outcomes; o.err != nil {
			r.t.Errorf("%s: %v", o.text, o.err)
		} else {
			r.t.Log(o.text)
		}
	}
}

// TestNothingIsLost is the outages that an operator fears, one after the other
// on one cluster, since they need the same hosts: a leader that dies, one that
// is moved, a certificate that is replaced, and no etcd at all.
func TestNothingIsLost(t *testing.T) {
	t.Parallel()
	r := startRig(t)
	phase := func(name string, f func()) {
		start := time.Now()
		t.Run(name, func(t *testing.T) {
			r.t, r.m.t = t, t
			r.carry(f)
		})
		r.t, r.m.t = t, t
		t.Logf("%s: %s", name, time.Since(start).Round(time.Second))
	}
	bed.Eventually(t, 5*time.Second, func() error {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		return traffic.Datagrams(ctx, r.ContainerEnd(1), r.ContainerEnd(2), 100)
	})
	phase("the leader dies, which is the first endpoint", r.leaderDies)
	phase("the leadership is moved", func() {
		for _, i := range []int{2, 0, 1} {
			r.m.lead(i)
			r.learns(3 * time.Second)
		}
	})
	phase("a certificate is replaced and the old one revoked", r.certificateIsReplaced)
	phase("etcd is down", func() {
		for i := range r.m.each {
			r.m.kill(i)
		}
		time.Sleep(downFor)
		if s := r.Status(1); s.Etcd.Connected || s.State != "ready" {
			r.t.Errorf("without etcd h1 is %q, connected: %v", s.State, s.Etcd.Connected)
		}
		for i := range r.m.each {
			r.m.start(i)
		}
		r.m.healthy()
		r.learns(5 * time.Second)
	})
}

func (r *rig) leaderDies() {
	r.m.lead(0)
	r.m.kill(0)
	now, _ := r.m.leader()
	r.learns(5 * time.Second)
	r.t.Logf("%s leads now", r.m.each[now].name)
	clock := stall.Start()
	h, err := r.join(3)
	if err != nil {
		r.t.Fatalf("with the first endpoint down a host cannot join: %v", err)
	}
	if took := clock.Took(); took > 5*time.Second {
		r.t.Errorf("with the first endpoint down %s took %s to join", h.Node, took)
	}
	r.m.start(0)
	r.m.healthy()
}

// certificateIsReplaced gives h1 another certificate and then makes the first
// one useless: it is on etcd's list of those that are revoked, and every
// connection that was made with it is cut.
func (r *rig) certificateIsReplaced() {
	old := r.m.ca.Dir + "/old"
	for _, suffix := range []string{".crt", ".key"} {
		text, err := os.ReadFile(r.m.ca.Dir + "/h1" + suffix)
		if err == nil {
			err = os.WriteFile(old+suffix, text, 0o600)
		}
		if err != nil {
			r.t.Fatal(err)
		}
	}
	useful := func() error {
		_, err := r.m.etcdctl(urls(3), "--cert", old+".crt", "--key", old+".key", "get", "x")
		return err
	}
	if err := useful(); err != nil {
		r.t.Errorf("the old certificate is of no use before: %v", err)
	}
	r.m.ca.Sign(r.t, "h1", time.Now().Add(2*time.Hour))
	took := bed.Eventually(r.t, 10*time.Second, func() error {
		log, err := os.ReadFile(r.Host(1).Log)
		if err == nil && !strings.Contains(string(log), "connected to etcd with the new certificates") {
			err = errors.New("h1 does not say that it uses its new certificate")
		}
		return err
	})
	r.t.Logf("h1 is connected with its new certificate after %s", took.Round(time.Millisecond))
	r.m.ca.Revoke(r.t, r.m.crl, old+".crt")
	for i := range r.m.each {
		r.m.kill(i)
		r.m.start(i)
		r.m.healthy()
	}
	if useful() == nil {
		r.t.Error("the old certificate is of use still")
	}
	r.learns(5 * time.Second)
}
