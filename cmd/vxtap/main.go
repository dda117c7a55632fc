// SPDX-License-Identifier: Apache-2.0

// Command vxtap makes this host a member of a flannel VXLAN network, in user
// space.
//
// Without a subcommand it is the daemon: it takes flanneld's flags and
// environment, leases a subnet in etcd, opens the TAP flannel.<VNI> and carries
// the overlay's frames in VXLAN over UDP. The subcommands are for people.
//
// Exit status: 0 after SIGTERM, SIGINT or SIGHUP, 2 when the command line or the
// environment is wrong, 1 for everything else. An error is one line on
// standard error that says what is wrong and what to do; so is each line of
// the log, and in the form that the log has if that is JSON.
//
// The parts, in reading order:
//
//	cli.go       arguments and environment to a command; errors to exit statuses
//	flags.go     the daemon's flags; help.go prints them
//	settings.go  raw flags to checked settings
//	daemon.go    the daemon, in the order in which things happen
//	segment.go   what stands while the lease does: TAP, sockets, switch, route
//	hold.go      keeping the lease, and getting it back
//	live.go      what changes under traffic: followconfig.go, the network config;
//	             followhome.go, the address of the host
//	rules.go     masquerading and forward rules, set and kept
//	peers.go     where a lease becomes a peer
//	report.go    what the log says of other hosts' leases
//	status.go    what the daemon tells about itself
//	admin.go     the unix socket that tells it
//	health.go    /healthz, /readyz and /metrics
//	server.go    the HTTP server behind both
//	metrics.go   the same numbers for Prometheus
//	systemd.go   what systemd is told, and the feeding of its watchdog
//	show.go      vxtap status
//	docker.go    vxtap docker-opts
//	operate.go   what the commands share that talk to etcd themselves:
//	             config_cmd.go and config_put.go, vxtap config;
//	             lease_cmd.go and lease_show.go, vxtap lease
//	cleanup.go   vxtap cleanup
//	log.go       the log, and the version
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args, os.Environ(), os.Stdout, os.Stderr))
}
