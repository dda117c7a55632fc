// SPDX-License-Identifier: Apache-2.0

package gso

// Arena is the memory for the headers of one batch of segments. It never
// grows: what it holds is what one batch may need. It is not safe for
// concurrent use.
type Arena struct {
	mem  []byte
	used int
}

// NewArena returns an arena of size bytes. A segment takes the length of its
// prefix and of its headers; a 64 KB super-frame of full-size segments behind
// an MTU of 1450 takes about 3.5 KB, and with the smallest segments that Linux
// makes (an MSS of 48, TCP_MIN_SND_MSS) about 200 KB.
func NewArena(size int) *Arena { return &Arena{mem: make([]byte, size)} }

// Reset makes all the memory free again. Segments made before must not be used
// any more.
func (a *Arena) Reset() { a.used = 0 }

// take returns memory for n pieces of size bytes, or nil if there is not
// enough. The contents are whatever was there.
func (a *Arena) take(n, size int) []byte {
	if n > (len(a.mem)-a.used)/size {
		return nil
	}
	b := a.mem[a.used : a.used+n*size]
	a.used += n * size
	return b
}
