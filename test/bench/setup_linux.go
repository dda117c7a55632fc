// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"golang.org/x/sys/unix"

	"vxtap/cmd/vxlab/lab"
	"vxtap/cmd/vxlab/netns"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

// Names of the contestants.
const (
	kernelName = "kernel VXLAN"
	vxtapName  = "vxtap"
)

// contestant is two hosts and their containers on an overlay of one kind.
type contestant struct {
	name string
	ends map[place][2]traffic.End // from, to
}

// bench is a lab of two vxtap hosts, and two hosts with kernel VXLAN on the
// same underlay bridge: both kinds cross the same devices.
type bench struct {
	lab         *lab.Lab
	contestants []contestant
	undo        []func() error
}

// takeDownTime bounds the way back, which is taken even when ctx has ended.
const takeDownTime = 30 * time.Second

func setUp(ctx context.Context, s settings, progress io.Writer) (*bench, error) {
	vxtap, err := filepath.Abs(s.vxtap)
	if err != nil {
		return nil, err
	}
	vxlab, err := filepath.Abs(s.vxlab)
	if err != nil {
		return nil, err
	}
	l, err := lab.Up(ctx, lab.Options{Name: "bench", Hosts: 2, Vxtap: vxtap, Vxlab: vxlab, Owned: true, Progress: progress})
	if err != nil {
		return nil, err
	}
	b := &bench{lab: l}
	for _, step := range []func(context.Context) error{b.addVxtap, b.addKernel} {
		if err := step(ctx); err != nil {
			return nil, errors.Join(err, b.takeDown())
		}
	}
	return b, nil
}

func (b *bench) takeDown() error {
	ctx, cancel := context.WithTimeout(context.Background(), takeDownTime)
	defer cancel()
	errs := []error{b.lab.Down(ctx)}
	for _, undo := range b.undo {
		errs = append(errs, undo())
	}
	return errors.Join(errs...)
}

func (b *bench) addVxtap(context.Context) error {
	c := contestant{name: vxtapName, ends: map[place][2]traffic.End{}}
	var host, container [2]traffic.End
	for i := range 2 {
		h := b.lab.Hosts()[i]
		hostNS, err := b.open(h.Node)
		if err != nil {
			return err
		}
		containerNS, err := b.open(lab.ContainerNode(i + 1))
		if err != nil {
			return err
		}
		host[i] = traffic.End{Namespace: hostNS, Addr: h.Subnet.Addr()}
		container[i] = traffic.End{Namespace: containerNS, Addr: h.Container}
	}
	c.ends[hosts], c.ends[containers] = host, container
	b.contestants = append(b.contestants, c)
	return nil
}

func (b *bench) open(node string) (*netns.Namespace, error) {
	ns, err := b.lab.Namespace(node)
	if err == nil {
		b.undo = append(b.undo, ns.Close)
	}
	return ns, err
}

func (b *bench) addKernel(ctx context.Context) error {
	var kernels [2]*bed.Kernel
	for i := range kernels {
		h, err := b.lab.JoinBare(ctx)
		if err != nil {
			return err
		}
		hostNS, err := b.open(h.Node)
		if err != nil {
			return err
		}
		container, err := b.create(h.Namespace + "k")
		if err != nil {
			return err
		}
		subnet := netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 30, byte(201 + i), 0}), 24)
		if kernels[i], err = bed.SetUpKernel(hostNS, container, h.VTEP, subnet, b.lab.Options().MTU); err != nil {
			return err
		}
	}
	for i, k := range kernels {
		p := kernels[1-i]
		if err := k.AddPeer(p.VTEP, p.Subnet, p.MAC); err != nil {
			return err
		}
	}
	b.contestants = append(b.contestants, contestant{name: kernelName, ends: map[place][2]traffic.End{
		hosts:      {kernels[0].HostEnd(), kernels[1].HostEnd()},
		containers: {kernels[0].ContainerEnd(), kernels[1].ContainerEnd()},
	}})
	return nil
}

func (b *bench) create(name string) (*netns.Namespace, error) {
	ns, err := netns.Create(name)
	if err != nil {
		return nil, err
	}
	b.undo = append(b.undo, func() error { return errors.Join(ns.Close(), netns.Delete(name)) })
	return ns, nil
}

// machine says where figures were measured.
func machine() string {
	var u unix.Utsname
	_ = unix.Uname(&u)
	release, _, _ := bytes.Cut(u.Release[:], []byte{0})
	cpu := "unknown CPU"
	if text, err := os.ReadFile("/proc/cpuinfo"); err == nil {
		for line := range strings.Lines(string(text)) {
			if name, value, ok := strings.Cut(line, ":"); ok && strings.TrimSpace(name) == "model name" {
				cpu = strings.TrimSpace(value)
				break
			}
		}
	}
	return fmt.Sprintf("%d cores of %s, Linux %s, %s", runtime.NumCPU(), cpu, release, runtime.Version())
}
