// SPDX-License-Identifier: Apache-2.0

// Command vxlab puts up a vxtap overlay network on one machine, in network
// namespaces: a demo that runs by itself, or a lab that stands to play with.
//
// Exit status: 0 when all went well, 2 when the command line is wrong, 1 for
// everything else. An error is one line on standard error that says what is
// wrong and what to do; the last lines of a log may follow.
//
// The parts, in reading order:
//
//	cli.go       arguments to a command; errors to exit statuses
//	build.go     up, and what it shares with demo
//	demo.go      demo: from nothing to a table and back
//	measure.go   what the demo sends between the containers
//	report.go    tables
//	ls.go        ls
//	exec.go      exec
//	start.go     start
//	down.go      down
//	server.go    the etcd server of a lab, a process of its own
//
// The packages below do the work: lab builds and faults, netns has the
// namespaces, traffic the echoes and transfers, etcd the server.
package main

import (
	"context"
	"os"
)

func main() {
	os.Exit(run(context.Background(), os.Args, os.Environ(), os.Stdout, os.Stderr))
}
