// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"context"
	"crypto/sha256"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"strings"
	"testing"
	"time"

	"go.uber.org/goleak"
	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"

	"vxtap/cmd/vxlab/netns"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

var (
	addrA   = netip.MustParseAddr("192.0.2.1")
	addrB   = netip.MustParseAddr("192.0.2.2")
	nowhere = netip.MustParseAddr("192.0.2.99")
)

func check(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

// pair makes two namespaces on one veth pair, with addrA and addrB.
func pair(t *testing.T) (a, b *netns.Namespace) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("root is needed for network namespaces")
		}
		t.Skip("left out: it needs root for network namespaces")
	}
	made := func(end string) *netns.Namespace {
		ns, err := netns.Create(fmt.Sprintf("vxtraffic-%d-%s", os.Getpid(), end))
		check(t, err)
		t.Cleanup(func() { check(t, ns.Close(), netns.Delete(ns.Name())) })
		return ns
	}
	a, b = made("a"), made("b")
	check(t, netns.AddVeth(a, "eth0", b, "eth0", 0),
		a.AddAddr("eth0", netip.PrefixFrom(addrA, 24)), b.AddAddr("eth0", netip.PrefixFrom(addrB, 24)),
		a.SetUp("eth0"), b.SetUp("eth0"))
	return a, b
}

func pinger(t *testing.T, ns *netns.Namespace, to netip.Addr, id uint16) *Pinger {
	t.Helper()
	p, err := NewPinger(ns, to, id)
	check(t, err)
	t.Cleanup(func() { p.Close() })
	return p
}

func TestPing(t *testing.T) {
	a, b := pair(t)
	p := pinger(t, a, addrB, 1)
	check(t, p.Reach(t.Context()))
	trip, err := p.Measure(t.Context(), 10)
	if err != nil || trip <= 0 || trip > time.Second {
		t.Errorf("Measure: got %v, %v", trip, err)
	}
	// The other way, with the same identifier in another namespace.
	check(t, pinger(t, b, addrA, 1).Reach(t.Context()))
}

func TestALostEchoIsAnError(t *testing.T) {
	a, b := pair(t)
	p := pinger(t, a, addrB, 2)
	check(t, p.Reach(t.Context()), b.SetSysctl("net.ipv4.icmp_echo_ignore_all", "1"))
	if _, err := p.Measure(t.Context(), 3); !errors.Is(err, ErrLost) {
		t.Errorf("Measure: got %v, want ErrLost", err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if err := p.Reach(ctx); err == nil || time.Since(begun) > 5*time.Second {
		t.Errorf("Reach: got %v after %v, want an error in time", err, time.Since(begun))
	}
}

func TestReachWaitsForTheWay(t *testing.T) {
	a, b := pair(t)
	check(t, b.SetDown("eth0"))
	reached := make(chan error, 1)
	p := pinger(t, a, addrB, 3)
	go func() { reached <- p.Reach(t.Context()) }()
	check(t, b.SetUp("eth0"), <-reached)
}

func TestOnlyTheReplyCounts(t *testing.T) {
	reply := func(m icmp.Message) []byte {
		b, err := m.Marshal(nil)
		check(t, err)
		return b
	}
	ours := &icmp.Echo{ID: 7, Seq: 9, Data: []byte("x")}
	for _, tt := range []struct {
		name string
		b    []byte
		want bool
	}{
		{"our reply", reply(icmp.Message{Type: ipv4.ICMPTypeEchoReply, Body: ours}), true},
		{"our own request, looped back", reply(icmp.Message{Type: ipv4.ICMPTypeEcho, Body: ours}), false},
		{"another's", reply(icmp.Message{Type: ipv4.ICMPTypeEchoReply, Body: &icmp.Echo{ID: 8, Seq: 9}}), false},
		{"a late one", reply(icmp.Message{Type: ipv4.ICMPTypeEchoReply, Body: &icmp.Echo{ID: 7, Seq: 8}}), false},
		{"a code that no reply has", []byte{0, 1, 0, 0, 0, 7, 0, 9}, false},
		{"cut short", []byte{0, 0, 0, 0, 0, 7, 0}, false},
		{"empty", nil, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := isReply(tt.b, 0, 7, 9); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
}

func TestMedian(t *testing.T) {
	for _, tt := range []struct{ in, want []time.Duration }{
		{nil, []time.Duration{0}},
		{[]time.Duration{5}, []time.Duration{5}},
		{[]time.Duration{9, 1, 5}, []time.Duration{5}},
	} {
		if got := Median(tt.in); got != tt.want[0] {
			t.Errorf("Median(%v): got %v, want %v", tt.in, got, tt.want[0])
		}
	}
}

func TestTransfer(t *testing.T) {
	a, b := pair(t)
	for _, size := range []int64{1, chunk, chunk + 1} {
		got, err := Send(t.Context(), a, b, addrB, size)
		if err != nil || got.Bytes != size || got.Sent != got.Received || got.Elapsed <= 0 || got.BitsPerSecond() <= 0 {
			t.Errorf("%d bytes: got %+v, %v", size, got, err)
		}
		if got.Sent == sha256.Sum256(make([]byte, size)) {
			t.Error("all bytes were zero")
		}
	}
	if _, err := Send(t.Context(), a, b, addrB, 0); err == nil {
		t.Error("nothing to send: got nil, want an error")
	}
	if (Transfer{}).BitsPerSecond() != 0 {
		t.Error("no transfer has a throughput")
	}
}

func TestATransferEndsWithItsContext(t *testing.T) {
	a, b := pair(t)
	gone := errors.New("the user has gone")
	ctx, cancel := context.WithCancelCause(t.Context())
	time.AfterFunc(100*time.Millisecond, func() { cancel(gone) })
	if _, err := Send(ctx, a, b, addrB, 1<<50); !errors.Is(err, gone) {
		t.Errorf("got %v, want %v", err, gone)
	}
	if _, err := Send(ctx, a, b, nowhere, 1); err == nil {
		t.Error("an address that is not there: got nil, want an error")
	}
}

// flipper is a connection that damages one byte, and acknowledges like consume.
type flipper struct {
	io.Reader
	io.Writer
}

func TestDamageIsSeen(t *testing.T) {
	in, out := io.Pipe()
	ackIn, ackOut := io.Pipe()
	type result struct {
		sum [sha256.Size]byte
		err error
	}
	sent := make(chan result, 1)
	go func() {
		sum, _, err := produce(flipper{ackIn, out}, 1000)
		sent <- result{sum, err}
	}()
	sum, err := consume(flipper{damaged{in}, ackOut}, 1000)
	check(t, err)
	r := <-sent
	check(t, r.err)
	if r.sum == sum {
		t.Error("the hashes are the same")
	}
}

type damaged struct{ io.Reader }

func (d damaged) Read(b []byte) (int, error) {
	n, err := d.Reader.Read(b)
	if n > 0 {
		b[0] ^= 1
	}
	return n, err
}

func TestTransferErrorsNameBothEnds(t *testing.T) {
	a, b := pair(t)
	_, err := Send(t.Context(), a, b, nowhere, 1)
	if err == nil || !strings.Contains(err.Error(), a.Name()) || !strings.Contains(err.Error(), nowhere.String()) {
		t.Errorf("got %v, want the namespace and the address", err)
	}
}
