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
	name    string // with its unit
	unit    string
	lower   bool   // lower is better
	charted bool   // it is in the picture
	short   string // there, beside the name of the work, where that has several
}

// runner does a work on one contestant. It yields one figure for each metric of
// the work; NaN is "does not apply".
type runner func(context.Context, *contestant, work, settings) ([]float64, error)

// work is one thing that is measured.
type work struct {
	key     string
	name    string
	place   place // none: no traffic
	metrics []metric
	run     runner
}

// What the works yield.
var (
	rate       = metric{name: "Gb/s", unit: "Gb/s", charted: true}
	delivered  = metric{name: "k/s delivered", unit: "k/s", charted: true}
	middle     = metric{name: "half RTT, median us", unit: "us", lower: true, charted: true, short: "median"}
	tail       = metric{name: "half RTT, p99 us", unit: "us", lower: true, charted: true, short: "p99"}
	exchanges  = metric{name: "k/s", unit: "k/s", charted: true}
	perGB      = metric{name: "CPU s/GB", lower: true}
	perMillion = metric{name: "CPU s/M packets", lower: true}
	idle       = metric{name: "% of a core", lower: true}
	memory     = metric{name: "MiB resident", lower: true}
)

// works returns all of them, in the order of the table.
func works() []work {
	var all []work
	for _, p := range []place{containers, hosts} {
		add := func(key, name string, run runner, m ...metric) {
			all = append(all, work{key + "/" + string(p), name, p, m, run})
		}
		add("tcp1", "1 TCP stream", tcpStreams(1, false), rate, perGB)
		add(reverseKey, "1 TCP stream, reverse", tcpStreams(1, true), rate, perGB)
		add("tcp4", "4 TCP streams", tcpStreams(4, false), rate, perGB)
		add("udp64", "64 B UDP datagrams", datagrams(64), delivered, perMillion)
		add("udp1400", "1400 B UDP datagrams", datagrams(1400), delivered, perMillion)
		add("udp-rtt", "UDP ping-pong", pingPong, middle, tail, perMillion)
		add("tcp-rr", "TCP request/response", requestResponse, exchanges, perMillion)
	}
	return append(all, work{restKey, "no traffic", "", []metric{idle, memory}, atRest})
}

// Keys of works that are not for everybody.
const (
	reverseKey = "tcp1-reverse" // begins that of what the second host sends to the first
	restKey    = "rest"
)

// chosenWorks returns those that the flags choose.
func chosenWorks(s settings) []work {
	return slices.DeleteFunc(works(), func(w work) bool { return !s.works.MatchString(w.key) })
}
