// SPDX-License-Identifier: Apache-2.0

package underlay

import (
	"errors"
	"net/netip"

	"golang.org/x/sys/unix"
)

// rebinder moves the sockets of a Conn. A socket that is bound stays bound; so
// each gets another behind its descriptor, in one step: the loops use them all
// the time.
type rebinder struct {
	config Config
	lanes  []*mmsg
	pool   *pool
}

func (r *rebinder) rebind(local netip.Addr) error {
	c := r.config
	c.Local = netip.AddrPortFrom(local, c.Local.Port())
	fresh, err := r.open(c)
	if err != nil {
		for _, fd := range fresh {
			unix.Close(fd)
		}
		return err
	}
	old := make([]int, 0, len(fresh))
	for _, l := range r.lanes {
		l.missed.Add(uint64(l.dropped())) // the count goes with the socket
		old = append(old, l.receiver.fd)
	}
	old = append(old, r.pool.sockets...)
	var errs []error
	for i, fd := range fresh {
		errs = append(errs, replace(old[i], fd))
	}
	r.config = c
	for _, l := range r.lanes {
		l.receiver.poll.Wake()
	}
	return errors.Join(errs...)
}

// open opens the sockets that take the places of all, in the order of lanes and
// pool. It returns what it has opened also when it fails.
func (r *rebinder) open(c Config) (fresh []int, err error) {
	for i := range r.lanes {
		fd, _, err := receiveSocket(c, sharingOf(i, len(r.lanes)))
		if err != nil {
			return fresh, err
		}
		fresh = append(fresh, fd)
	}
	for _, port := range r.pool.ports {
		fd, err := udpSocket(netip.AddrPortFrom(c.Local.Addr(), port), alone)
		if err != nil {
			return fresh, err
		}
		growSend(fd)
		fresh = append(fresh, fd)
	}
	return fresh, nil
}

// replace puts the socket fresh behind the descriptor old, and closes fresh.
func replace(old, fresh int) error {
	err := unix.Dup3(fresh, old, unix.O_CLOEXEC)
	for errors.Is(err, unix.EINTR) || errors.Is(err, unix.EBUSY) {
		err = unix.Dup3(fresh, old, unix.O_CLOEXEC)
	}
	return errors.Join(err, unix.Close(fresh))
}
