// SPDX-License-Identifier: Apache-2.0

package main

import (
	"runtime"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"

	"vxtap/tunnel"
)

// The names of the metrics. All of them come from one Status, so that a scrape
// and vxtap status never disagree.
const (
	metricReceived        = "vxtap_frames_received_total"
	metricReceivedBytes   = "vxtap_bytes_received_total"
	metricDelivered       = "vxtap_frames_delivered_total"
	metricDeliveredBytes  = "vxtap_bytes_delivered_total"
	metricDrops           = "vxtap_drops_total"
	metricFlagged         = "vxtap_flagged_total"
	metricPeerFrames      = "vxtap_peer_frames_total"
	metricPeerBytes       = "vxtap_peer_bytes_total"
	metricPeers           = "vxtap_peers"
	metricRejectedKeys    = "vxtap_rejected_keys"
	metricLeaseExpiry     = "vxtap_lease_expiry_seconds"
	metricCertExpiry      = "vxtap_etcd_certificate_expiry_seconds"
	metricEtcdConnected   = "vxtap_etcd_connected"
	metricReady           = "vxtap_ready"
	metricSocketOverflows = "vxtap_socket_overflows_total"
	metricTAPOverflows    = "vxtap_tap_overflows_total"
	metricWhole           = "vxtap_whole_super_frames_total"
	metricUplink          = "vxtap_tx_path_uplink"
	metricCutPeers        = "vxtap_cut_peers"
	metricWarnings        = "vxtap_warnings"
	metricBuildInfo       = "vxtap_build_info"
)

// The values of the label direction.
const (
	directionOut = "out"
	directionIn  = "in"
)

// newMetrics returns a registry of its own, with what status tells and what
// the Go runtime and the operating system tell of the process.
func newMetrics(status func(time.Time) Status) *prometheus.Registry {
	r := prometheus.NewRegistry()
	r.MustRegister(
		newStatusCollector(status),
		collectors.NewGoCollector(),
		collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}),
	)
	return r
}

// statusCollector turns a Status into metrics at every scrape.
type statusCollector struct {
	status func(time.Time) Status
	descs  map[string]*prometheus.Desc
}

func newStatusCollector(status func(time.Time) Status) *statusCollector {
	c := &statusCollector{status: status, descs: make(map[string]*prometheus.Desc)}
	add := func(name, help string, labels ...string) {
		c.descs[name] = prometheus.NewDesc(name, help, labels, nil)
	}
	both := func(name, help string, labels ...string) {
		add(name, help, labels...)
		add(ipv6Name(name), "The same for the IPv6 half of a dual-stack network, whose other metrics are of IPv4: "+help, labels...)
	}
	both(metricReceived, "Frames that the switch took in. Always the sum of those delivered and dropped.", "direction")
	both(metricReceivedBytes, "Bytes of the frames that the switch took in.", "direction")
	both(metricDelivered, "Frames that the switch delivered.", "direction")
	both(metricDeliveredBytes, "Bytes of the frames that the switch delivered.", "direction")
	both(metricDrops, "Frames that the switch dropped.", "direction", "reason")
	both(metricFlagged, "Frames that passed only because a check is set to log.", "direction", "reason")
	both(metricPeerFrames, "Frames delivered to (out) and from (in) a peer.", "peer", "direction")
	both(metricPeerBytes, "Bytes of the frames delivered to (out) and from (in) a peer.", "peer", "direction")
	both(metricPeers, "Hosts that frames can go to.")
	add(metricRejectedKeys, "Leases in etcd that were left out.")
	add(metricLeaseExpiry, "Seconds until this host's lease ends unless it is renewed.")
	add(metricCertExpiry, "Seconds until the client certificate for etcd ends; negative after that.")
	add(metricEtcdConnected, "Whether etcd answered last time.")
	add(metricReady, "Whether frames are being forwarded and the lease is held.")
	both(metricSocketOverflows, "Receives that found the socket's buffer full. A run of datagrams that the kernel joined, or a super-frame, is one.")
	both(metricTAPOverflows, "Frames that found the TAP's queue full. A super-frame is one.")
	add(metricWhole, "Super-frames that left whole, through the host's own stack.")
	add(metricUplink, "Whether super-frames leave whole. 0: they are cut here.")
	add(metricCutPeers, "Peers to which super-frames are cut although they leave whole to others, or would.")
	add(metricWarnings, "What keeps containers from the overlay, or waits for somebody to do something; vxtap status names it.")
	add(metricBuildInfo, "Always 1; the labels tell the build.", "version", "goversion")
	return c
}

// Describe implements prometheus.Collector.
func (c *statusCollector) Describe(ch chan<- *prometheus.Desc) {
	for _, d := range c.descs {
		ch <- d
	}
}

// Collect implements prometheus.Collector.
func (c *statusCollector) Collect(ch chan<- prometheus.Metric) {
	now := time.Now()
	s := c.status(now)
	counter := func(name string, v uint64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(c.descs[name], prometheus.CounterValue, float64(v), labels...)
	}
	gauge := func(name string, v float64, labels ...string) {
		ch <- prometheus.MustNewConstMetric(c.descs[name], prometheus.GaugeValue, v, labels...)
	}
	gauge(metricBuildInfo, 1, s.Version, runtime.Version())
	gauge(metricEtcdConnected, oneIf(s.Etcd.Connected))
	gauge(metricReady, oneIf(s.State == string(phaseReady)))
	if s.Lease.Expires != nil { // none yet, lost, or a reservation, which never ends
		gauge(metricLeaseExpiry, s.Lease.Left)
	}
	if s.Etcd.CertificateEnds != nil {
		gauge(metricCertExpiry, s.Etcd.CertificateEnds.Sub(now).Seconds())
	}
	gauge(metricWarnings, float64(len(s.Warnings)))
	if s.Device == "" {
		return // no switch yet: there is nothing to count
	}
	gauge(metricPeers, float64(len(s.Peers)))
	gauge(metricRejectedKeys, float64(len(s.Rejected)+s.RejectedMore))
	counter(metricSocketOverflows, s.SocketOverflows)
	counter(metricTAPOverflows, s.TAPOverflows)
	if six := s.IPv6; six != nil && six.Device != "" {
		gauge(ipv6Name(metricPeers), float64(len(six.Peers)))
		counter(ipv6Name(metricSocketOverflows), six.SocketOverflows)
		counter(ipv6Name(metricTAPOverflows), six.TAPOverflows)
		collectFrames(func(name string, v uint64, labels ...string) { counter(ipv6Name(name), v, labels...) }, six.Out, six.In, six.Peers)
	}
	counter(metricWhole, s.TXPath.Frames)
	gauge(metricUplink, oneIf(s.TXPath.InUse == txUplink))
	gauge(metricCutPeers, float64(s.TXPath.CutPeers))
	collectFrames(counter, s.Out, s.In, s.Peers)
}

// ipv6Name is the name of a metric of the IPv6 half. A label would have changed
// every series that is there already.
func ipv6Name(name string) string { return strings.Replace(name, "vxtap_", "vxtap_ipv6_", 1) }

func collectFrames(counter func(name string, v uint64, labels ...string), out, in DirectionStatus, peers []PeerStatus) {
	collectDirection(counter, directionOut, out)
	collectDirection(counter, directionIn, in)
	for _, p := range peers {
		peer := p.Subnet.String()
		counter(metricPeerFrames, p.OutFrames, peer, directionOut)
		counter(metricPeerFrames, p.InFrames, peer, directionIn)
		counter(metricPeerBytes, p.OutBytes, peer, directionOut)
		counter(metricPeerBytes, p.InBytes, peer, directionIn)
	}
}

func collectDirection(counter func(string, uint64, ...string), direction string, d DirectionStatus) {
	counter(metricReceived, d.Received, direction)
	counter(metricReceivedBytes, d.ReceivedBytes, direction)
	counter(metricDelivered, d.Delivered, direction)
	counter(metricDeliveredBytes, d.DeliveredBytes, direction)
	// Every reason that there can be, those that never occurred as well: a rate
	// needs a zero to start from.
	for r := range tunnel.NumReasons {
		if name := r.String(); occurs(r, direction) || d.Drops[name] > 0 {
			counter(metricDrops, d.Drops[name], direction, name)
		}
	}
	for r := range tunnel.NumReasons {
		if name := r.String(); direction == directionIn && checked(r) || d.Flagged[name] > 0 {
			counter(metricFlagged, d.Flagged[name], direction, name)
		}
	}
}

// occurs reports whether frames of a direction can be dropped for r, by the
// order of the reasons: both directions, out, in.
func occurs(r tunnel.Reason, direction string) bool {
	switch {
	case r <= tunnel.Broadcast:
		return true
	case r < tunnel.ShortDatagram:
		return direction == directionOut
	}
	return direction == directionIn
}

// checked reports whether r is the reason of a check that can be set to log.
func checked(r tunnel.Reason) bool {
	return r == tunnel.NotAPeer || r == tunnel.ForeignSource || r == tunnel.NoPeersYet
}

func oneIf(b bool) float64 {
	if b {
		return 1
	}
	return 0
}
