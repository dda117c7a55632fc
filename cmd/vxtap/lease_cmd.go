// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"path/filepath"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"vxtap/lease"
	"vxtap/tunnel/host"
)

const leaseHelp = `vxtap lease looks after the leases of all hosts, PREFIX/subnets in etcd.

  vxtap lease show               list all leases
  vxtap lease release SUBNET     delete a lease
  vxtap lease reserve SUBNET     keep a subnet for one host, for good

vxtap lease COMMAND -help says more.
`

const leaseShowHelp = `vxtap lease show shows the leases of all hosts, with their end, and the keys that
hosts leave out, with the reason.

  vxtap lease show
  vxtap lease show -o json
`

const leaseReleaseHelp = `vxtap lease release deletes a lease, so that another host can have its subnet. SUBNET is
the subnet, as 10.5.3.0/24, or its key, or own: the lease with an address of this host, or
with -public-ip. If the lease changes meanwhile, nothing is deleted.

Whether a host lives, etcd does not know, and a host whose lease is deleted is cut off:
flanneld ends, and vxtap asks for a lease again after three seconds. So it takes -force to
release another host's lease, or what makes no sense but may be one, or this host's while
its vxtap or a flanneld runs. What -public-ip says may be mistyped: it counts only where an
interface has that address, or a file of this host names the lease's subnet. A reservation
that its host has not taken yet takes none.

  vxtap lease release own
  vxtap lease release 10.5.3.0/24 -force
`

const leaseReserveHelp = `vxtap lease reserve keeps a subnet for one host, for good: a key without a time to live.
The host takes it at its next start, whatever subnet it had before. A subnet that the
host holds already stays its own from now on, and nothing else changes. Of a subnet that
another host holds nothing is taken. In a dual-stack network SUBNET is both halves, as
10.5.3.0/24,fd00:5:0:3::/64.

  vxtap lease reserve 10.5.3.0/24 -public-ip=192.0.2.7

A flanneld that takes a reservation gives it a lease of 24 hours, against its own
documentation; vxtap leaves it without an end.
`

func leaseCommand(env []string) *cli.Command {
	return group("lease", "show, release or reserve leases", leaseHelp,
		&cli.Command{
			Name: "show", Usage: "show all leases", Description: leaseShowHelp,
			Flags:  operatorFlags(formatFlag()),
			Action: func(c *cli.Context) error { return leaseShow(c, env) },
		},
		&cli.Command{
			Name: "release", Usage: "delete a lease", Description: leaseReleaseHelp,
			Flags: operatorFlags(
				boolFlag("force", false, "release it even if its host may be alive"),
				textFlag("public-ip", "", "`ADDRESS` of this host in its lease, where no interface has it; for own"),
				textFlag("run-dir", defaultRunDir, "`DIR` of the daemon's socket, to ask whether it runs"),
				textFlag("subnet-file", defaultSubnetFile, "`FILE` of the daemon, whose subnet is this host's where no interface has -public-ip"),
				textFlag("state-dir", defaultStateDir, "`DIR` of what the daemon last knew, for the same"),
			),
			Action: func(c *cli.Context) error { return leaseRelease(c, env) },
		},
		&cli.Command{
			Name: "reserve", Usage: "keep a subnet for one host, for good", Description: leaseReserveHelp,
			Flags:  operatorFlags(textFlag("public-ip", "", "`ADDRESS` of the host, as in its lease")),
			Action: func(c *cli.Context) error { return leaseReserve(c, env) },
		},
	)
}

func leaseRelease(c *cli.Context, env []string) error {
	args, err := operands(c, "SUBNET or own")
	if err != nil {
		return err
	}
	here, err := readThisHost(c)
	if err != nil {
		return err
	}
	return withNetwork(c, env, func(ctx context.Context, n *network) error {
		h, err := n.find(ctx, args[0], here)
		if err != nil {
			return err
		}
		if !c.Bool("force") {
			if why := n.alive(ctx, c, env, h, here); why != "" {
				return fmt.Errorf("%s is not released: %s", subnetName(h.Lease), why)
			}
		}
		if err := n.Release(ctx, h); err != nil {
			if errors.Is(err, lease.ErrConflict) {
				return fmt.Errorf("%w meanwhile: nothing was deleted; look again", err)
			}
			return err
		}
		var p printer
		p.linef("%s of %s is released.", subnetName(h.Lease), addrText(h.Attrs.PublicIP))
		return p.to(c.App.Writer)
	})
}

// find returns the one lease that was named.
func (n *network) find(ctx context.Context, name string, here thisHost) (lease.Held, error) {
	match := lease.Named(name)
	if name == "own" {
		match = func(h lease.Held) bool { return here.means(h.Lease) }
	}
	found, err := n.Find(ctx, match)
	switch {
	case err != nil:
		return lease.Held{}, err
	case len(found) == 1:
		return found[0], nil
	case len(found) == 0 && name == "own":
		return lease.Held{}, fmt.Errorf("no lease below %s has an address of this host: behind NAT give -public-ip", n.store.Path("subnets"))
	case len(found) == 0:
		return lease.Held{}, fmt.Errorf("there is no lease of %s below %s: vxtap lease show lists all", name, n.store.Path("subnets"))
	}
	var names []string
	for _, h := range found {
		names = append(names, printable(h.Key))
	}
	return lease.Held{}, fmt.Errorf("several keys match: name one of %s", strings.Join(names, ", "))
}

// alive says why h may be in use, "" if it is not.
func (n *network) alive(ctx context.Context, c *cli.Context, env []string, h lease.Held, here thisHost) string {
	switch {
	case h.Fault != "":
		return fmt.Sprintf("it makes no sense (%s), but may be some host's; -force deletes it", h.Fault)
	case h.Reserved() && h.Attrs.BackendType == "":
		return "" // nobody has taken it yet
	}
	if pid := n.daemonWith(ctx, runDirOf(c, env), h.Key); pid != 0 {
		return fmt.Sprintf("the vxtap that runs here, pid %d, holds it, and would ask for it again: stop that first, or give -force", pid)
	}
	switch {
	case here.holds(c, n, h.Lease):
		if p, ok := host.Flanneld(); ok {
			return fmt.Sprintf("%s runs here, and ends when its lease goes: stop it first, or give -force", p)
		}
		return ""
	case here.given.IsValid() && here.given == h.Attrs.PublicIP:
		return fmt.Sprintf("nothing on this host says that %s is its address: no interface has it, neither %s nor a file in %s has its subnet; -force releases it all the same",
			addrText(h.Attrs.PublicIP), c.String("subnet-file"), c.String("state-dir"))
	case h.Reserved():
		return fmt.Sprintf("it is reserved for %s, and that host may use it; -force releases it all the same", addrText(h.Attrs.PublicIP))
	}
	return fmt.Sprintf("%s may be alive, and would be cut off; its lease ends by itself in %s unless it renews it; -force releases it now",
		addrText(h.Attrs.PublicIP), duration(time.Until(h.Expires)))
}

// daemonWith returns the process id of the daemon on this host that holds key, 0
// if there is none.
func (n *network) daemonWith(ctx context.Context, dir, key string) int {
	paths, err := filepath.Glob(filepath.Join(dir, "*"+socketSuffix))
	if err != nil {
		return 0
	}
	ctx, cancel := context.WithTimeout(ctx, 10*time.Second)
	defer cancel()
	for _, path := range paths {
		s, err := fetchStatus(ctx, path)
		if err == nil && s.Lease.Key == key && samePrefix(s.Etcd.Prefix, n.prefix) {
			return s.PID
		}
	}
	return 0
}

func samePrefix(a, b string) bool { return strings.Trim(a, "/") == strings.Trim(b, "/") }

// runDirOf reads -run-dir, which the environment may have too.
func runDirOf(c *cli.Context, env []string) string {
	if _, v := fromEnvironment(env, "run-dir"); v != "" && !c.IsSet("run-dir") {
		return v
	}
	return c.String("run-dir")
}

func leaseReserve(c *cli.Context, env []string) error {
	args, err := operands(c, "SUBNET")
	if err != nil {
		return err
	}
	subnets, err := parseSubnets(args[0])
	if err != nil {
		return err
	}
	v := strings.TrimSpace(c.String("public-ip"))
	publicIP, err := netip.ParseAddr(v)
	switch {
	case v == "":
		return usagef("-public-ip is missing: say which host the subnet is for, as -public-ip=192.0.2.7")
	case err != nil || !publicIP.Is4():
		return usagef("-public-ip: %q is not an IPv4 address, as 192.0.2.7", v)
	}
	return withNetwork(c, env, func(ctx context.Context, n *network) error {
		r, err := n.reserve(ctx, subnets, publicIP)
		if err != nil {
			return err
		}
		var p printer
		p.reservation(r)
		return p.to(c.App.Writer)
	})
}

// parseSubnets reads what is to be reserved: an IPv4 subnet, or with a comma an
// IPv6 one too, or both as they stand in a key.
func parseSubnets(s string) (lease.SubnetKey, error) {
	if k, err := lease.ParseKey(s); err == nil && k.IPv6.IsValid() {
		return k, nil
	}
	v4, v6, both := strings.Cut(s, ",")
	p, err := parseSubnet(v4)
	if err != nil || !both {
		return lease.SubnetKey{IPv4: p}, err
	}
	q, err := netip.ParsePrefix(v6)
	switch {
	case err != nil || !q.Addr().Is6() || q.Addr().Is4In6():
		return lease.SubnetKey{}, usagef("%q is no IPv6 subnet, as fd00:5:0:3::/64", v6)
	case q != q.Masked():
		return lease.SubnetKey{}, usagef("%s is an address in a subnet: write %s", q, q.Masked())
	}
	return lease.SubnetKey{IPv4: p, IPv6: q}, nil
}

// parseSubnet reads a subnet as people write it, or as it stands in a key.
func parseSubnet(s string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(s)
	if err != nil {
		k, kerr := lease.ParseKey(s)
		if kerr != nil || k.IPv6.IsValid() {
			return netip.Prefix{}, usagef("%q is no subnet, as 10.5.3.0/24", s)
		}
		p = k.IPv4
	}
	switch {
	case !p.Addr().Is4():
		return netip.Prefix{}, usagef("%q is no IPv4 subnet, as 10.5.3.0/24", s)
	case p != p.Masked():
		return netip.Prefix{}, usagef("%s is an address in a subnet: write %s", p, p.Masked())
	}
	return p, nil
}

func (n *network) reserve(ctx context.Context, subnets lease.SubnetKey, publicIP netip.Addr) (lease.Reservation, error) {
	stored, err := n.Config(ctx)
	if err != nil {
		return lease.Reservation{}, err
	}
	if stored.Revision == 0 {
		return lease.Reservation{}, fmt.Errorf("there is no network to reserve a subnet of: %s does not exist", n.store.Path("config"))
	}
	config, err := lease.ParseConfig(stored.Value)
	if err != nil {
		return lease.Reservation{}, fmt.Errorf("the config in etcd is one that no host starts with: %w", err)
	}
	r, err := n.Reserve(ctx, config, subnets, publicIP)
	if errors.Is(err, lease.ErrConflict) {
		return r, fmt.Errorf("%w meanwhile: nothing was written; look again", err)
	}
	return r, err
}

func (p *printer) reservation(r lease.Reservation) {
	host, subnet := r.Attrs.PublicIP, subnetName(r.Lease)
	switch {
	case r.Already:
		p.linef("%s is reserved for %s already.", subnet, host)
	case r.Held:
		p.linef("%s, which %s holds, is reserved for it from now on.", subnet, host)
	default:
		p.linef("%s is reserved for %s, which takes it at its next start.", subnet, host)
	}
	for _, l := range r.Others {
		p.linef("Until then it has %s; containers have to be made anew after that.", subnetName(l))
	}
}
