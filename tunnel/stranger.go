// SPDX-License-Identifier: Apache-2.0

package tunnel

import (
	"encoding/binary"
	"net/netip"
	"sync/atomic"
)

// stranger is the last sender that was no peer, for the log. Every lane notes
// its own there, and nobody waits for anybody: one that finds another writing
// leaves it at that one's.
type stranger struct {
	seq    atomic.Uint32 // odd while a lane writes
	hi, lo atomic.Uint64 // of the address, IPv4 in IPv6; zero: there was none
}

func (s *stranger) note(a netip.Addr) {
	seq := s.seq.Load()
	if seq&1 != 0 || !s.seq.CompareAndSwap(seq, seq+1) {
		return
	}
	b := a.As16()
	s.hi.Store(binary.BigEndian.Uint64(b[:8]))
	s.lo.Store(binary.BigEndian.Uint64(b[8:]))
	s.seq.Store(seq + 2)
}

// addr returns the address, the zero one if there was none. Anyone may call it.
func (s *stranger) addr() netip.Addr {
	for {
		seq := s.seq.Load()
		var b [16]byte
		binary.BigEndian.PutUint64(b[:8], s.hi.Load())
		binary.BigEndian.PutUint64(b[8:], s.lo.Load())
		if seq&1 != 0 || s.seq.Load() != seq {
			continue
		}
		if b == [16]byte{} {
			return netip.Addr{}
		}
		return netip.AddrFrom16(b).Unmap()
	}
}
