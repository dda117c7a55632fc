// SPDX-License-Identifier: Apache-2.0

// Package buffer has byte buffers with headroom, so that a header can be put
// before a frame without moving the frame.
//
// A Buffer implements gopacket.SerializeBuffer: gopacket's layers write their
// headers straight into the headroom, with no copy and no allocation.
package buffer

import (
	"fmt"
	"sync"

	"github.com/google/gopacket"
)

var _ gopacket.SerializeBuffer = (*Buffer)(nil)

// Buffer is a fixed piece of memory with contents somewhere in the middle:
// headers are prepended into the headroom before, data is appended after. It
// is not safe for concurrent use.
type Buffer struct {
	mem        []byte
	headroom   int // what Clear restores
	start, end int
	layers     []gopacket.LayerType
}

// New returns an empty buffer with room for headroom bytes before and size
// bytes after the place where the contents begin.
func New(headroom, size int) *Buffer {
	return &Buffer{mem: make([]byte, headroom+size), headroom: headroom, start: headroom, end: headroom}
}

// Bytes returns the contents. They belong to the buffer and are valid until
// the next call that changes it; appending to them leaves the buffer alone.
func (b *Buffer) Bytes() []byte { return b.mem[b.start:b.end:b.end] }

// Room returns all the memory after the contents, for a read to fill;
// AppendBytes then makes the bytes that were read part of the contents.
func (b *Buffer) Room() []byte { return b.mem[b.end:] }

// PrependBytes makes the contents n bytes longer at the front and returns the
// new bytes, whose values are whatever was there. It is an error, and changes
// nothing, when the headroom is used up: a buffer never grows.
func (b *Buffer) PrependBytes(n int) ([]byte, error) {
	if n < 0 || n > b.start {
		return nil, fmt.Errorf("buffer: %d bytes do not fit the headroom of %d", n, b.start)
	}
	b.start -= n
	return b.mem[b.start : b.start+n : b.start+n], nil
}

// AppendBytes makes the contents n bytes longer at the end and returns the new
// bytes, whose values are whatever was there. It is an error, and changes
// nothing, when the buffer is full.
func (b *Buffer) AppendBytes(n int) ([]byte, error) {
	if n < 0 || n > len(b.mem)-b.end {
		return nil, fmt.Errorf("buffer: %d bytes do not fit the %d left", n, len(b.mem)-b.end)
	}
	b.end += n
	return b.mem[b.end-n : b.end : b.end], nil
}

// Clear empties the buffer and restores its headroom. It never fails; the
// error is gopacket's.
func (b *Buffer) Clear() error {
	b.start, b.end = b.headroom, b.headroom
	b.layers = b.layers[:0]
	return nil
}

// Layers returns the layers serialised since Clear, outermost last.
func (b *Buffer) Layers() []gopacket.LayerType { return b.layers }

// PushLayer records one serialised layer; gopacket.SerializeLayers calls it.
func (b *Buffer) PushLayer(l gopacket.LayerType) { b.layers = append(b.layers, l) }

// Pool hands out buffers of one shape. It is safe for concurrent use. A loop
// that moves frames takes its buffers once, before it starts, and keeps them:
// nothing is got or put per frame.
type Pool struct {
	headroom, size int
	free           sync.Pool
}

// NewPool returns a pool of buffers as New(headroom, size) makes them.
func NewPool(headroom, size int) *Pool {
	return &Pool{headroom: headroom, size: size}
}

// Get returns an empty buffer that the caller owns until it calls Put.
func (p *Pool) Get() *Buffer {
	if b, ok := p.free.Get().(*Buffer); ok {
		return b
	}
	return New(p.headroom, p.size)
}

// Put gives b back; the caller must not touch it, or any slice of it, again.
func (p *Pool) Put(b *Buffer) {
	_ = b.Clear()
	p.free.Put(b)
}
