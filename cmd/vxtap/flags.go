// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"

	"github.com/urfave/cli/v2"
)

// The daemon's flags have flanneld's names, defaults and meaning (flannel,
// main.go); the ones of ours are marked so. All values are text here:
// settings.go checks them, whether they come from the command line or from
// the environment.
//
// In a usage text the word in backquotes names the value, as in package flag.

// daemonFlags returns all of them in the order in which help shows them.
func daemonFlags() []cli.Flag {
	var all []cli.Flag
	for _, g := range []struct {
		category string
		flags    []cli.Flag
	}{
		{"etcd, which holds the leases", etcdFlags()},
		{"the tunnel", tunnelFlags()},
		{"the lease", leaseFlags()},
		{"rules on the host", ruleFlags()},
		{"status, health and logs", statusFlags()},
		{"flanneld's, accepted and without effect so far", idleFlags()},
	} {
		for _, f := range g.flags {
			all = append(all, inCategory(f, g.category))
		}
	}
	return all
}

func etcdFlags() []cli.Flag {
	return []cli.Flag{
		textFlag("etcd-endpoints", "http://127.0.0.1:4001,http://127.0.0.1:2379", "`URLS` of etcd, separated by commas"),
		textFlag("etcd-prefix", "/coreos.com/network", "`KEY` under which the network is"),
		textFlag("etcd-cafile", "", "`FILE` with the certificates that etcd's must be signed by; alone it is enough for https"),
		textFlag("etcd-certfile", "", "`FILE` with the certificate to show to etcd"),
		textFlag("etcd-keyfile", "", "`FILE` with its key"),
		textFlag("etcd-username", "", "`NAME` to log in to etcd with"),
		textFlag("etcd-password", "", "`PASSWORD` for it; ps shows it to everybody, the variable VXTAP_ETCD_PASSWORD does not"),
	}
}

func tunnelFlags() []cli.Flag {
	return []cli.Flag{
		textsFlag("iface", "`NAME` or address of the outside interface; may be repeated, the first that exists is taken"),
		textsFlag("iface-regex", "`PATTERN` of its address or name; may be repeated; used where no -iface is given"),
		textFlag("iface-can-reach", "", "take the interface on the way to this `ADDRESS`; used where neither of the above is given"),
		textFlag("public-ip", "", "`ADDRESS` at which other hosts reach this one (default: the outside interface's)"),
		textFlag("public-ipv6", "", "`ADDRESS` at which other hosts reach this one by IPv6, in a dual-stack network (default: the outside interface's)"),
		boolFlag("takeover", false, "replace a kernel vxlan device flannel.<VNI> that a flanneld left, with its MAC and subnet; refused while a flanneld runs here (ours)"),
		textFlag("offload", "auto", "`WHAT` of the kernel's offers to use: auto is all, off moves every frame singly; or names separated by commas, those to use or, each with a minus sign, those not to use: "+strings.Join(offloadNames[:], ", ")+" (ours)"),
		textFlag("queues", "auto", "`NUMBER` of TAP queues and receiving sockets, each with a thread; auto is half the cores, at least 2 where there are as many, at most 8 (ours)"),
		textFlag("tx-path", "auto", "`PATH` of super-frames: udp cuts them for UDP sockets, uplink hands them whole to the host's stack (Linux 6.17), auto takes uplink where the host lets them pass (ours)"),
		textFlag("route-mode", routeAggregate, "`MODE` of the kernel's routes: aggregate is one for all peers, per-peer a route and a neighbour for each, as flanneld sets them (ours)"),
		textFlag("source-check", "strict", "`POLICY` for datagrams from an address that no host has leased with: strict drops them, log lets them pass and says so, off does not look (ours)"),
		textFlag("inner-source-check", "strict", "`POLICY` for frames whose inner source is not in the sender's subnet: strict, log or off (ours)"),
	}
}

func leaseFlags() []cli.Flag {
	return []cli.Flag{
		textFlag("subnet-file", defaultSubnetFile, "`FILE` to write the leased subnet to"),
		textFlag("lease-ttl", "24h", "`TIME` that the lease outlives this host, 10s to 8760h (ours)"),
		textFlag("on-lease-lost", lostReacquire, "`WHAT` to do when the lease is deleted or taken: reacquire it, or exit with status 1 (ours)"),
		textFlag("state-dir", defaultStateDir, "`DIR` to keep the last known lease, MAC and peers in, to forward by while etcd is down; none: keep nothing (ours)"),
		textFlag("subnet-lease-renew-margin", "60", "`MINUTES` before its end at which the lease is renewed at the latest, 1 to 1439"),
	}
}

func ruleFlags() []cli.Flag {
	return []cli.Flag{
		boolFlag("ip-masq", false, "masquerade what containers send out of the overlay, and tell the container runtime, in the subnet file, not to"),
		textsFlag("masq-exclude", "`NETWORK` to which containers' packets are not masqueraded; may be repeated, or a list with commas (ours)"),
		boolFlag("ip-masq-fully-random-disable", false, "masquerade with predictable ports"),
		boolFlag("iptables-forward-rules", true, "set rules that let the overlay be forwarded, whatever kind of rules it is"),
		textFlag("iptables-resync", "5", "`SECONDS` between two looks at rules of iptables; what changes in nftables is heard of at once"),
		boolFlag("ip-blackhole-route", false, "drop packets to addresses of the own subnet that no other route leads to"),
	}
}

func statusFlags() []cli.Flag {
	return []cli.Flag{
		textFlag("run-dir", defaultRunDir, "`DIR` of the socket that vxtap status asks (ours)"),
		textFlag("healthz-ip", "0.0.0.0", "`ADDRESS` to serve /healthz, /readyz and /metrics on"),
		textFlag("healthz-port", "0", "`PORT` to serve them on; 0: not at all"),
		textFlag("log-format", "text", "`FORMAT` text or json (ours)"),
		textFlag("v", "0", "log `LEVEL`: 0 is what an operator needs, 1 and more is for finding faults"),
		boolFlag("version", false, "print the version on standard error, as flanneld does, and exit"),
	}
}

// idleFlags are accepted so that a unit file written for flanneld works.
func idleFlags() []cli.Flag {
	return []cli.Flag{
		boolFlag("kube-subnet-mgr", false, "take leases from Kubernetes; refused: leases come from etcd only, so far"),
		textFlag("kube-api-url", "", "`URL` of the Kubernetes API"),
		textFlag("kubeconfig-file", "", "`FILE` with the access to it"),
		textFlag("kube-annotation-prefix", "flannel.alpha.coreos.com", "`PREFIX` of annotations on nodes"),
		textFlag("net-config-path", "/etc/kube-flannel/net-conf.json", "`FILE` with the network config"),
		boolFlag("set-node-network-unavailable", true, "tell Kubernetes that the network is there"),
		textFlag("vmodule", "", "`PATTERNS` of source files to log more of"),
		textFlag("log_backtrace_at", "", "`PLACE` to log a stack trace at"),
	}
}

func textFlag(name, value, usage string) cli.Flag {
	return &cli.StringFlag{Name: name, Value: value, Usage: usage}
}

func textsFlag(name, usage string) cli.Flag {
	return &cli.StringSliceFlag{Name: name, Usage: usage}
}

func boolFlag(name string, value bool, usage string) cli.Flag {
	return &cli.BoolFlag{Name: name, Value: value, Usage: usage}
}

func inCategory(f cli.Flag, category string) cli.Flag {
	switch f := f.(type) {
	case *cli.StringFlag:
		f.Category = category
	case *cli.StringSliceFlag:
		f.Category = category
	case *cli.BoolFlag:
		f.Category = category
	}
	return f
}
