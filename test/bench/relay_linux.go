// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/vishvananda/netlink"

	"vxtap/cmd/vxlab/netns"
	"vxtap/encap/vxlan"
	"vxtap/test/bed"
)

// relayDevice is the name of the relay's TAP.
const relayDevice = "relay0"

// txQueueLen is the TAP's, as vxtap sets its own.
const txQueueLen = 4096

// relayHost is one of the two hosts that the relay joins.
type relayHost struct {
	node
	subnet netip.Prefix
	mac    net.HardwareAddr // of its TAP
}

// addRelay makes two hosts whose TAPs are joined by the relay.
func (b *bench) addRelay(ctx context.Context) (*contestant, error) {
	if _, err := os.Stat(b.settings.relay); err != nil {
		return nil, fmt.Errorf("%w: make bench builds it, or go build -o bin/ ./test/bench/relay", err)
	}
	var ends [2]relayHost
	c, err := b.pair(ctx, func(i int, n node) (netip.Prefix, error) {
		ends[i] = relayHost{node: n, subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 31, byte(1 + i), 0}), 24)}
		return ends[i].subnet, bed.AddContainer(n.host, n.container, ends[i].subnet, b.lab.Options().MTU-vxlan.OverheadIPv4)
	})
	if err != nil {
		return nil, err
	}
	for i, h := range ends {
		d, err := b.startRelay(h, ends[1-i])
		if err != nil {
			return nil, err
		}
		c.daemons = append(c.daemons, d)
		if ends[i].mac, err = b.configureTAP(ctx, h, d); err != nil {
			return nil, err
		}
	}
	for i, h := range ends {
		if err := h.host.Do(func() error { return routeTo(ends[1-i]) }); err != nil {
			return nil, fmt.Errorf("route to the other relay: %w", err)
		}
	}
	return c, nil
}

func (b *bench) startRelay(h, peer relayHost) (*daemon, error) {
	return start(h.host, "relay on "+h.Node, filepath.Join(h.RunDir, "relay.log"), b.settings.relay, "-device", relayDevice,
		"-local", netip.AddrPortFrom(h.VTEP, vxlan.PortFlannel).String(),
		"-peer", netip.AddrPortFrom(peer.VTEP, vxlan.PortFlannel).String())
}

// configureTAP waits for the TAP, gives it the host's address and returns its
// MAC address.
func (b *bench) configureTAP(ctx context.Context, h relayHost, d *daemon) (net.HardwareAddr, error) {
	if err := awaitDevice(ctx, h.host, d, relayDevice); err != nil {
		return nil, err
	}
	var mac net.HardwareAddr
	err := h.host.Do(func() error {
		link, err := netlink.LinkByName(relayDevice)
		if err != nil {
			return err
		}
		mac = link.Attrs().HardwareAddr
		if err := netlink.LinkSetMTU(link, b.lab.Options().MTU-vxlan.OverheadIPv4); err != nil {
			return err
		}
		if err := netlink.LinkSetTxQLen(link, txQueueLen); err != nil {
			return err
		}
		own := &net.IPNet{IP: h.subnet.Addr().AsSlice(), Mask: net.CIDRMask(32, 32)}
		if err := netlink.AddrAdd(link, &netlink.Addr{IPNet: own}); err != nil {
			return err
		}
		return netlink.LinkSetUp(link)
	})
	if err != nil {
		return nil, fmt.Errorf("set up %s: %w", relayDevice, err)
	}
	return mac, nil
}

// routeTo sends a peer's subnet to its TAP, in the namespace at hand.
func routeTo(peer relayHost) error {
	link, err := netlink.LinkByName(relayDevice)
	if err != nil {
		return err
	}
	index, gateway := link.Attrs().Index, peer.subnet.Addr().AsSlice()
	if err := netlink.NeighSet(&netlink.Neigh{
		LinkIndex: index, State: netlink.NUD_PERMANENT, IP: gateway, HardwareAddr: peer.mac,
	}); err != nil {
		return err
	}
	return netlink.RouteReplace(&netlink.Route{
		LinkIndex: index, Flags: int(netlink.FLAG_ONLINK), Gw: gateway,
		Dst: &net.IPNet{IP: gateway, Mask: net.CIDRMask(peer.subnet.Bits(), 32)},
	})
}

// awaitDevice returns when a daemon has made its device.
func awaitDevice(ctx context.Context, ns *netns.Namespace, d *daemon, device string) error {
	ctx, cancel := context.WithTimeout(ctx, reachTime)
	defer cancel()
	for {
		_, err := ns.Interface(device)
		if err == nil {
			return nil
		}
		if err := d.died(); err != nil {
			return err
		}
		if ctx.Err() != nil {
			return err
		}
		time.Sleep(20 * time.Millisecond)
	}
}
