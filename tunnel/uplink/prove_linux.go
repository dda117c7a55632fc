// SPDX-License-Identifier: Apache-2.0

package uplink

import (
	"fmt"
	"net/netip"
	"slices"
	"time"

	"golang.org/x/sys/unix"
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
func (d *Device) proveAll(questions []question) []answer {
	answers := make([]answer, len(questions))
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
	p := &proof{Device: d, window: w, seen: newSightings(d, questions), answers: map[netip.Addr]answer{}}
	for _, q := range questions {
		if err := p.send(q); err != nil {
			p.answers[q.vtep] = answer{blocked, err.Error()}
		}
		p.look()
	}
	p.wait(questions)
	for i, q := range questions {
		a, ok := p.answers[q.vtep]
		if !ok {
			a = p.seen.judge(q.vtep)
		}
		answers[i] = a
	}
	return answers
}

// send sends the control, and after it the probes. What cannot be sent is an
// answer.
func (p *proof) send(q question) error {
	outer, err := p.outerTo(q.vtep)
	if err != nil {
		return fmt.Errorf("the way cannot be proven: %w", err)
	}
	if err := unix.Sendto(int(p.control), controlPayload(p.mark), 0, &unix.SockaddrInet4{Port: int(p.Local.Port()), Addr: q.vtep.As4()}); err != nil {
		// By the ordinary way a frame without any is counted, and so it is to be.
		return fmt.Errorf("there is no way to the peer at all: %w", err)
	}
	for _, probe := range p.probesOf(q) {
		frame, err := probe.frame(outer, p.mark)
		if err != nil {
			return fmt.Errorf("the way cannot be proven: %w", err)
		}
		p.seen.peers[q.vtep].want[probe.port] = innerLen + probe.size
		if err := p.tap.write(frame); err != nil {
			return fmt.Errorf("%s takes no super-frame: %w", p.Name, err)
		}
	}
	return nil
}

// look takes note of what has come by, of so much that whoever floods this host
// with zeros cannot keep it busy.
func (p *proof) look() {
	b := make([]byte, snap)
	for range 10_000 {
		n, device, ok := p.window.read(b)
		if !ok {
			return
		}
		p.seen.see(b[:n], device)
	}
}

// wait looks until there is an answer for every peer, or time is up.
func (p *proof) wait(questions []question) {
	open := slices.Clone(questions)
	for deadline := time.Now().Add(seeWithin); ; {
		p.look()
		open = slices.DeleteFunc(open, func(q question) bool {
			_, ok := p.answers[q.vtep]
			return ok || p.seen.settled(q.vtep)
		})
		left := time.Until(deadline)
		if len(open) == 0 || left <= 0 {
			return
		}
		p.window.await(left)
	}
}
