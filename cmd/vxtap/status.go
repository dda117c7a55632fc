// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"
	"os"
	"slices"
	"strings"
	"time"

	"vxtap/encap/ether"
	"vxtap/tunnel"
	"vxtap/tunnel/host"
)

// Status is what the daemon tells about itself: the JSON of /v1/status on its
// socket, and of vxtap status -o json. Fields are added, never renamed, and
// docs/status.md has a line for each. It holds no secrets.
type Status struct {
	Version string    `json:"version"`        // of the daemon
	PID     int       `json:"pid"`            // of the daemon
	Started time.Time `json:"started"`        // by the daemon's clock
	Uptime  float64   `json:"uptime_seconds"` // since Started
	State   string    `json:"state"`          // "waiting for etcd and the network config", "setting up", "ready", "lease lost, asking again" or "stopping"
	// What keeps containers from the overlay although State may be "ready", or
	// waits for somebody to do something, and what that is; [] where nothing is
	// known to.
	Warnings []string `json:"warnings"`

	Device    string         `json:"device"`    // of the TAP
	VNI       uint32         `json:"vni"`       // of the segment
	Network   netip.Prefix   `json:"network"`   // the whole overlay
	Subnet    netip.Prefix   `json:"subnet"`    // this host's part of it; "" while there is no lease
	VTEP      netip.Addr     `json:"vtep"`      // the address in the lease, at which others reach this host
	Port      uint16         `json:"port"`      // UDP, of all hosts
	MAC       ether.MAC      `json:"mac"`       // of this host's VTEP
	MTU       int            `json:"mtu"`       // of the TAP, in bytes
	Interface string         `json:"interface"` // that carries the tunnel
	Address   netip.Addr     `json:"address"`   // that it is bound to; not VTEP behind NAT
	Offloads  OffloadsStatus `json:"offloads"`
	Queues    int            `json:"queues"` // of the TAP, each with a thread
	TXPath    TXPathStatus   `json:"tx_path"`
	Checks    ChecksStatus   `json:"checks"`
	Routes    RoutesStatus   `json:"routes"`

	Lease LeaseStatus `json:"lease"`
	Etcd  EtcdStatus  `json:"etcd"`
	// The network config in etcd, beside what this host goes by.
	Config ConfigStatus `json:"config"`

	Out DirectionStatus `json:"out"` // from the TAP to the underlay
	In  DirectionStatus `json:"in"`  // from the underlay to the TAP
	// IPv6 is the other half of a dual-stack network, with a device of its own; all
	// else here that may be of one family is of IPv4. null: the network has none.
	IPv6 *IPv6Status `json:"ipv6"`
	// Loss that the kernel counts, before a frame or datagram is received.
	SocketOverflows uint64 `json:"socket_overflows"` // receives that found the socket's buffer full; a run of datagrams, or a super-frame, is one
	TAPOverflows    uint64 `json:"tap_overflows"`    // frames that found the TAP's queue full; a super-frame is one

	Peers        []PeerStatus  `json:"peers"`         // in the order of their subnets
	Rejected     []RejectedKey `json:"rejected"`      // leases that were left out
	RejectedMore int           `json:"rejected_more"` // left out beside those, where there are thousands
	OtherBackend int           `json:"other_backend"` // leases of hosts that run another backend of flannel's, and reservations not taken yet; no fault
}

// OffloadsStatus says which offloads are in use right now.
type OffloadsStatus struct {
	TAP []string `json:"tap"` // "csum", "tso4", "tso6", "ecn", "uso4", "uso6"
	UDP []string `json:"udp"` // "udp-segment", "udp-gro"
	// Coalesce says whether received segments are joined into super-frames for
	// the TAP, by vxtap itself.
	Coalesce bool `json:"coalesce"`
}

// TXPathStatus says which way super-frames leave.
type TXPathStatus struct {
	Configured string `json:"configured"` // "auto", "udp" or "uplink"
	InUse      string `json:"in_use"`     // "udp" or "uplink"
	Device     string `json:"device"`     // of the uplink TAP; "" if there is none
	Reason     string `json:"reason"`     // why it is "udp", "" if it is not
	Frames     uint64 `json:"frames"`     // super-frames that left whole
	// To how many peers super-frames leave whole at present; the way to the others
	// is proven when there is one for them.
	OpenPeers int `json:"open_peers"`
	// Peers to which super-frames are cut although the way is "uplink", or would
	// be: how many, and the first few of them.
	CutPeers int         `json:"cut_peers"`
	Cut      []CutStatus `json:"cut"`
}

// CutStatus is one peer to which the host lets no super-frame through.
type CutStatus struct {
	VTEP   netip.Addr `json:"vtep"`
	Reason string     `json:"reason"`
}

// RoutesStatus says how the kernel knows the way to the peers.
type RoutesStatus struct {
	Mode          string `json:"mode"`           // "aggregate", one route for all, or "per-peer"
	DirectRouting bool   `json:"direct_routing"` // the network config's: peers on a link of this host's are reached without the tunnel
	DirectPeers   int    `json:"direct_peers"`   // how many those are
}

// ChecksStatus says how strict the switch is: "strict", "log" or "off".
type ChecksStatus struct {
	Source      string `json:"source"`       // of the outer source address
	InnerSource string `json:"inner_source"` // of the inner one
}

// What LeaseStatus.State says.
const (
	leaseHeld     = "held"     // ours, and renewed
	leaseLost     = "lost"     // somebody deleted or took it, or its time ran out; the daemon asks for it again
	leaseReserved = "reserved" // ours, without a time to live
)

// LeaseStatus is this host's lease.
type LeaseStatus struct {
	State    string     `json:"state"`        // leaseHeld, leaseLost or leaseReserved; "" while there is none
	Key      string     `json:"key"`          // below the prefix
	Expires  *time.Time `json:"expires"`      // unless it is renewed; null: a reservation, never, or lost
	Left     float64    `json:"left_seconds"` // until then; 0 where that is null
	Conflict string     `json:"conflict"`     // who else writes to our key, "" if nobody does
}

// EtcdStatus is how the daemon stands with etcd.
type EtcdStatus struct {
	Connected   bool       `json:"connected"` // it answered last time
	NoSpace     string     `json:"no_space"`  // why it takes no writes although it is connected; "" if it does, as far as is known
	Endpoints   []string   `json:"endpoints"`
	Prefix      string     `json:"prefix"`
	LastError   string     `json:"last_error"`   // kept after etcd is back; "" if there was none
	LastContact *time.Time `json:"last_contact"` // of the last answer; null: none yet
	// PeersAsOf is when what is known of the peers was true, while it is from
	// before: etcd has not told anything yet. null: it has.
	PeersAsOf *time.Time `json:"peers_as_of"`
	// CertificateEnds is the end of the client certificate in use. null: there
	// is none.
	CertificateEnds *time.Time `json:"certificate_ends"`
}

// DirectionStatus counts the frames that went one way. Received is always
// Delivered plus Dropped. A super-frame counts as one; bytes are of the inner
// Ethernet frames.
type DirectionStatus struct {
	Received       uint64            `json:"received"`
	ReceivedBytes  uint64            `json:"received_bytes"`
	Delivered      uint64            `json:"delivered"`
	DeliveredBytes uint64            `json:"delivered_bytes"`
	Dropped        uint64            `json:"dropped"` // the sum of Drops
	Drops          map[string]uint64 `json:"drops"`   // by reason; reasons that never occurred are left out
	Flagged        map[string]uint64 `json:"flagged"` // by reason: passed only because the check is set to log
}

// PeerStatus is one peer, and the frames delivered to and from it.
type PeerStatus struct {
	Subnet    netip.Prefix `json:"subnet"`
	VTEP      netip.Addr   `json:"vtep"`
	MAC       ether.MAC    `json:"mac"`
	OutFrames uint64       `json:"out_frames"`
	OutBytes  uint64       `json:"out_bytes"`
	InFrames  uint64       `json:"in_frames"`
	InBytes   uint64       `json:"in_bytes"`
	// Direct says that a route of the kernel's leads to it, without the tunnel: what
	// the tunnel counts is then only what comes that way all the same.
	Direct bool `json:"direct"`
}

// RejectedKey is a key in etcd that no peer came from.
type RejectedKey struct {
	Key    string `json:"key"` // below the prefix, as found: anybody may have written it
	Reason string `json:"reason"`
}

// status returns the present state. Anyone may call it at any time; what is
// not known yet has its zero value.
func (d *daemon) status(now time.Time) Status {
	at := d.at()
	s := Status{
		Version:   version(),
		PID:       os.Getpid(),
		Started:   d.started.UTC().Truncate(time.Millisecond),
		Uptime:    now.Sub(d.started).Seconds(),
		State:     string(d.state()),
		VTEP:      at.vtep,
		Interface: at.uplink.Name,
		Address:   at.uplink.Addr,
		Checks:    ChecksStatus{Source: d.checks.Source.String(), InnerSource: d.checks.InnerSource.String()},
		Etcd:      EtcdStatus{Endpoints: d.etcd.Endpoints, Prefix: d.etcd.Prefix},
	}
	// [] and {} in JSON, not null.
	s.Warnings, s.Peers, s.Rejected = []string{}, []PeerStatus{}, []RejectedKey{}
	s.Config = configStatus(nil)
	s.Offloads = offloadsStatus(nil, nil, false)
	s.Routes.Mode = d.routeMode
	s.TXPath = TXPathStatus{Configured: d.txPath, InUse: txUDP, Cut: []CutStatus{}}
	s.Out, s.In = directionStatus(&tunnel.Direction{}), directionStatus(&tunnel.Direction{})
	d.look(s.addSegment, s.addHost)
	s.addRegistry(d, now)
	return s
}

func (s *Status) addRegistry(d *daemon, now time.Time) {
	r := d.registry.Status()
	s.Etcd.Connected = r.Connected
	s.Etcd.LastError, s.Etcd.NoSpace = r.LastError, r.NoSpace
	s.Etcd.LastContact = unlessZero(r.LastContact)
	if at := d.peersAsOf(); at != nil {
		s.Etcd.PeersAsOf = unlessZero(*at)
	}
	if d.certificateEnds != nil {
		s.Etcd.CertificateEnds = unlessZero(d.certificateEnds())
	}
	s.Warnings = append(s.Warnings, d.registryWarnings(r)...)
	s.Lease.Conflict = r.Conflict
	if s.Lease.State == leaseLost {
		return
	}
	if !r.LeaseExpires.IsZero() { // newer than what addLease knows
		s.Lease.Expires = unlessZero(r.LeaseExpires)
	}
	if s.Lease.Expires != nil {
		s.Lease.Left = max(0, s.Lease.Expires.Sub(now).Seconds())
	} else if s.Lease.State == leaseHeld {
		s.Lease.State = leaseReserved
	}
}

// addPlan adds what is known of a segment before it has a lease.
func (s *Status) addPlan(seg *segment) {
	s.Device = seg.device
	s.VNI = uint32(seg.config.Backend.VNI)
	s.Network = seg.config.Network
	s.Port = seg.config.Backend.Port
	s.MAC = seg.ipv4.mac
	s.MTU = int(seg.ipv4.mtu.Load())
	s.IPv6 = seg.ipv6Status()
}

// addLease adds what the segment knows of its lease: the end as of when it was
// acquired, until addRegistry has that of the last renewal. Whether the lease is
// lost only the segment can tell: the registry has no end then, as it has none
// for a reservation.
func (s *Status) addLease(seg *segment) {
	own := seg.own.Load()
	s.Subnet = own.Subnet
	s.Lease.Key, s.Lease.State = own.Key, leaseHeld
	if seg.lost.Load() {
		s.Lease.State = leaseLost
		return
	}
	s.Lease.Expires = unlessZero(own.Expires)
}

func (s *Status) addSegment(seg *segment) {
	s.addPlan(seg)
	s.addLease(seg)
	s.Offloads = offloadsStatus(seg.ipv4.tap.Offloads(), seg.ipv4.underlay.Offloads(), seg.d.offload.coalesce)
	s.Queues = seg.queues()

	s.Config = configStatus(seg.notice.Load())

	st := seg.ipv4.sw.Stats()
	s.Routes = seg.routesStatus()
	s.TXPath = seg.ipv4.txPathStatus(st.Out.Whole)
	s.Out, s.In = directionStatus(&st.Out), directionStatus(&st.In)
	if seg.ipv6 != nil {
		s.IPv6.addSwitch(seg.ipv6)
	}
	s.SocketOverflows = seg.ipv4.underlay.Overflows() // which the kernel keeps with them
	s.Peers = seg.ipv4.peersStatus(st.Peers)
	view := seg.view.Load()
	s.OtherBackend = view.OtherBackend
	s.Rejected, s.RejectedMore = rejectedKeys(view.Rejected), view.More
}

// addHost adds what only the host's kernel knows.
func (s *Status) addHost(seg *segment) {
	s.Warnings = append(seg.warnings(), seg.notices()...)
	// A device that has just gone has no number, and no frames either.
	s.TAPOverflows, _ = host.TXDropped(seg.device)
	if seg.ipv6 != nil {
		s.IPv6.TAPOverflows, _ = host.TXDropped(seg.ipv6.device)
	}
}

func (s *side) txPathStatus(frames uint64) TXPathStatus {
	p := TXPathStatus{Configured: s.d.txPath, InUse: txUDP, Reason: s.noUplink, Frames: frames, Cut: []CutStatus{}}
	if s.whole == nil {
		return p
	}
	state := s.whole.State()
	p.Device, p.Reason, p.OpenPeers, p.CutPeers = s.whole.Name, state.Reason, state.Wanted, state.Cut
	p.Reason = s.whyCut(p.Reason, state.Open, state.Cut)
	if state.Open {
		p.InUse = txUplink
	}
	for _, c := range state.Some {
		p.Cut = append(p.Cut, CutStatus{VTEP: c.VTEP, Reason: c.Reason})
	}
	return p
}

// offloadsStatus makes [] in JSON of what is nil, not null. Asked to join,
// vxtap does so only where the TAP takes the outcome.
func offloadsStatus(tap, udp []string, join bool) OffloadsStatus {
	takes := slices.ContainsFunc(tap, func(name string) bool { return strings.HasPrefix(name, "tso") || strings.HasPrefix(name, "uso") })
	return OffloadsStatus{TAP: append([]string{}, tap...), UDP: append([]string{}, udp...), Coalesce: join && takes}
}

func directionStatus(d *tunnel.Direction) DirectionStatus {
	return DirectionStatus{
		Received: d.Received, ReceivedBytes: d.ReceivedBytes,
		Delivered: d.Delivered, DeliveredBytes: d.DeliveredBytes,
		Dropped: d.Dropped(),
		Drops:   byReason(&d.Drops),
		Flagged: byReason(&d.Flagged),
	}
}

func byReason(counts *[tunnel.NumReasons]uint64) map[string]uint64 {
	m := make(map[string]uint64)
	for r, n := range counts {
		if n > 0 {
			m[tunnel.Reason(r).String()] = n
		}
	}
	return m
}

func unlessZero(t time.Time) *time.Time {
	if t.IsZero() {
		return nil
	}
	t = t.UTC().Truncate(time.Millisecond)
	return &t
}
