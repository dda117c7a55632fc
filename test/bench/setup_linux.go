// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/cmd/vxlab/netns"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

// bench is a lab to whose underlay the hosts of all contestants are joined: all
// cross the same devices.
type bench struct {
	settings    settings
	lab         *lab.Lab
	contestants []*contestant
	built       map[string]*contestant // by name, and some that only serve others
	kernels     [2]*bed.Kernel         // the hosts of kernelName
	leftOut     []string               // who cannot take part here, and why
	open        []*netns.Namespace
	progress    io.Writer
}

// How long things may take.
const (
	takeDownTime = 30 * time.Second // the way back, which is taken even when ctx has ended
	reachTime    = 20 * time.Second // until a contestant carries traffic
)

// setUp builds everything that the chosen contestants need, and nothing else.
func setUp(ctx context.Context, s settings, progress io.Writer) (*bench, error) {
	for _, path := range []*string{&s.vxtap, &s.vxlab, &s.relay, &s.other} {
		if *path == "" {
			continue // there is no other
		}
		var err error
		if *path, err = filepath.Abs(*path); err != nil {
			return nil, err
		}
	}
	for _, program := range []string{"iperf3", "sockperf", "etcdctl"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("no %s: make deps installs it", program)
		}
	}
	// A lab has a vxtap host at least. It is not one of ours, which are
	// started with flags and programs of their own, and rests.
	l, err := lab.Up(ctx, lab.Options{Name: s.name, Hosts: 1, Vxtap: s.vxtap, Vxlab: s.vxlab, Owned: true, Progress: progress})
	if err != nil {
		return nil, err
	}
	b := &bench{settings: s, lab: l, built: map[string]*contestant{}, progress: progress}
	err = l.StopHost(ctx, 1)
	for _, name := range chosenContestants(s) {
		if err == nil {
			err = b.add(ctx, name)
		}
	}
	if err != nil {
		return nil, errors.Join(err, b.takeDown())
	}
	return b, nil
}

func (b *bench) takeDown() error {
	ctx, cancel := context.WithTimeout(context.Background(), takeDownTime)
	defer cancel()
	err := b.lab.Down(ctx) // with every process in its namespaces
	for _, ns := range b.open {
		ns.Close()
	}
	return err
}

// add sets up one contestant, and returns when it carries traffic.
func (b *bench) add(ctx context.Context, name string) error {
	c, err := b.build(ctx, name)
	if errors.Is(err, errAbsent) {
		b.leftOut = append(b.leftOut, fmt.Sprintf("%s is left out: %v", name, err))
		fmt.Fprintln(b.progress, b.leftOut[len(b.leftOut)-1])
		return nil
	}
	if err == nil {
		err = c.reach(ctx)
	}
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	b.contestants = append(b.contestants, c)
	fmt.Fprintf(b.progress, "%s is there\n", name)
	return nil
}

// build makes the hosts of a contestant, or returns those that it has already:
// some stand in for others too.
func (b *bench) build(ctx context.Context, name string) (c *contestant, err error) {
	if c := b.built[name]; c != nil {
		return c, nil
	}
	s := b.settings
	switch name {
	case kernelName:
		c, err = b.addKernel(ctx)
	case relayName:
		c, err = b.addRelay(ctx)
	case vxtapName:
		c, err = b.addVxtap(ctx, s.vxtap, s.vxtapArgs...)
	case otherName:
		c, err = b.addVxtap(ctx, s.other, s.otherArgs...)
	case plainName:
		c, err = b.addVxtap(ctx, s.vxtap, append(slices.Clone(s.vxtapArgs), "-offload=off")...)
	case ovsName:
		c, err = b.addOVS(ctx)
	case intoName:
		c, err = b.addMixed(ctx, kernelName, vxtapName)
	case outOfName:
		c, err = b.addMixed(ctx, vxtapName, kernelName)
	default:
		err = errors.New("nobody knows how to set it up")
	}
	if err != nil {
		return nil, err
	}
	c.name = name
	b.built[name] = c
	return c, nil
}

// reach returns when both ends answer in every place.
func (c *contestant) reach(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	for _, p := range []place{containers, hosts} {
		for {
			err := traffic.Ping(ctx, c.ends[p][0], c.ends[p][1], 3)
			if err == nil {
				break
			}
			if err := errors.Join(c.alive(), ctx.Err()); err != nil {
				return fmt.Errorf("no traffic between %s: %w", p, err)
			}
			time.Sleep(20 * time.Millisecond)
		}
	}
	return nil
}

// join adds a host to the underlay. The names of its namespaces are the lab's,
// so that they go with it, whatever becomes of this process.
func (b *bench) join(ctx context.Context) (node, error) {
	h, err := b.lab.JoinBare(ctx)
	if err != nil {
		return node{}, err
	}
	host, err := b.lab.Namespace(h.Node)
	if err != nil {
		return node{}, err
	}
	b.open = append(b.open, host)
	container, err := netns.Create(lab.NamespaceName(b.lab.Name(), "c"+strings.TrimPrefix(h.Node, "h")))
	if err != nil {
		return node{}, err
	}
	b.open = append(b.open, container)
	return node{h, host, container}, nil
}

// pair makes both hosts of a contestant with f, which returns the subnet of
// each. Hosts have its first address, containers the third.
func (b *bench) pair(ctx context.Context, f func(i int, n node) (netip.Prefix, error)) (*contestant, error) {
	var nodes [2]node
	var host, container [2]traffic.End
	for i := range 2 {
		n, err := b.join(ctx)
		if err != nil {
			return nil, err
		}
		nodes[i] = n
		subnet, err := f(i, n)
		if err != nil {
			return nil, err
		}
		host[i] = traffic.End{Namespace: n.host, Addr: subnet.Addr()}
		container[i] = traffic.End{Namespace: n.container, Addr: subnet.Addr().Next().Next()}
	}
	return &contestant{nodes: nodes, ends: map[place][2]traffic.End{hosts: host, containers: container}}, nil
}
