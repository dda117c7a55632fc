// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"time"

	"vxtap/tunnel/host"
)

// freeWithin is how long the kernel may take to let go of the port after the
// device is deleted.
const freeWithin = 2 * time.Second

// errForwards keeps what was last known from replacing what the kernel knows.
// As long as etcd is away, the kernel's device reaches more peers than we would.
var errForwards = errors.New("the kernel's vxlan device forwards, and is not taken over before etcd answers")

// checkFree looks whether the device's name and the port are free, or will be
// when the kernel's device is gone.
func (s *side) checkFree() error {
	if s.d.takeover {
		k, found, err := host.FindKernelVXLAN(s.device, s.config.Backend.VNI, s.local())
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
	return host.CheckFree(s.device, s.config.Backend.Port, s.local().Addr())
}

// takeOver deletes the kernel's devices, if any is to be replaced. Two things
// cannot be had before: their names and the port. All that can fail or take long
// comes first, the lease above all, and the devices forward meanwhile.
func (s *segment) takeOver(ctx context.Context) error {
	var theirs []*side
	for _, one := range s.sides {
		if one.kernel != nil {
			theirs = append(theirs, one)
			one.log.Info("the kernel's vxlan device is to be replaced", "mac", one.kernel.MAC)
		}
	}
	if len(theirs) == 0 {
		return nil
	}
	if err := s.acquire(ctx); err != nil {
		return err
	}
	if err := ctx.Err(); err != nil {
		return err
	}
	for _, one := range theirs {
		if err := one.deleteKernel(ctx); err != nil {
			return err
		}
	}
	return nil
}

// deleteKernel deletes the kernel's device and waits until its port is free.
func (s *side) deleteKernel(ctx context.Context) error {
	if s.mac != s.kernel.MAC {
		s.log.Warn("the kernel's device has another MAC than the lease, which peers send to: the lease's is kept",
			"device_mac", s.kernel.MAC, "mac", s.mac)
	}
	begun := time.Now()
	if err := s.kernel.Remove(); err != nil {
		return err
	}
	if s.deleted.IsZero() {
		s.deleted = begun
	}
	for {
		err := host.CheckFree(s.device, s.config.Backend.Port, s.local().Addr())
		if err == nil || time.Since(begun) > freeWithin {
			return err
		}
		if err := pause(ctx, 10*time.Millisecond); err != nil {
			return err
		}
	}
}

// afterTakeover adds to the error of a start what somebody has to know who
// trusted in the kernel's device.
func (s *segment) afterTakeover(err error) error {
	if s.deleted.IsZero() {
		return err
	}
	return fmt.Errorf("%w; the kernel's %s was deleted before, so that this host is cut off: start vxtap again, or flanneld, which makes a new one",
		err, s.device)
}

// tellOfTakeover says how long nothing was forwarded.
func (s *segment) tellOfTakeover() {
	if !s.deleted.IsZero() {
		s.log.Info("the kernel's vxlan device is replaced", "mac", s.ipv4.mac, "gap", time.Since(s.deleted).Round(time.Millisecond))
	}
}
