// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"encoding/binary"
	"errors"
	"log/slog"
	"math/bits"
	"net/netip"
	"sync/atomic"
	"unsafe"

	"golang.org/x/sys/unix"

	"vxtap/encap/gso"
	"vxtap/tunnel"
)

// pool is the sockets that datagrams leave by, shared by all lanes. Linux sends
// on one UDP socket from many threads without a lock.
type pool struct {
	log     *slog.Logger
	sockets []int
	ports   []uint16    // of sockets
	segment atomic.Bool // UDP_SEGMENT is in use; it may go off, never on again

	// sendmmsg is the system call; the tests put refusals in its place.
	sendmmsg func(fd int, first *mmsghdr, n int) (int, unix.Errno)
}

func (p *pool) open(c Config) error {
	for range min(sendSockets*c.Lanes, maxSendSockets) {
		err := bindRandom(func(port uint16) error {
			fd, err := udpSocket(netip.AddrPortFrom(c.Local.Addr(), port), alone)
			if err == nil {
				p.sockets, p.ports = append(p.sockets, fd), append(p.ports, port)
			}
			return err
		})
		if err != nil {
			return err
		}
	}
	for _, fd := range p.sockets {
		growSend(fd)
	}
	_, err := unix.GetsockoptInt(p.sockets[0], unix.IPPROTO_UDP, unix.UDP_SEGMENT)
	p.segment.Store(c.Segment && err == nil)
	return nil
}

// growSend gives a sending socket its buffers.
func growSend(fd int) {
	growBuffer(fd, unix.SO_SNDBUFFORCE, unix.SO_SNDBUF, bufferSize)
	// Nobody reads here: what strangers send must not pile up.
	_ = unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_RCVBUF, 0)
}

func (p *pool) close() error {
	var errs []error
	for _, fd := range p.sockets {
		errs = append(errs, unix.Close(fd))
	}
	return errors.Join(errs...)
}

// sender is how one lane uses the pool. Its fields belong to the goroutine that
// sends.
type sender struct {
	*pool
	to remote // of the peers

	queue []entry // for one socket, sent by the next flush
	hdrs  [sendSlots]mmsghdr
	names [sendSlots]sockaddr
	// control holds, in this order where needed, UDP_SEGMENT, and IP_TOS or
	// IPV6_TCLASS.
	control [sendSlots]control
	iovs    []unix.Iovec
}

func (s *sender) init(p *pool, to remote) {
	s.pool = p
	s.to = to
	s.queue = make([]entry, 0, sendSlots)
	s.iovs = make([]unix.Iovec, 0, maxPieces)
}

// entry is one datagram, or one run that the kernel cuts: segments of message,
// number at and those that follow.
type entry struct {
	message  *tunnel.Message
	segments []gso.Segment
	at       int
}

// lost notes that segment i of the entry was not taken.
func (e *entry) lost(i int, errno unix.Errno) {
	e.message.Lost |= 1 << (e.at + i)
	e.message.Err = classify(errno)
}

const (
	// sendSlots is how many messages go into one call.
	sendSlots = 64
	// maxSegments is what every kernel with UDP_SEGMENT takes: 64 before
	// Linux 6.9, where some counted the UDP header in; 128 since.
	maxSegments = tunnel.MaxRun - 1
	// maxPieces is how many pieces the messages of one call may have.
	maxPieces = sendSlots * 2 * maxSegments
)

// sendmmsg goes past the Go scheduler: it never sleeps.
func sendmmsg(fd int, first *mmsghdr, n int) (int, unix.Errno) {
	sent, _, errno := unix.RawSyscall6(unix.SYS_SENDMMSG, uintptr(fd), uintptr(unsafe.Pointer(first)), uintptr(n), unix.MSG_DONTWAIT, 0, 0)
	return int(sent), errno
}

// MaxSegments implements tunnel.Underlay.
func (s *sender) MaxSegments() int {
	if s.segment.Load() {
		return maxSegments
	}
	return 1
}

// Send implements tunnel.Underlay: one call per socket that has messages.
func (s *sender) Send(messages []tunnel.Message) {
	var used uint64
	for i := range messages {
		messages[i].Lost, messages[i].Err = 0, nil
		used |= 1 << socketOf(messages[i].Flow, len(s.sockets))
	}
	for used != 0 {
		k := bits.TrailingZeros64(used)
		used &^= 1 << k
		for i := range messages {
			if socketOf(messages[i].Flow, len(s.sockets)) == k {
				s.add(s.sockets[k], &messages[i])
			}
		}
		s.flush(s.sockets[k])
	}
}

// SourcePort implements tunnel.Underlay.
func (s *sender) SourcePort(flow uint32) uint16 { return s.ports[socketOf(flow, len(s.ports))] }

// add queues m as one entry, or as one for each segment when the kernel does
// not cut.
func (s *sender) add(fd int, m *tunnel.Message) {
	if len(m.Segments) == 1 || s.segment.Load() {
		s.enqueue(fd, entry{m, m.Segments, 0})
		return
	}
	for i := range m.Segments {
		s.enqueue(fd, entry{m, m.Segments[i : i+1], i})
	}
}

func (s *sender) enqueue(fd int, e entry) {
	if len(s.queue) == sendSlots || len(s.iovs)+2*len(e.segments) > maxPieces {
		s.flush(fd)
	}
	i := len(s.queue)
	s.queue = append(s.queue, e)
	first := len(s.iovs)
	for j := range e.segments {
		s.iovs = appendPiece(s.iovs, e.segments[j].Header)
		s.iovs = appendPiece(s.iovs, e.segments[j].Payload)
	}
	h := &s.hdrs[i].hdr
	*h = unix.Msghdr{Name: s.names[i].pointer(), Namelen: s.names[i].put(s.to, e.message.To)}
	h.Iov = unsafe.SliceData(s.iovs[first:])
	h.SetIovlen(len(s.iovs) - first)
	s.setControl(i, h, e)
}

// setControl gives h, which is to be sent from slot i, its control messages.
func (s *sender) setControl(i int, h *unix.Msghdr, e entry) {
	h.Control = nil
	n := putControl(&s.control[i].bytes, e, s.to.six)
	if n > 0 {
		h.Control = &s.control[i].bytes[0]
	}
	h.SetControllen(n)
}

func appendPiece(iovs []unix.Iovec, p []byte) []unix.Iovec {
	if len(p) == 0 {
		return iovs
	}
	iovs = append(iovs, unix.Iovec{Base: unsafe.SliceData(p)})
	iovs[len(iovs)-1].SetLen(len(p))
	return iovs
}

// putControl writes the control messages of e and returns their length. TOS 0
// goes without one: a control message at IP level costs the cached route.
func putControl(b *[controlLen]byte, e entry, six bool) int {
	n := 0
	if len(e.segments) > 1 {
		data := putCmsg(b[n:], unix.IPPROTO_UDP, unix.UDP_SEGMENT, 2)
		binary.NativeEndian.PutUint16(data, uint16(e.message.Size))
		n += unix.CmsgSpace(2)
	}
	if e.message.TOS != 0 {
		level, kind := int32(unix.IPPROTO_IP), int32(unix.IP_TOS)
		if six {
			level, kind = unix.IPPROTO_IPV6, unix.IPV6_TCLASS
		}
		data := putCmsg(b[n:], level, kind, 4)
		binary.NativeEndian.PutUint32(data, uint32(e.message.TOS))
		n += unix.CmsgSpace(4)
	}
	return n
}

func putCmsg(b []byte, level, kind int32, size int) []byte {
	c := (*unix.Cmsghdr)(unsafe.Pointer(&b[0]))
	c.Level, c.Type = level, kind
	c.SetLen(unix.CmsgLen(size))
	return b[unix.CmsgLen(0):]
}

// flush sends what is queued and notes what the kernel does not take. It does
// not wait for room: 16 MiB are queued then, and a lane that waits receives
// nothing either.
func (s *sender) flush(fd int) {
	for i := 0; i < len(s.queue); {
		n, errno := s.sendmmsg(fd, &s.hdrs[i], len(s.queue)-i)
		e := &s.queue[i]
		switch {
		case errno == 0:
			i += n
		case errno == unix.EINTR:
		case (errno == unix.EIO || errno == unix.EINVAL) && len(e.segments) > 1:
			s.sendSingly(fd, i, errno)
			i++
		default:
			for j := range e.segments {
				e.lost(j, errno)
			}
			i++
		}
	}
	s.queue = s.queue[:0]
	s.iovs = s.iovs[:0]
}

// sendSingly sends the segments of entry i one by one, so that none is lost
// when the kernel refuses to cut. If one goes out now, it was the cutting that
// was refused, and not the datagrams: the device, or a policy on the way out,
// cannot have it (EIO from Linux's udp_send_skb without transmit checksums
// before 6.11, or under IPsec; EINVAL for many segments), and it goes off for
// good. A datagram too large for the device, which was EINVAL too before 2025,
// does not go out singly either.
func (s *sender) sendSingly(fd, i int, refusal unix.Errno) {
	e, h := s.queue[i], s.hdrs[i]
	pieces := unsafe.Slice(h.hdr.Iov, h.hdr.Iovlen)
	for j := range e.segments {
		n := countPieces(e.segments[j])
		s.hdrs[i].hdr.Iov = unsafe.SliceData(pieces)
		s.hdrs[i].hdr.SetIovlen(n)
		s.setControl(i, &s.hdrs[i].hdr, entry{e.message, e.segments[j : j+1], j})
		pieces = pieces[n:]
		_, errno := s.sendmmsg(fd, &s.hdrs[i], 1)
		for errno == unix.EINTR {
			_, errno = s.sendmmsg(fd, &s.hdrs[i], 1)
		}
		switch {
		case errno == 0 && s.segment.Swap(false):
			s.log.Warn("the kernel refuses UDP_SEGMENT, datagrams are sent singly from now on", "error", refusal)
		case errno != 0:
			e.lost(j, errno)
		}
	}
}

func countPieces(seg gso.Segment) int {
	n := 0
	for _, p := range [][]byte{seg.Header, seg.Payload} {
		if len(p) > 0 {
			n++
		}
	}
	return n
}

func classify(errno unix.Errno) error {
	switch errno {
	case unix.EAGAIN, unix.ENOBUFS, unix.ENOMEM:
		return tunnel.ErrFull
	case unix.EMSGSIZE:
		return tunnel.ErrMTU
	case unix.ENETUNREACH, unix.EHOSTUNREACH, unix.ENETDOWN, unix.EADDRNOTAVAIL:
		return tunnel.ErrUnreachable
	}
	return tunnel.ErrFrame
}
