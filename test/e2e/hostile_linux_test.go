// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
	"vxtap/test/stall"
	"vxtap/test/traffic"
)

// Datagrams that no peer would send cost themselves and nothing more: counted
// by reason, and no more than a line a second in the log.
func TestHostileDatagrams(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 2})
	stranger, err := b.JoinBare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	bed.Eventually(t, 5*time.Second, func() error { // h2's are those of no peer until then
		if n := len(b.Status(1).Peers); n != 1 {
			return fmt.Errorf("h1 knows %d peers, want 1", n)
		}
		return nil
	})
	const each = 200
	good := append([]byte{0x08, 0, 0, 0, 0, 0, 1, 0}, make([]byte, 60)...)
	with := func(i int, v byte) []byte { p := append([]byte(nil), good...); p[i] = v; return p }
	tests := []struct {
		reason, from string
		payload      []byte
	}{
		{"short-datagram", "h2", nil},
		{"short-datagram", "h2", good[:7]},
		{"short-datagram", "h2", good[:21]},
		{"no-vni-flag", "h2", with(0, 0)},
		{"reserved-bits", "h2", with(0, 0xff)},
		{"reserved-bits", "h2", with(7, 1)},
		{"other-vni", "h2", with(6, 2)},
		{"not-a-peer", stranger.Node, good},
		{"wrong-mac", "h2", good},
	}
	target := netip.AddrPortFrom(b.Host(1).VTEP, 8472).String()
	want := map[string]uint64{}
	for _, tt := range tests {
		conn, err := b.Node(tt.from).DialContext(t.Context(), "udp4", target)
		if err != nil {
			t.Fatal(err)
		}
		for range each {
			if _, err := conn.Write(tt.payload); err != nil {
				t.Fatal(err)
			}
		}
		conn.Close()
		want[tt.reason] += each
	}
	bed.Eventually(t, 2*time.Second, func() error {
		drops := b.Status(1).In.Drops
		for reason, n := range want {
			if drops[reason] != n {
				return fmt.Errorf("%s: %d, want %d (all: %v)", reason, drops[reason], n, drops)
			}
		}
		return nil
	})
	if err := reaches(t, b.ContainerEnd(1), b.ContainerEnd(2)); err != nil {
		t.Error(err)
	}
	time.Sleep(1100 * time.Millisecond) // the log is written once a second
	text, err := os.ReadFile(b.Host(1).Log)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.Count(string(text), "frames dropped"); n < 1 || n > 4 {
		t.Errorf("the log has %d lines about %d dropped datagrams, want 1 to 4", n, each*len(tests))
	}
	if !strings.Contains(string(text), stranger.VTEP.String()) {
		t.Errorf("the log does not name the stranger %s", stranger.VTEP)
	}
}

// Whoever floods a daemon, and a TCP stream at the same time, must not keep it
// from stopping, nor the stream from arriving.
func TestFlood(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 2})
	target := netip.AddrPortFrom(b.Host(1).VTEP, 8472).String()
	var flood sync.WaitGroup
	ctx, stop := context.WithTimeout(t.Context(), 45*time.Second)
	defer stop()
	junk := make([]byte, 100)
	junk[0] = 1 // no VNI, and no probe, of which the header is zeros
	for range 2 {
		conn, err := b.Node("net").DialContext(ctx, "udp4", target)
		if err != nil {
			t.Fatal(err)
		}
		flood.Go(func() {
			defer conn.Close()
			for ctx.Err() == nil {
				_, _ = conn.Write(junk) // refused at times, once nobody listens
			}
		})
	}
	if _, err := traffic.Stream(ctx, b.ContainerEnd(2), b.ContainerEnd(1), 4<<20); err != nil {
		t.Errorf("under a flood: %v", err)
	}
	if s := b.Status(1); s.In.Drops["no-vni-flag"] == 0 {
		t.Errorf("the flood is not counted: %v", s.In.Drops)
	}
	clock := stall.Start()
	if err := b.StopHost(ctx, 1); err != nil {
		t.Error(err)
	}
	if took := clock.Took(); took > 2*time.Second {
		t.Errorf("SIGTERM under a flood took %s, want 2 s at most", took)
	}
	stop()
	flood.Wait()
}

// The overlay carries IPv4 only so far; IPv6 is counted, not lost in silence.
func TestIPv6IsCounted(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 1})
	// The kernel's own discovery on the new device is enough.
	bed.Eventually(t, 10*time.Second, func() error {
		if b.Status(1).Out.Drops["ipv6"] == 0 {
			return fmt.Errorf("no drop counted as ipv6")
		}
		return nil
	})
}

func TestHealthAndMetrics(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 2})
	bed.Eventually(t, time.Second, func() error { return reaches(t, b.ContainerEnd(1), b.ContainerEnd(2)) })
	client := http.Client{Transport: &http.Transport{DialContext: b.Node("h1").DialContext}, Timeout: 5 * time.Second}
	get := func(path string) (int, string) {
		resp, err := client.Get("http://127.0.0.1:8473" + path)
		if err != nil {
			t.Fatal(err)
		}
		defer resp.Body.Close()
		body, err := io.ReadAll(resp.Body)
		if err != nil {
			t.Fatal(err)
		}
		return resp.StatusCode, string(body)
	}
	for _, path := range []string{"/healthz", "/readyz"} {
		if code, body := get(path); code != http.StatusOK {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
	_, metrics := get("/metrics")
	for _, want := range []string{
		"vxtap_frames_received_total{direction=\"out\"}",
		"vxtap_frames_delivered_total{direction=\"in\"}",
		"vxtap_drops_total{direction=\"in\",reason=\"not-a-peer\"} 0",
		"vxtap_peers 1",
		"vxtap_etcd_connected 1",
	} {
		if !strings.Contains(metrics, want) {
			t.Errorf("/metrics lacks %s", want)
		}
	}
}
