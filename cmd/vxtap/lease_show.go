// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"fmt"
	"net/netip"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"

	"vxtap/lease"
)

// LeaseList is the JSON of vxtap lease show. Fields are added, never renamed.
type LeaseList struct {
	Prefix   string        `json:"prefix"`
	Revision int64         `json:"revision"`      // of etcd, at which all of it was read
	Leases   []LeaseEntry  `json:"leases"`        // in the order of their subnets
	Rejected []RejectedKey `json:"rejected"`      // keys that make no sense, and leases that hosts leave out
	More     int           `json:"rejected_more"` // left out beside those, where there are thousands
	Note     string        `json:"note"`          // what could not be judged; "" if all was
}

// LeaseEntry is one host's lease.
type LeaseEntry struct {
	Key        string       `json:"key"` // below the prefix
	Subnet     netip.Prefix `json:"subnet"`
	IPv6Subnet netip.Prefix `json:"ipv6_subnet"` // "" where there is none
	PublicIP   netip.Addr   `json:"public_ip"`
	PublicIPv6 netip.Addr   `json:"public_ipv6"` // "" where there is none
	Backend    string       `json:"backend"`     // "vxlan"; "" for a reservation that is not taken yet, or flannel's udp
	MAC        string       `json:"mac"`         // "" where there is none
	IPv6MAC    string       `json:"ipv6_mac"`    // "" where there is none
	VNI        uint32       `json:"vni"`         // 0 where there is none
	Reserved   bool         `json:"reserved"`    // it has no end
	Expires    *time.Time   `json:"expires"`     // unless it is renewed; null: a reservation, or just over
	Left       float64      `json:"left_seconds"`
}

func leaseShow(c *cli.Context, env []string) error {
	return showNetwork(c, env, func(ctx context.Context, n *network, isJSON bool) error {
		l, err := n.leaseList(ctx)
		if err != nil {
			return err
		}
		if isJSON {
			return writeSafeJSON(c.App.Writer, l)
		}
		var p printer
		p.leases(l)
		return p.to(c.App.Writer)
	})
}

func (n *network) leaseList(ctx context.Context) (LeaseList, error) {
	stored, err := n.Config(ctx)
	if err != nil {
		return LeaseList{}, err
	}
	s, err := n.Leases(ctx)
	if err == nil {
		err = n.FillExpires(ctx, s.Leases)
	}
	if err != nil {
		return LeaseList{}, err
	}
	l := LeaseList{Prefix: n.prefix, Revision: s.Revision, Leases: []LeaseEntry{}}
	rejected, more := s.Rejected, s.More
	if config, err := lease.ParseConfig(stored.Value); err == nil {
		sel := s.Select(config, lease.Lease{})
		rejected, more = sel.Rejected, sel.More
	} else {
		l.Note = printable("without a network config that can be used it is not known which leases lie outside of it: " + err.Error())
	}
	l.Rejected, l.More = rejectedKeys(rejected), more
	sortLeases(s.Leases)
	now := time.Now()
	for _, x := range s.Leases {
		l.Leases = append(l.Leases, leaseEntry(x, now))
	}
	return l, nil
}

func leaseEntry(l lease.Lease, now time.Time) LeaseEntry {
	e := LeaseEntry{
		Key: printable(l.Key), Subnet: l.Subnet, IPv6Subnet: l.IPv6Subnet,
		PublicIP: l.Attrs.PublicIP, PublicIPv6: l.Attrs.PublicIPv6, Backend: printable(l.Attrs.BackendType),
		VNI: uint32(l.Attrs.VNI), Reserved: l.Reserved(), Expires: unlessZero(l.Expires),
	}
	if !l.Attrs.MAC.IsZero() {
		e.MAC = l.Attrs.MAC.String()
	}
	if !l.Attrs.IPv6MAC.IsZero() {
		e.IPv6MAC = l.Attrs.IPv6MAC.String()
	}
	if e.Expires != nil {
		e.Left = max(0, l.Expires.Sub(now).Seconds())
	}
	return e
}

func (p *printer) leases(l LeaseList) {
	if len(l.Leases) == 0 {
		p.linef("No leases.")
	} else {
		t := newTable(4)
		t.AppendHeader(table.Row{"SUBNET", "HOST", "MAC", "VNI", "BACKEND", "ENDS"})
		for _, e := range l.Leases {
			t.AppendRow(e.row())
		}
		p.linef("%s", t.Render())
	}
	if l.Note != "" {
		p.linef("\nNote: %s", l.Note)
	}
	if len(l.Rejected) == 0 {
		return
	}
	t := newTable()
	t.AppendHeader(table.Row{"LEFT OUT", "WHY"})
	for _, r := range l.Rejected {
		t.AppendRow(table.Row{printable(r.Key), printable(r.Reason)})
	}
	p.linef("\n%s", t.Render())
	if l.More > 0 {
		p.linef("%d more keys are left out and only counted.", l.More)
	}
}

func (e LeaseEntry) row() table.Row {
	vni, backend := "-", e.Backend
	if e.VNI != 0 {
		vni = fmt.Sprint(e.VNI)
	}
	if backend == "" {
		backend = "-"
		if e.Reserved {
			backend = "not taken yet"
		}
	}
	ends := "is over"
	switch {
	case e.Reserved:
		ends = "reserved"
	case e.Expires != nil:
		ends = "in " + duration(time.Duration(e.Left*float64(time.Second)))
	}
	subnet, host := e.Subnet.String(), addrText(e.PublicIP)
	if e.IPv6Subnet.IsValid() {
		subnet += ", " + e.IPv6Subnet.String()
	}
	if e.PublicIPv6.IsValid() {
		host += ", " + e.PublicIPv6.String()
	}
	mac := orDash(e.MAC)
	if e.IPv6MAC != "" {
		mac += ", " + e.IPv6MAC
	}
	return table.Row{subnet, host, mac, vni, backend, ends}
}

func orDash(s string) string {
	if s == "" {
		return "-"
	}
	return s
}

func addrText(a netip.Addr) string {
	if !a.IsValid() {
		return "nobody"
	}
	return a.String()
}

// subnetName is what a lease is called to people.
func subnetName(l lease.Lease) string {
	switch {
	case l.IPv6Subnet.IsValid():
		return l.Subnet.String() + "," + l.IPv6Subnet.String()
	case l.Subnet.IsValid():
		return l.Subnet.String()
	}
	return printable(l.Key)
}
