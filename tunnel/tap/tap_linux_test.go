// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"bytes"
	"errors"
	"net"
	"os"
	"runtime"
	"slices"
	"testing"
	"time"

	"github.com/vishvananda/netlink"
	"golang.org/x/sys/unix"

	"vxtap/encap/ether"
	"vxtap/encap/virtio"
	"vxtap/tunnel"
	"vxtap/tunnel/poll"
)

var testMAC = ether.MAC{2, 0, 0, 0, 0, 1}

// ownNamespace moves the test into a new network namespace, on a thread that
// ends with the test.
func ownNamespace(t *testing.T) {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("TAP devices need root")
		}
		t.Skip("not run: TAP devices need root")
	}
	runtime.LockOSThread() // and never unlocked: the thread dies with the goroutine
	if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
		t.Fatalf("new network namespace: %v", err)
	}
}

// everything is all that a TAP can be asked for.
var everything = tunnel.Offloads{Csum: true, TCP4: true, TCP6: true, UDP: true}

// single is a device with its only queue.
type single struct {
	*Device
	tunnel.Port
}

// open opens a TAP that is up, and a packet socket on its far end.
func open(t *testing.T, offload bool) (d single, far int) {
	t.Helper()
	ownNamespace(t)
	c := Config{Name: "tap0", MAC: testMAC}
	if offload {
		c.Want = everything
	}
	dev, err := Open(c)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { dev.Close() })
	d = single{dev, dev.Queues()[0]}
	link, err := netlink.LinkByName("tap0")
	if err != nil {
		t.Fatal(err)
	}
	// Without this the kernel sends discovery packets of its own.
	if err := os.WriteFile("/proc/sys/net/ipv6/conf/tap0/disable_ipv6", []byte("1"), 0); err != nil {
		t.Fatal(err)
	}
	if err := netlink.LinkSetUp(link); err != nil {
		t.Fatal(err)
	}
	all := int(uint16(unix.ETH_P_ALL)<<8 | uint16(unix.ETH_P_ALL)>>8)
	far, err = unix.Socket(unix.AF_PACKET, unix.SOCK_RAW|unix.SOCK_CLOEXEC, all)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { unix.Close(far) })
	if err := unix.Bind(far, &unix.SockaddrLinklayer{Protocol: uint16(all), Ifindex: link.Attrs().Index}); err != nil {
		t.Fatal(err)
	}
	if err := unix.SetsockoptTimeval(far, unix.SOL_SOCKET, unix.SO_RCVTIMEO, &unix.Timeval{Sec: 5}); err != nil {
		t.Fatal(err)
	}
	return d, far
}

// testFrame is an ARP-like frame that no stack answers.
func testFrame(n int) []byte {
	b := make([]byte, n)
	copy(b, testMAC[:])
	copy(b[6:], []byte{2, 0, 0, 0, 0, 9, 0x88, 0xb5}) // EtherType for local experiments
	for i := 14; i < n; i++ {
		b[i] = byte(i)
	}
	return b
}

func eachBackend(t *testing.T, f func(t *testing.T, d single, far int)) {
	t.Helper()
	for name, offload := range map[string]bool{"with offloads": true, "without": false} {
		t.Run(name, func(t *testing.T) {
			d, far := open(t, offload)
			f(t, d, far)
		})
	}
}

func TestDevice(t *testing.T) {
	eachBackend(t, func(t *testing.T, d single, _ int) {
		ifc, err := net.InterfaceByName(d.Name())
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(ifc.HardwareAddr, testMAC[:]) {
			t.Errorf("MAC %s, want %s", ifc.HardwareAddr, testMAC)
		}
	})
}

func TestOffloads(t *testing.T) {
	d, _ := open(t, true)
	for _, want := range []string{"csum", "tso4", "tso6", "ecn"} {
		if !slices.Contains(d.Offloads(), want) {
			t.Errorf("offloads %v lack %s", d.Offloads(), want)
		}
	}
	takes := d.Takes()
	if !takes.Csum || !takes.TCP4 || !takes.TCP6 || takes.UDP != slices.Contains(d.Offloads(), "uso4") {
		t.Errorf("takes %+v of offloads %v", takes, d.Offloads())
	}
	d, _ = open(t, false)
	if got := d.Offloads(); len(got) != 0 {
		t.Errorf("offloads %v, want none", got)
	}
	if got := d.Takes(); got != (tunnel.Offloads{}) {
		t.Errorf("takes %+v, want nothing", got)
	}
}

func TestReadFrame(t *testing.T) {
	eachBackend(t, func(t *testing.T, d single, far int) {
		want := testFrame(100)
		if _, err := unix.Write(far, want); err != nil {
			t.Fatal(err)
		}
		b, h := make([]byte, 1<<16), virtio.Header{GSOSize: 9}
		n, err := d.ReadFrame(b, &h, true)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(b[:n], want) || h != (virtio.Header{}) {
			t.Errorf("got %x with %+v, want %x", b[:n], h, want)
		}
		if _, err := d.ReadFrame(b, &h, false); !errors.Is(err, tunnel.ErrEmpty) {
			t.Errorf("with nothing queued: %v, want %v", err, tunnel.ErrEmpty)
		}
	})
}

// A lane whose TAP cannot be looked at needs a thread for each direction, and
// one that sleeps in its own system call keeps the Go runtime from looking for
// the other's frames: every hundredth or so waited ten milliseconds.
func TestLook(t *testing.T) {
	eachBackend(t, func(t *testing.T, d single, far int) {
		fd := d.Queues()[0].Descriptor()
		if fd < 0 {
			t.Fatal("nothing to wait for")
		}
		p, err := poll.New(fd)
		if err != nil {
			t.Fatal(err)
		}
		defer p.Close()
		var h virtio.Header
		b, want := make([]byte, 1<<16), testFrame(100)
		if _, err := d.ReadFrame(b, &h, false); !errors.Is(err, tunnel.ErrEmpty) {
			t.Fatalf("with nothing queued: %v, want %v", err, tunnel.ErrEmpty)
		}
		for range 2 {
			if _, err := unix.Write(far, want); err != nil {
				t.Fatal(err)
			}
		}
		for range 2 {
			if err := p.Wait(); err != nil {
				t.Fatal(err)
			}
			if n, err := d.ReadFrame(b, &h, false); err != nil || !bytes.Equal(b[:n], want) {
				t.Errorf("got %x and %v, want %x", b[:n], err, want)
			}
		}
		if _, err := d.ReadFrame(b, &h, false); !errors.Is(err, tunnel.ErrEmpty) {
			t.Errorf("with nothing left: %v, want %v", err, tunnel.ErrEmpty)
		}
	})
}

func TestWriteFrame(t *testing.T) {
	eachBackend(t, func(t *testing.T, d single, far int) {
		want := testFrame(100)
		if err := d.WriteFrame(virtio.Header{}, want[:20], [][]byte{want[20:50], nil, want[50:]}); err != nil {
			t.Fatal(err)
		}
		got := make([]byte, 200)
		n, err := unix.Read(far, got)
		if err != nil {
			t.Fatal(err)
		}
		if !bytes.Equal(got[:n], want) {
			t.Errorf("got %x, want %x", got[:n], want)
		}
	})
}

func TestWriteFrameRefuses(t *testing.T) {
	eachBackend(t, func(t *testing.T, d single, _ int) {
		if err := d.WriteFrame(virtio.Header{}, nil, nil); !errors.Is(err, tunnel.ErrFrame) {
			t.Errorf("an empty frame: %v, want %v", err, tunnel.ErrFrame)
		}
		// A super-frame of a type that nobody knows.
		h := virtio.Header{Flags: virtio.NeedsCsum, GSOType: 0x1f, GSOSize: 10, HdrLen: 54, CsumStart: 34, CsumOffset: 16}
		if err := d.WriteFrame(h, testFrame(200), nil); !errors.Is(err, tunnel.ErrRefused) {
			t.Errorf("an unknown super-frame: %v, want %v", err, tunnel.ErrRefused)
		}
	})
}

// A device that is down takes nothing; that costs the frame and no more.
func TestWriteFrameToDeviceThatIsDown(t *testing.T) {
	eachBackend(t, func(t *testing.T, d single, _ int) {
		link, err := netlink.LinkByName(d.Name())
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkSetDown(link); err != nil {
			t.Fatal(err)
		}
		if err := d.WriteFrame(virtio.Header{}, testFrame(100), nil); !errors.Is(err, tunnel.ErrFrame) {
			t.Errorf("got %v, want %v", err, tunnel.ErrFrame)
		}
	})
}

func TestInterrupt(t *testing.T) {
	eachBackend(t, func(t *testing.T, d single, _ int) {
		done := make(chan error, 1)
		go func() {
			var h virtio.Header
			_, err := d.ReadFrame(make([]byte, 1<<16), &h, true)
			_, again := d.ReadFrame(make([]byte, 1<<16), &h, true)
			done <- errors.Join(err, again)
		}()
		d.Interrupt()
		select {
		case err := <-done:
			if !errors.Is(err, tunnel.ErrInterrupted) {
				t.Errorf("got %v, want %v", err, tunnel.ErrInterrupted)
			}
		case <-time.After(5 * time.Second):
			t.Fatal("ReadFrame does not return")
		}
	})
}

// Whoever floods us must not keep us from stopping.
func TestInterruptWithFramesQueued(t *testing.T) {
	eachBackend(t, func(t *testing.T, d single, far int) {
		for range 5 {
			if _, err := unix.Write(far, testFrame(100)); err != nil {
				t.Fatal(err)
			}
		}
		d.Interrupt()
		var h virtio.Header
		if _, err := d.ReadFrame(make([]byte, 1<<16), &h, true); !errors.Is(err, tunnel.ErrInterrupted) {
			t.Errorf("got %v, want %v", err, tunnel.ErrInterrupted)
		}
	})
}

// Whoever deletes the device ends the loop with an error, not with a loop that
// spins.
func TestDeletedDevice(t *testing.T) {
	eachBackend(t, func(t *testing.T, d single, _ int) {
		link, err := netlink.LinkByName(d.Name())
		if err != nil {
			t.Fatal(err)
		}
		if err := netlink.LinkDel(link); err != nil {
			t.Fatal(err)
		}
		var h virtio.Header
		if _, err := d.ReadFrame(make([]byte, 1<<16), &h, false); !errors.Is(err, ErrDeleted) {
			t.Errorf("a look: got %v, want %v", err, ErrDeleted)
		}
		if _, err := d.ReadFrame(make([]byte, 1<<16), &h, true); err == nil {
			t.Error("a read that waits finds nothing wrong")
		}
	})
}

func TestNameTaken(t *testing.T) {
	d, _ := open(t, true)
	again, err := Open(Config{Name: d.Name(), Want: everything})
	if err == nil {
		again.Close()
	}
	if !errors.Is(err, unix.EBUSY) {
		t.Errorf("got %v, want %v", err, unix.EBUSY)
	}
}

func TestReadAndWriteDoNotAllocate(t *testing.T) {
	eachBackend(t, func(t *testing.T, d single, far int) {
		f, b := testFrame(1000), make([]byte, 1<<16)
		pieces := [][]byte{f[100:500], f[500:]}
		var h virtio.Header
		got := testing.AllocsPerRun(100, func() {
			if _, err := unix.Write(far, f); err != nil {
				t.Fatal(err)
			}
			if _, err := d.ReadFrame(b, &h, false); err != nil {
				t.Fatal(err)
			}
			if err := d.WriteFrame(h, f[:100], pieces); err != nil {
				t.Fatal(err)
			}
		})
		if got != 0 {
			t.Errorf("%v allocations for a read and a write, want 0", got)
		}
	})
}
