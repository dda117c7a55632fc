// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"vxtap/tunnel/host"
)

// takeover is what a side replaces: the kernel's vxlan device that a flanneld
// left. It is set before run.
type takeover struct {
	kernel  *host.KernelVXLAN // nil: there is none, or -takeover was not given
	deleted time.Time         // the kernel's device was; zero: it was not
}

// freeWithin is how long the kernel may take to let go of the port after the
// device is deleted.
const freeWithin = 2 * time.Second

// goneWithin is how long a flanneld may take to end.
const goneWithin = 3 * time.Second

// errForwards keeps what was last known from replacing what the kernel knows.
// As long as etcd is away, the kernel's device reaches more peers than we would.
var errForwards = errors.New("the kernel's vxlan device forwards, and is not taken over before etcd answers")

// checkFree looks whether the device's name and the port are free, or will be
// when the kernel's device is gone.
func (s *side) checkFree(ctx context.Context) error {
	if s.d.takeover {
		k, found, err := s.findKernel(ctx)
		if err != nil {
			return err
		}
		if found && s.known != nil {
			return errForwards
		}
		if found {
			s.kernel = &k
			return nil
		}
	}
	return s.d.onceFree(ctx, func() error {
		return host.CheckFree(s.device, s.config.Backend.Port, s.local().Addr())
	})
}

// findKernel is host.FindKernelVXLAN that gives a flanneld some time to go: one
// that was just told to end, or that was started beside us, deleted our TAP and is
// about to find that it has no port.
func (s *side) findKernel(ctx context.Context) (host.KernelVXLAN, bool, error) {
	for deadline := time.Now().Add(goneWithin); ; {
		var k host.KernelVXLAN
		var found bool
		err := s.d.onceFree(ctx, func() (err error) {
			k, found, err = host.FindKernelVXLAN(s.device, s.config.Backend.VNI, s.local())
			return err
		})
		if !errors.Is(err, host.ErrRuns) || time.Now().After(deadline) {
			return k, found, err
		}
		if err := pause(ctx, 100*time.Millisecond); err != nil {
			return k, false, err
		}
	}
}

// takeOver deletes the kernel's device, if one is to be replaced. Two things
// cannot be had before: its name and its port. All that can fail or take long
// comes first, the lease above all, and the device forwards meanwhile.
func (s *side) takeOver(ctx context.Context) error {
	if s.kernel == nil {
		return nil
	}
	s.log.Info("the kernel's vxlan device is to be replaced", "mac", s.kernel.MAC)
	if err := s.acquire(ctx); err != nil {
		return err
	}
	if s.mac != s.kernel.MAC {
		s.log.Warn("the kernel's device has another MAC than the lease, which peers send to: the lease's is kept",
			"device_mac", s.kernel.MAC, "mac", s.mac)
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	s.deleted = time.Now()
	if err := s.kernel.Remove(); err != nil {
		s.deleted = time.Time{}
		return err
	}
	for {
		err := host.CheckFree(s.device, s.config.Backend.Port, s.local().Addr())
		if err == nil || time.Since(s.deleted) > freeWithin {
			return err
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// tookOver reports whether a device of the kernel's was deleted for s.
func (s *segment) tookOver() bool {
	return slices.ContainsFunc(s.sides, func(one *side) bool { return !one.deleted.IsZero() })
}

// afterTakeover adds to the error of a start what somebody has to know who
// trusted in the kernel's device. A vxtap that was started in the same moment may
// have been faster: then that one forwards.
func (s *segment) afterTakeover(err error) error {
	if !s.tookOver() {
		return err
	}
	for _, one := range s.sides {
		if one.deleted.IsZero() || one.tap != nil {
			continue // the TAP may be ours
		}
		if other, ok := host.DeviceHolder(one.device); ok {
			return fmt.Errorf("%w; %s was started in the same moment and has replaced the kernel's %s, so that this host is not cut off", err, other, one.device)
		}
	}
	return fmt.Errorf("%w; the kernel's %s was deleted before, so that this host is cut off: start vxtap again, or flanneld, which makes a new one",
		err, s.device)
}

// tellOfTakeover says how long nothing was forwarded.
func (s *segment) tellOfTakeover() {
	for _, one := range s.sides {
		if !one.deleted.IsZero() {
			one.log.Info("the kernel's vxlan device is replaced", "mac", one.mac, "gap", time.Since(one.deleted).Round(time.Millisecond))
		}
	}
}
