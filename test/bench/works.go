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
	chart string // what the picture calls its work; "": it is not in the picture
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
	rate       = metric{"Gb/s", false, "throughput"}
	delivered  = metric{"k/s delivered", false, "delivered"}
	middle     = metric{"half RTT, median us", true, "median"}
	tail       = metric{"half RTT, p99 us", true, "99th percentile"}
	exchanges  = metric{"k/s", false, "rate"}
	perGB      = metric{"CPU s/GB", true, ""}
	perMillion = metric{"CPU s/M packets", true, ""}
	idle       = metric{"% of a core", true, ""}
	memory     = metric{"MiB resident", true, ""}
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
