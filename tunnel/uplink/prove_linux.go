// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"fmt"
	"math/rand/v2"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"

	"vxtap/encap/virtio"
	"vxtap/encap/vxlan"
)

// seeWithin is how long to wait for the probes to come by. The kernel forwards
// while we write; only a neighbour that has to be asked for first takes time.
const seeWithin = 200 * time.Millisecond

// proof is one attempt to prove the way to some peers.
type proof struct {
	*Device
	window  window
	seen    *sightings
	answers map[netip.Addr]answer // those that need no sighting
}

// proveAll sends a probe to each peer and looks whether it leaves the host.
func (d *Device) proveAll(vteps []netip.Addr) []answer {
	answers := make([]answer, len(vteps))
	// The window is open for a moment only: while it is, the kernel copies
	// the head of every packet that leaves.
	w, err := openWindow(d.Local.Port())
	if err != nil {
		for i := range answers {
			answers[i] = answer{blocked, fmt.Sprintf("the way cannot be proven: %v", err)}
		}
		return answers
	}
	defer w.close()
	p := &proof{Device: d, window: w, seen: newSightings(d, vteps), answers: map[netip.Addr]answer{}}
	for _, v := range vteps {
		p.send(v)
		p.look()
	}
	p.wait(vteps)
	for i, v := range vteps {
		a, ok := p.answers[v]
		if !ok {
			a = p.seen.judge(v)
		}
		answers[i] = a
	}
	return answers
}

// send sends a probe and its control. What cannot be sent is an answer.
func (p *proof) send(to netip.Addr) {
	frame, err := probeFrame(p.endpoint, to, p.MTU, p.SourcePort(rand.Uint32()), p.mark)
	if err != nil {
		p.answers[to] = answer{blocked, fmt.Sprintf("the way cannot be proven: %v", err)}
		return
	}
	p.seen.want = len(frame) - virtio.TunnelHeaderLen - vxlan.OuterLen
	if err := unix.Sendto(int(p.control), controlPayload(p.mark), 0, &unix.SockaddrInet4{Port: int(p.Local.Port()), Addr: to.As4()}); err != nil {
		// By the ordinary way a frame without any is counted, and so it is to be.
		p.answers[to] = answer{blocked, fmt.Sprintf("there is no way to the peer at all: %v", err)}
		return
	}
	if err := p.tap.write(frame); err != nil {
		p.answers[to] = answer{blocked, fmt.Sprintf("%s takes no super-frame: %v", p.Name, err)}
	}
}

// look takes note of what has come by.
func (p *proof) look() {
	for b := make([]byte, snap); ; {
		n, device, ok := p.window.read(b)
		if !ok {
			return
		}
		p.seen.see(b[:n], device)
	}
}

// wait looks until there is an answer for every peer, or time is up.
func (p *proof) wait(vteps []netip.Addr) {
	open := slices.Clone(vteps)
	for deadline := time.Now().Add(seeWithin); ; {
		p.look()
		open = slices.DeleteFunc(open, func(v netip.Addr) bool {
			_, ok := p.answers[v]
			return ok || p.seen.settled(v)
		})
		left := time.Until(deadline)
		if len(open) == 0 || left <= 0 {
			return
		}
		p.window.await(left)
	}
}
