// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"time"

	"vxtap/cmd/vxlab/netns"
	"vxtap/encap/vxlan"
)

// errAbsent is the error of a contestant that this machine does not have.
var errAbsent = errors.New("not here")

// ovsSchema is where Debian's package has the layout of the database.
const ovsSchema = "/usr/share/openvswitch/vswitch.ovsschema"

// ovsBits is the length of the one subnet in which both hosts and containers
// are: Open vSwitch is a switch, and routes nothing here.
const ovsBits = 16

// ovsHost is one host with Open vSwitch's userspace datapath: a bridge of its
// own for the underlay, and one for the overlay, to which the container is
// joined.
type ovsHost struct {
	node
	name string // of the database's socket, for every program's command line
	dir  string
}

// addOVS makes two hosts with Open vSwitch.
func (b *bench) addOVS(ctx context.Context) (*contestant, error) {
	for _, program := range []string{"ovsdb-tool", "ovsdb-server", "ovs-vsctl", "ovs-vswitchd", "ethtool"} {
		if _, err := exec.LookPath(program); err != nil {
			return nil, fmt.Errorf("%w: no %s (Debian: openvswitch-switch, ethtool)", errAbsent, program)
		}
	}
	var ends [2]ovsHost
	c, err := b.pair(ctx, func(i int, n node) (netip.Prefix, error) {
		dir := filepath.Join(n.RunDir, "ovs")
		ends[i] = ovsHost{node: n, dir: dir, name: "unix:" + filepath.Join(dir, "db.sock")}
		return netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 31, byte(101 + i), 0}), ovsBits), os.MkdirAll(dir, 0o755)
	})
	if err != nil {
		return nil, err
	}
	for i, h := range ends {
		d, err := h.start(ctx)
		if err != nil {
			return nil, err
		}
		c.daemons = append(c.daemons, d)
		mtu := b.lab.Options().MTU - vxlan.OverheadIPv4
		if err := h.joinUnderlay(b.lab.Options().Underlay.Bits()); err != nil {
			return nil, err
		}
		if err := h.addOverlay(ends[1-i].VTEP, c.ends[hosts][i].Addr, mtu); err != nil {
			return nil, err
		}
		if err := h.addContainer(c.ends[containers][i].Addr, mtu); err != nil {
			return nil, err
		}
	}
	return c, nil
}

// start starts the database and the switch, and returns the switch: the
// database has no part in moving frames.
func (h ovsHost) start(ctx context.Context) (*daemon, error) {
	db := filepath.Join(h.dir, "conf.db")
	if err := command(ctx, h.host, "ovsdb-tool", "create", db, ovsSchema); err != nil {
		return nil, err
	}
	env := []string{"env", "OVS_RUNDIR=" + h.dir, "OVS_LOGDIR=" + h.dir, "OVS_DBDIR=" + h.dir}
	server, err := start(h.host, "ovsdb-server on "+h.Node, filepath.Join(h.dir, "db.log"), append(env, "ovsdb-server", "--remote=p"+h.name, db)...)
	if err != nil {
		return nil, err
	}
	for begun := time.Now(); ; time.Sleep(20 * time.Millisecond) {
		_, err := os.Stat(filepath.Join(h.dir, "db.sock"))
		if err == nil {
			break
		}
		if err := errors.Join(server.died(), ctx.Err()); err != nil {
			return nil, err
		}
		if time.Since(begun) > reachTime {
			return nil, err
		}
	}
	if err := h.vsctl("--no-wait", "init"); err != nil {
		return nil, err
	}
	return start(h.host, "ovs-vswitchd on "+h.Node, filepath.Join(h.dir, "vs.log"), append(env, "ovs-vswitchd", h.name)...)
}

// joinUnderlay makes eth0 a port of a bridge that takes over its address. What
// the switch gets from a veth pair must have its checksums: it takes no frame
// that is not finished.
func (h ovsHost) joinUnderlay(bits int) error {
	for _, step := range []func() error{
		func() error {
			return command(context.Background(), h.host, "ethtool", "-K", "eth0", "tx", "off", "rx", "off")
		},
		func() error { return h.host.DeleteAddrs("eth0") },
		func() error {
			return h.vsctl("add-br", "brphy", "--", "set", "bridge", "brphy", "datapath_type=netdev")
		},
		func() error { return h.vsctl("add-port", "brphy", "eth0") },
		func() error { return h.host.AddAddr("brphy", netip.PrefixFrom(h.VTEP, bits)) },
		func() error { return h.host.SetUp("brphy") },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// addOverlay makes the bridge with the tunnel to the peer and the host's own
// address.
func (h ovsHost) addOverlay(peer, own netip.Addr, mtu int) error {
	for _, step := range []func() error{
		func() error {
			return h.vsctl("add-br", "brint", "--", "set", "bridge", "brint", "datapath_type=netdev")
		},
		func() error {
			return h.vsctl("add-port", "brint", "vx0", "--", "set", "interface", "vx0", "type=vxlan",
				"options:remote_ip="+peer.String(), "options:key=1", fmt.Sprintf("options:dst_port=%d", vxlan.PortFlannel))
		},
		func() error { return h.host.SetMTU("brint", mtu) },
		func() error { return h.host.AddAddr("brint", netip.PrefixFrom(own, ovsBits)) },
		func() error { return h.host.SetUp("brint") },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// addContainer makes the container's veth pair and joins it to the overlay.
func (h ovsHost) addContainer(addr netip.Addr, mtu int) error {
	c := h.container
	for _, step := range []func() error{
		func() error { return netns.AddVeth(h.host, "veth0", c, "eth0", mtu) },
		func() error { return command(context.Background(), c, "ethtool", "-K", "eth0", "tx", "off") },
		func() error { return c.AddAddr("eth0", netip.PrefixFrom(addr, ovsBits)) },
		func() error { return c.SetUp("eth0") },
		func() error { return h.host.SetUp("veth0") },
		func() error { return h.vsctl("add-port", "brint", "veth0") },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	return nil
}

// vsctl runs ovs-vsctl, which returns when the switch has done what it says.
func (h ovsHost) vsctl(args ...string) error {
	return command(context.Background(), h.host, "ovs-vsctl", append([]string{"--db=" + h.name, "--timeout=10"}, args...)...)
}

// command runs a program in a namespace to its end.
func command(ctx context.Context, ns *netns.Namespace, name string, args ...string) error {
	cmd := exec.CommandContext(ctx, name, args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := ns.Start(cmd)
	if err == nil {
		err = cmd.Wait()
	}
	if err != nil {
		return fmt.Errorf("%s %s: %w: %s", name, args, err, bytes.TrimSpace(out.Bytes()))
	}
	return nil
}
