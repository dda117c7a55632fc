// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"slices"
)

// place is where the ends of a test are.
type place string

const (
	containers place = "containers" // behind bridges: the normal case
	hosts      place = "hosts"
)

// metric is one figure that a work yields.
type metric struct {
	name  string // with its unit
	lower bool   // lower is better
}

// work is one thing that is measured, between containers or between hosts.
type work struct {
	key     string
	name    string
	place   place
	metrics []metric
	// run yields one figure for each metric; NaN is "does not apply".
	run func(context.Context, *contestant, work, settings) ([]float64, error)
}

// What the works yield.
var (
	rate       = metric{"Gb/s", false}
	delivered  = metric{"k/s delivered", false}
	middle     = metric{"median us", true}
	tail       = metric{"p99 us", true}
	exchanges  = metric{"k/s", false}
	perGB      = metric{"daemon CPU s/GB", true}
	perMillion = metric{"daemon CPU s/M packets", true}
)

// works returns all of them, in the order of the table.
func works() []work {
	var all []work
	for _, p := range []place{containers, hosts} {
		add := func(key, name string, run func(context.Context, *contestant, work, settings) ([]float64, error), m ...metric) {
			all = append(all, work{key + "/" + string(p), name, p, m, run})
		}
		add("tcp1", "1 TCP stream", tcpStreams(1, false), rate, perGB)
		add("tcp1-reverse", "1 TCP stream, reverse", tcpStreams(1, true), rate, perGB)
		add("tcp4", "4 TCP streams", tcpStreams(4, false), rate, perGB)
		add("udp64", "64 B UDP datagrams", datagrams(64), delivered, perMillion)
		add("udp1400", "1400 B UDP datagrams", datagrams(1400), delivered, perMillion)
		add("udp-rtt", "UDP ping-pong, half a round trip", pingPong, middle, tail, perMillion)
		add("tcp-rr", "TCP request/response", requestResponse, exchanges, perMillion)
	}
	return all
}

// chosenWorks returns those that the flags choose.
func chosenWorks(s settings) []work {
	return slices.DeleteFunc(works(), func(w work) bool { return !s.works.MatchString(w.key) })
}
