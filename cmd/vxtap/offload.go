// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"slices"
	"strings"

	"vxtap/tunnel"
)

// offloads says which of the kernel's and our own ways to move many segments at
// once may be used. What the kernel does not have is not used either way.
type offloads struct {
	csum     bool // leave transport checksums to the kernel
	tso      bool // TCP super-frames from and to the TAP
	uso      bool // UDP super-frames from and to the TAP
	segment  bool // UDP_SEGMENT: the kernel cuts runs of datagrams
	gro      bool // UDP_GRO: the kernel joins received datagrams
	coalesce bool // join received segments into super-frames for the TAP
}

func allOffloads() offloads {
	return offloads{csum: true, tso: true, uso: true, segment: true, gro: true, coalesce: true}
}

// offloadNames are what -offload may list, in the order of the way of a frame.
var offloadNames = [...]string{"csum", "tso", "uso", "udp-segment", "udp-gro", "coalesce"}

// named returns the field for one of offloadNames, nil for other words.
func (o *offloads) named(name string) *bool {
	switch name {
	case "csum":
		return &o.csum
	case "tso":
		return &o.tso
	case "uso":
		return &o.uso
	case "udp-segment":
		return &o.segment
	case "udp-gro":
		return &o.gro
	case "coalesce":
		return &o.coalesce
	}
	return nil
}

// parseOffloads reads "auto", "off", the names that are to be used and no
// others ("csum,tso"), or the names that are not to be used, each with a minus
// sign ("-uso,-udp-gro").
func parseOffloads(s string) (offloads, error) {
	switch s {
	case "auto":
		return allOffloads(), nil
	case "off":
		return offloads{}, nil
	}
	words := strings.Split(s, ",")
	less := strings.HasPrefix(words[0], "-")
	var o offloads
	if less {
		o = allOffloads()
	}
	for _, w := range words {
		name, minus := strings.CutPrefix(strings.TrimSpace(w), "-")
		field := o.named(name)
		if field == nil {
			return offloads{}, notAnOffload(name)
		}
		if minus != less {
			return offloads{}, fmt.Errorf("%q has names with and without a minus sign: list what to use, or what not to use", s)
		}
		*field = !less
	}
	if !o.csum && (o.tso || o.uso) {
		if !less {
			return offloads{}, fmt.Errorf("%q has super-frames without csum, which the kernel gives no one: write csum,%s", s, s)
		}
		o.tso, o.uso = false, false
	}
	return o, nil
}

// notAnOffload says what was probably meant. status shows the kernel's own names
// for what the TAP does, which are switched together.
func notAnOffload(name string) error {
	all := strings.Join(offloadNames[:], ", ")
	switch name {
	case "auto", "off":
		return fmt.Errorf("%s stands alone: give auto, or off, or a list of %s", name, all)
	case "tso4", "tso6", "ecn":
		return fmt.Errorf("%q goes by the name tso, which is tso4, tso6 and ecn together", name)
	case "uso4", "uso6":
		return fmt.Errorf("%q goes by the name uso, which is uso4 and uso6 together", name)
	case "":
		return fmt.Errorf("a name is missing between commas: there are %s", all)
	}
	return fmt.Errorf("%q is not one of auto, off, %s", name, all)
}

// lacks says what of the flags comes to nothing because of others: text is that
// of -offload, queues how many were asked for, 0 if nobody did.
func (o offloads) lacks(text string, queues int) []string {
	var notes []string
	less := strings.HasPrefix(text, "-")
	switch {
	case less && !o.csum:
		notes = append(notes, fmt.Sprintf("-offload=%s: super-frames need csum, so that tso, uso and coalesce are off too", text))
	case !less && o.coalesce && !o.tso && !o.uso:
		notes = append(notes, fmt.Sprintf("-offload=%s: coalesce makes super-frames, and does nothing without tso or uso", text))
	}
	if queues > 1 && !o.csum {
		notes = append(notes, fmt.Sprintf("-queues=%d: it is one, since -offload=%s has no csum, and without it a TAP has one queue", queues, text))
	}
	return notes
}

// tap returns what the TAP is asked for.
func (o offloads) tap() tunnel.Offloads {
	return tunnel.Offloads{Csum: o.csum, TCP4: o.tso, TCP6: o.tso, UDP: o.uso}
}

// The values of -tx-path.
const (
	txAuto   = "auto"   // by the uplink TAP where that is to be had
	txUDP    = "udp"    // always by UDP sockets
	txUplink = "uplink" // as auto, but a host where it cannot be had is an error at start
)

// defaultQueues returns how many queues a host with so many cores has use for:
// half as many, since a lane is one busy thread and whoever sends and receives
// wants processors too. Two cores have two nevertheless, which is a tenth more
// for four streams (docs/performance.md); and nobody has more than eight, beyond
// which nothing was ever measured here.
func defaultQueues(cores int) int { return min(max(cores/2, min(cores, 2)), maxDefaultQueues) }

const (
	maxDefaultQueues = 8
	// maxQueues is far more than pays, and less than the 256 of Linux's TAP.
	maxQueues = 64
)

// noSuperFrames is the reason where there are none to be cut.
const noSuperFrames = "-offload has neither tso nor uso"

// withoutUplink returns why super-frames must be cut, for a daemon that may not
// try anything else: "" if it may.
func (s *settings) withoutUplink() string {
	switch {
	case s.txPath == txUDP:
		return "-tx-path=udp"
	case !s.offload.tso && !s.offload.uso:
		return noSuperFrames
	}
	return ""
}

// offloadList names what is in use, for one line of the log.
func (s *side) offloadList() []string {
	in := offloadsStatus(s.tap.Offloads(), s.underlay.Offloads(), s.d.offload.coalesce)
	names := slices.Concat(in.TAP, in.UDP)
	if in.Coalesce {
		names = append(names, "coalesce")
	}
	return names
}
