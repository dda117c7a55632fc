// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"bytes"
	"errors"
	"fmt"
	"net/netip"
	"slices"
	"testing"
	"time"

	"golang.org/x/sys/unix"

	"vxtap/encap/gso"
	"vxtap/tunnel"
)

// backends are all ways to open a Conn on this platform.
func backends() map[string]func(Config) (*Conn, error) {
	return map[string]func(Config) (*Conn, error){
		"native with offloads": func(c Config) (*Conn, error) { c.Segment, c.GRO = true, true; return Open(c) },
		"native":               Open,
		"portable":             openPortable,
	}
}

// end is a Conn with its only lane.
type end struct {
	*Conn
	Lane
}

// pair opens two ends on two loopback addresses and one port, as two hosts do.
func pair(t *testing.T, open func(Config) (*Conn, error)) (a, b end) {
	t.Helper()
	for port := uint16(20000); port < 20100; port++ {
		ends := make([]end, 0, 2)
		var err error
		for _, addr := range []string{"127.0.0.1", "127.0.0.2"} {
			var c *Conn
			if c, err = open(Config{Local: netip.AddrPortFrom(netip.MustParseAddr(addr), port)}); err != nil {
				break
			}
			t.Cleanup(func() {
				if err := c.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
			})
			ends = append(ends, end{c, c.Lanes()[0]})
		}
		if err == nil {
			return ends[0], ends[1]
		}
		if !errors.Is(err, errPortTaken) {
			t.Fatal(err)
		}
	}
	t.Fatal("no free port")
	return end{}, end{}
}

// receive collects datagrams, taken apart, until want bytes are there.
func receive(t *testing.T, c end, want int) (payloads [][]byte, last tunnel.Datagram) {
	t.Helper()
	timeout := time.AfterFunc(5*time.Second, c.Interrupt)
	defer timeout.Stop()
	datagrams := make([]tunnel.Datagram, 8)
	for got := 0; got < want; {
		n, err := c.Receive(datagrams, true)
		if err != nil {
			t.Fatalf("after %d of %d bytes: %v", got, want, err)
		}
		for _, d := range datagrams[:n] {
			size := d.GSOSize
			if size == 0 {
				size = len(d.Data)
			}
			got += len(d.Data)
			for piece := range slices.Chunk(d.Data, max(size, 1)) {
				payloads = append(payloads, bytes.Clone(piece))
			}
			last = d
		}
	}
	return payloads, last
}

// segments cuts n bytes of recognisable contents into pieces of size, each
// with its first eight bytes as header.
func segments(n, size int) ([]gso.Segment, [][]byte) {
	contents := make([]byte, n)
	for i := range contents {
		contents[i] = byte(i * 7 / 5)
	}
	var segs []gso.Segment
	var whole [][]byte
	for piece := range slices.Chunk(contents, size) {
		segs = append(segs, gso.Segment{Header: piece[:8], Payload: piece[8:]})
		whole = append(whole, piece)
	}
	return segs, whole
}

func TestSendReceive(t *testing.T) {
	tests := []struct {
		name     string
		bytes    int
		size     int
		messages int // into how many messages the segments are put
	}{
		{"one small datagram", 50, 50, 1},
		{"one segment more than a byte short", 1400 + 9, 1400, 1},
		{"equal segments", 14000, 1400, 1},
		{"shorter tail", 44*1472 - 700, 1472, 1},
		{"two messages", 46 * 1400, 1400, 2},
		{"most segments of a message", 63 * 100, 100, 1},
		{"the largest datagram", maxDatagram - 28, maxDatagram - 28, 1},
	}
	for name, open := range backends() {
		t.Run(name, func(t *testing.T) {
			for _, tt := range tests {
				t.Run(tt.name, func(t *testing.T) {
					a, b := pair(t, open)
					segs, want := segments(tt.bytes, tt.size)
					var messages []tunnel.Message
					for part := range slices.Chunk(segs, (len(segs)+tt.messages-1)/tt.messages) {
						messages = append(messages, tunnel.Message{To: netip.MustParseAddr("127.0.0.2"), Segments: part, Size: tt.size})
					}
					a.Send(messages)
					for i, m := range messages {
						if m.Err != nil {
							t.Fatalf("message %d: %v", i, m.Err)
						}
					}
					got, last := receive(t, b, tt.bytes)
					if !slices.EqualFunc(got, want, bytes.Equal) {
						t.Errorf("got %d datagrams, want %d, or their contents differ", len(got), len(want))
					}
					if from := netip.MustParseAddr("127.0.0.1"); last.From != from {
						t.Errorf("from %s, want %s", last.From, from)
					}
				})
			}
		})
	}
}

func TestOffloadsAreInUse(t *testing.T) {
	a, _ := pair(t, backends()["native with offloads"])
	if got, want := a.Offloads(), []string{"udp-segment", "udp-gro"}; !slices.Equal(got, want) {
		t.Errorf("offloads %v, want %v", got, want)
	}
	if a, _ = pair(t, backends()["native"]); len(a.Offloads()) != 0 {
		t.Errorf("offloads %v, want none", a.Offloads())
	}
}

// Whoever floods us must not keep us from stopping.
func TestInterruptWithDatagramsQueued(t *testing.T) {
	for name, open := range backends() {
		t.Run(name, func(t *testing.T) {
			a, b := pair(t, open)
			segs, _ := segments(1000, 100)
			a.Send([]tunnel.Message{{To: netip.MustParseAddr("127.0.0.2"), Segments: segs, Size: 100}})
			b.Interrupt()
			if n, err := b.Receive(make([]tunnel.Datagram, 8), true); !errors.Is(err, tunnel.ErrInterrupted) {
				t.Errorf("got %d datagrams and %v, want %v", n, err, tunnel.ErrInterrupted)
			}
		})
	}
}

func TestTOSCrosses(t *testing.T) {
	a, b := pair(t, backends()["native with offloads"])
	for _, tos := range []uint8{0, 1, 2, 3} {
		segs, _ := segments(100, 100)
		a.Send([]tunnel.Message{{To: netip.MustParseAddr("127.0.0.2"), Segments: segs, Size: 100, TOS: tos}})
		if _, d := receive(t, b, 100); d.TOS != tos {
			t.Errorf("got TOS %d, want %d", d.TOS, tos)
		}
	}
}

// A flow keeps its source port, and flows spread over several; all of them in
// the range that RFC 7348 recommends.
func TestSourcePorts(t *testing.T) {
	a, _ := pair(t, backends()["native with offloads"])
	m, ok := a.Lane.(*mmsg)
	if !ok {
		t.Fatalf("back end is %T", a.Lane)
	}
	used := map[int]bool{}
	for i := range 1000 {
		msg := tunnel.Message{Flow: uint32(i) * 2654435761}
		used[int(m.SourcePort(msg.Flow))] = true
		if said, port := int(m.SourcePort(msg.Flow)), localPort(t, m.sockets[socketOf(msg.Flow, len(m.sockets))]); said != port {
			t.Fatalf("flow %x is said to leave from %d, and leaves from %d", msg.Flow, said, port)
		}
	}
	if len(used) != sendSockets {
		t.Errorf("1000 flows use %d sockets, want %d", len(used), sendSockets)
	}
	for _, fd := range m.sockets {
		if port := localPort(t, fd); port < firstPort {
			t.Errorf("source port %d, want at least %d", port, firstPort)
		}
	}
}

func TestSendErrors(t *testing.T) {
	tests := []struct {
		name  string
		to    string
		bytes int
		want  error
	}{
		{"larger than a datagram can be", "127.0.0.2", maxDatagram, tunnel.ErrMTU},
		{"no route to a reserved address", "255.255.255.255", 100, tunnel.ErrFrame},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			a, b := pair(t, backends()["native with offloads"])
			bad, _ := segments(tt.bytes, tt.bytes)
			good, want := segments(200, 200)
			messages := []tunnel.Message{
				{To: netip.MustParseAddr(tt.to), Segments: bad, Size: tt.bytes},
				{To: netip.MustParseAddr("127.0.0.2"), Segments: good, Size: 200},
			}
			a.Send(messages)
			if !errors.Is(messages[0].Err, tt.want) {
				t.Errorf("got error %v, want %v", messages[0].Err, tt.want)
			}
			if got, _ := receive(t, b, 200); messages[1].Err != nil || !slices.EqualFunc(got, want, bytes.Equal) {
				t.Errorf("the message after the bad one did not arrive: %v", messages[1].Err)
			}
		})
	}
}

func TestInterrupt(t *testing.T) {
	for name, open := range backends() {
		t.Run(name, func(t *testing.T) {
			a, _ := pair(t, open)
			done := make(chan error)
			go func() {
				_, err := a.Receive(make([]tunnel.Datagram, 8), true)
				done <- err
			}()
			a.Interrupt()
			for range 2 {
				select {
				case err := <-done:
					if !errors.Is(err, tunnel.ErrInterrupted) {
						t.Errorf("got %v, want %v", err, tunnel.ErrInterrupted)
					}
				case <-time.After(5 * time.Second):
					t.Fatal("Receive does not return")
				}
				go func() { // and again: an interrupted Conn stays so
					_, err := a.Receive(make([]tunnel.Datagram, 8), true)
					done <- err
				}()
			}
			if err := <-done; !errors.Is(err, tunnel.ErrInterrupted) {
				t.Errorf("got %v, want %v", err, tunnel.ErrInterrupted)
			}
		})
	}
}

func TestReceiveWithoutWaiting(t *testing.T) {
	for name, open := range backends() {
		t.Run(name, func(t *testing.T) {
			a, _ := pair(t, open)
			if _, err := a.Receive(make([]tunnel.Datagram, 8), false); !errors.Is(err, tunnel.ErrEmpty) {
				t.Errorf("got %v, want %v", err, tunnel.ErrEmpty)
			}
		})
	}
}

// A run of datagrams that stays joined is one, to the kernel and so to us.
func TestOverflowsCountReceives(t *testing.T) {
	for _, tt := range []struct {
		backend string
		bytes   int // of a message, in datagrams of 1000
	}{
		{"native", 1000},
		{"native with offloads", 1000},
		{"native with offloads", 40 * 1000},
	} {
		t.Run(fmt.Sprintf("%s, %d bytes", tt.backend, tt.bytes), func(t *testing.T) {
			a, b := pair(t, backends()[tt.backend])
			m, ok := b.Lane.(*mmsg)
			if !ok {
				t.Fatalf("back end is %T", b.Lane)
			}
			shrinkBuffer(t, m.receiver.fd)
			segs, _ := segments(tt.bytes, 1000)
			for range 1000 {
				a.Send([]tunnel.Message{{To: netip.MustParseAddr("127.0.0.2"), Segments: segs, Size: 1000}})
			}
			received := 0
			for datagrams := make([]tunnel.Datagram, 8); ; {
				n, err := b.Receive(datagrams, false)
				if errors.Is(err, tunnel.ErrEmpty) {
					break
				}
				if err != nil {
					t.Fatal(err)
				}
				received += n
			}
			if got := b.Overflows(); got == 0 || got+uint64(received) != 1000 {
				t.Errorf("%d received and %d overflows of 1000", received, got)
			}
		})
	}
}

func TestSendAndReceiveDoNotAllocate(t *testing.T) {
	a, b := pair(t, backends()["native with offloads"])
	segs, _ := segments(44*1472, 1472)
	messages := []tunnel.Message{{To: netip.MustParseAddr("127.0.0.2"), Segments: segs, Size: 1472, TOS: 2}}
	datagrams := make([]tunnel.Datagram, 8)
	got := testing.AllocsPerRun(100, func() {
		a.Send(messages)
		if _, err := b.Receive(datagrams, true); err != nil {
			t.Fatal(err)
		}
	})
	if got != 0 {
		t.Errorf("%v allocations for one message, want 0", got)
	}
}

func TestOpenRefuses(t *testing.T) {
	tests := []struct {
		name  string
		local string
	}{
		{"a link-local address of any interface", "[fe80::1]:8472"},
		{"an interface that is not there", "[fe80::1%none0]:8472"},
		{"an IPv4 address in IPv6", "[::ffff:127.0.0.1]:8472"},
		{"an IPv6 address that is not ours", "[2001:db8::1]:8472"},
		{"an address that is not ours", "192.0.2.1:8472"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c, err := Open(Config{Local: netip.MustParseAddrPort(tt.local)})
			if err == nil {
				c.Close()
				t.Error("got no error")
			}
		})
	}
}
func localPort(t *testing.T, fd int) int {
	t.Helper()
	sa, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	if six, ok := sa.(*unix.SockaddrInet6); ok {
		return six.Port
	}
	return sa.(*unix.SockaddrInet4).Port
}

func shrinkBuffer(t *testing.T, fd int) {
	t.Helper()
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 8192); err != nil {
		t.Fatal(err)
	}
}

// Control messages come from the kernel; still, none may lead us outside.
func FuzzReadControl(f *testing.F) {
	var b [controlLen]byte
	segs, _ := segments(20, 10)
	n := putControl(&b, entry{&tunnel.Message{Size: 10, TOS: 2}, segs, 0}, false)
	f.Add(b[:n])
	f.Add([]byte{0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0xff, 0x7f, 0, 0, 0, 0, 0, 0, 0, 0, 0})
	f.Fuzz(func(_ *testing.T, data []byte) {
		var aligned control
		var d tunnel.Datagram
		readControl(&d, aligned.bytes[:copy(aligned.bytes[:], data)])
	})
}
