// SPDX-License-Identifier: Apache-2.0

package tap

import (
	"errors"
	"fmt"
	"unsafe"

	"golang.org/x/sys/unix"

	"vxtap/encap/virtio"
	"vxtap/tunnel"
	"vxtap/tunnel/poll"
)

// vnet is one queue of a TAP with IFF_VNET_HDR. The fields of each direction
// belong to the one goroutine that uses it.
type vnet struct {
	fd      int
	granted *granted
	poll    *poll.Poller // for a ReadFrame that waits

	// Reading.
	readHdr [virtio.HeaderLen]byte
	readVec [2]unix.Iovec

	// Writing.
	writeHdr [virtio.HeaderLen]byte
	writeVec []unix.Iovec
	refusals int // of super-frames, in a row
}

const (
	// maxPieces bounds the pieces of one written frame (UIO_MAXIOV).
	maxPieces = 1024
	// manyRefusals is how many super-frames the kernel may refuse in a row
	// before it is not asked any more. One may be at fault itself.
	manyRefusals = 8
)

// newVnet returns the queue behind fd, which it closes.
func newVnet(fd int, g *granted) (*vnet, error) {
	p, err := poll.New(fd)
	if err != nil {
		return nil, err
	}
	v := &vnet{fd: fd, granted: g, poll: p, writeVec: make([]unix.Iovec, 0, maxPieces)}
	v.readVec[0].Base = &v.readHdr[0]
	v.readVec[0].SetLen(virtio.HeaderLen)
	return v, nil
}

// Takes implements tunnel.Port.
func (v *vnet) Takes() tunnel.Offloads { return v.granted.takes() }

// Descriptor implements Queue.
func (v *vnet) Descriptor() int { return v.fd }

// ReadFrame implements tunnel.Port. The system calls here go past the Go
// scheduler: the descriptor is non-blocking, and none of them sleeps.
func (v *vnet) ReadFrame(b []byte, h *virtio.Header, wait bool) (int, error) {
	v.readVec[1].Base = unsafe.SliceData(b)
	v.readVec[1].SetLen(len(b))
	if wait && v.poll.Interrupted() {
		return 0, tunnel.ErrInterrupted
	}
	for {
		n, _, errno := unix.RawSyscall(unix.SYS_READV, uintptr(v.fd), uintptr(unsafe.Pointer(&v.readVec)), 2)
		switch {
		case errno == 0 && n >= virtio.HeaderLen:
			h.Decode(v.readHdr[:])
			return int(n) - virtio.HeaderLen, nil
		case errno == 0 || errno == unix.EINTR:
			// Nothing that a frame could be made of: look again.
		case errno == unix.EBADFD:
			return 0, ErrDeleted
		case errno != unix.EAGAIN:
			return 0, fmt.Errorf("read TAP: %w", errno)
		case !wait:
			return 0, tunnel.ErrEmpty
		default:
			if err := v.poll.Wait(); err != nil {
				return 0, err
			}
		}
	}
}

// WriteFrame implements tunnel.Port.
func (v *vnet) WriteFrame(h virtio.Header, head []byte, payloads [][]byte) error {
	if len(head) == 0 || len(payloads) > maxPieces-2 {
		return tunnel.ErrFrame
	}
	h.Put(v.writeHdr[:])
	vec := v.writeVec[:0]
	vec = appendPiece(vec, v.writeHdr[:])
	vec = appendPiece(vec, head)
	for _, p := range payloads {
		vec = appendPiece(vec, p)
	}
	for {
		_, _, errno := unix.RawSyscall(unix.SYS_WRITEV, uintptr(v.fd), uintptr(unsafe.Pointer(&vec[0])), uintptr(len(vec)))
		switch errno {
		case 0:
			if h.IsGSO() {
				v.refusals = 0
			}
			return nil
		case unix.EINTR:
			continue
		case unix.EAGAIN, unix.ENOBUFS:
			return tunnel.ErrFull
		case unix.EINVAL:
			if h.IsGSO() {
				if v.refusals++; v.refusals >= manyRefusals {
					v.granted.refused(h.GSOType)
				}
				return tunnel.ErrRefused
			}
		}
		return tunnel.ErrFrame
	}
}

func appendPiece(vec []unix.Iovec, p []byte) []unix.Iovec {
	if len(p) == 0 {
		return vec
	}
	vec = append(vec, unix.Iovec{Base: unsafe.SliceData(p)})
	vec[len(vec)-1].SetLen(len(p))
	return vec
}

// Interrupt implements tunnel.Port.
func (v *vnet) Interrupt() { v.poll.Interrupt() }

// Close gives the queue up, and removes the device with the last. No call may
// be under way.
func (v *vnet) Close() error { return errors.Join(v.poll.Close(), unix.Close(v.fd)) }
