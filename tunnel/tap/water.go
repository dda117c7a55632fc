// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"errors"
	"fmt"
	"os"
	"sync/atomic"
	"time"

	"github.com/songgao/water"

	"vxtap/encap/virtio"
	"vxtap/tunnel"
)

// waterPort is a TAP that water opened: one complete frame a call.
type waterPort struct {
	ifce    *water.Interface
	fd      int // to look at without waiting, past water; -1 where there is none
	stopped atomic.Bool
	joined  []byte // where the pieces of a written frame are put together
}

func openWater(c Config) (*Device, error) {
	ifce, err := water.New(waterConfig(c.Name))
	if err != nil {
		return nil, fmt.Errorf("create TAP %s: %w", c.Name, err)
	}
	w := &waterPort{ifce: ifce, fd: waterDescriptor(ifce), joined: make([]byte, 0, 1<<16)}
	if err := setWaterMAC(ifce, c); err != nil {
		ifce.Close()
		return nil, fmt.Errorf("set MAC of %s: %w", c.Name, err)
	}
	return &Device{name: ifce.Name(), queues: []Queue{w}, offloads: func() []string { return nil }}, nil
}

// Takes implements tunnel.Port: complete frames only.
func (w *waterPort) Takes() tunnel.Offloads { return tunnel.Offloads{} }

// ReadFrame implements tunnel.Port. Where there is no descriptor a read cannot
// look without waiting, and every frame is a batch of its own.
func (w *waterPort) ReadFrame(b []byte, h *virtio.Header, wait bool) (int, error) {
	if !wait {
		*h = virtio.Header{} // complete
		return lookWater(w.fd, b)
	}
	if w.stopped.Load() {
		return 0, tunnel.ErrInterrupted
	}
	n, err := w.ifce.Read(b)
	switch {
	case err == nil:
		*h = virtio.Header{}
		return n, nil
	case w.stopped.Load():
		return 0, tunnel.ErrInterrupted
	}
	return 0, fmt.Errorf("read TAP: %w", err)
}

// WriteFrame implements tunnel.Port.
func (w *waterPort) WriteFrame(h virtio.Header, head []byte, payloads [][]byte) error {
	if h != (virtio.Header{}) {
		return tunnel.ErrRefused
	}
	frame := head
	if len(payloads) > 0 {
		w.joined = append(w.joined[:0], head...)
		for _, p := range payloads {
			w.joined = append(w.joined, p...)
		}
		frame = w.joined
	}
	if _, err := w.ifce.Write(frame); err != nil {
		return tunnel.ErrFrame
	}
	return nil
}

// Interrupt implements tunnel.Port. A deadline in the past wakes a reader that
// the runtime's poller has parked; where the back end knows no deadlines, the
// device must be closed to the same end.
func (w *waterPort) Interrupt() {
	w.stopped.Store(true)
	d, ok := w.ifce.ReadWriteCloser.(interface{ SetReadDeadline(time.Time) error })
	if ok && d.SetReadDeadline(time.Unix(1, 0)) == nil {
		return
	}
	w.ifce.Close()
}

// Descriptor implements Queue.
func (w *waterPort) Descriptor() int { return w.fd }

// Close removes the device.
func (w *waterPort) Close() error {
	if err := w.ifce.Close(); err != nil && !errors.Is(err, os.ErrClosed) {
		return fmt.Errorf("close TAP: %w", err)
	}
	return nil
}
