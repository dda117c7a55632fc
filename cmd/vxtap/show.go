// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"
	"github.com/urfave/cli/v2"
)

func showFlags() []cli.Flag {
	return []cli.Flag{
		textFlag("o", "table", "`FORMAT` table, for people, or json, for programs"),
		textFlag("run-dir", defaultRunDir, "`DIR` of the daemon's socket"),
		textFlag("device", "", "`NAME` of the daemon's device, as flannel.1, where several daemons run"),
	}
}

// statusCommand is vxtap status.
func statusCommand(c *cli.Context, env []string) error {
	if err := errors.Join(flagsBefore(c), noArguments(c)); err != nil {
		return err
	}
	format := c.String("o")
	if format != "table" && format != "json" {
		return usagef("-o: %q is not one of table, json", format)
	}
	dir := c.String("run-dir")
	if _, v := fromEnvironment(env, "run-dir"); v != "" && !c.IsSet("run-dir") {
		dir = v
	}
	ctx, cancel := context.WithTimeout(c.Context, 10*time.Second)
	defer cancel()
	s, err := askDaemon(ctx, dir, c.String("device"))
	if err != nil {
		return err
	}
	if format == "json" {
		return writeJSON(c.App.Writer, s)
	}
	return showStatus(c.App.Writer, s, time.Now())
}

// askDaemon finds the daemon's socket in dir and asks it.
func askDaemon(ctx context.Context, dir, device string) (Status, error) {
	if device != "" {
		return explainAsk(ctx, socketPath(dir, device))
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*"+socketSuffix))
	if err != nil {
		return Status{}, fmt.Errorf("look for sockets in %s: %w", dir, err)
	}
	switch len(paths) {
	case 0:
		if _, err := os.ReadDir(dir); errors.Is(err, os.ErrPermission) {
			return Status{}, fmt.Errorf("%s may not be read: run as root", dir)
		}
		return Status{}, fmt.Errorf("no vxtap runs here: there is no socket in %s; a daemon that still waits for etcd has none", dir)
	case 1:
		return explainAsk(ctx, paths[0])
	}
	var devices []string
	for _, p := range paths {
		devices = append(devices, strings.TrimSuffix(filepath.Base(p), socketSuffix))
	}
	return Status{}, fmt.Errorf("several daemons have a socket in %s: choose one with -device, of %s", dir, strings.Join(devices, ", "))
}

func explainAsk(ctx context.Context, path string) (Status, error) {
	s, err := fetchStatus(ctx, path)
	switch {
	case errors.Is(err, os.ErrNotExist):
		return Status{}, fmt.Errorf("no vxtap runs here: there is no socket %s", path)
	case errors.Is(err, syscall.ECONNREFUSED):
		return Status{}, fmt.Errorf("no vxtap runs here: %s was left by one that died; its log says why, and starting vxtap again clears it", path)
	case errors.Is(err, os.ErrPermission):
		return Status{}, fmt.Errorf("%s may not be opened: run as root", path)
	case err != nil:
		return Status{}, fmt.Errorf("ask the daemon: %w", err)
	}
	return s, nil
}

// showStatus writes s for people.
func showStatus(w io.Writer, s Status, now time.Time) error {
	var b strings.Builder
	showHead(&b, s, now)
	showPeers(&b, s.Peers)
	showTraffic(&b, s.Out, s.In, s.SocketOverflows, s.TAPOverflows)
	if s.IPv6 != nil {
		showIPv6(&b, s)
	}
	showRejected(&b, s)
	// Whatever strangers wrote into etcd must not reach the terminal raw.
	lines := strings.Split(b.String(), "\n")
	for i, l := range lines {
		lines[i] = strings.TrimRight(printable(l), " ")
	}
	_, err := io.WriteString(w, strings.Join(lines, "\n"))
	return err
}

func showHead(b *strings.Builder, s Status, now time.Time) {
	fmt.Fprintf(b, "%s: %s\n", s.Device, s.State)
	t, row := newRows()
	for _, w := range s.Warnings {
		row("WARNING", "%s", w)
	}
	if s.Subnet.IsValid() {
		row("subnet", "%s of %s, %s", s.Subnet, s.Network, leaseEnd(s.Lease, now))
	} else {
		row("subnet", "none yet of %s", s.Network)
	}
	row("VTEP", "%s port %d, %s, VNI %d", s.VTEP, s.Port, s.MAC, s.VNI)
	row("interface", "%s, %s, MTU %d inside the tunnel", s.Interface, s.Address, s.MTU)
	row("etcd", "%s", etcdLine(s.Etcd, now))
	row("", "%s, prefix %s", strings.Join(s.Etcd.Endpoints, " "), s.Etcd.Prefix)
	if end := s.Etcd.CertificateEnds; end != nil {
		row("", "%s", certificateLine(end.Sub(now)))
	}
	if s.Etcd.LastError != "" {
		row("", "last error: %s", s.Etcd.LastError)
	}
	if known := byMemory(s.Etcd.LastContact, s.Etcd.PeersAsOf); known != "" {
		row("", "%s", known)
	}
	if s.Lease.Conflict != "" && !slices.Contains(s.Warnings, s.Lease.Conflict) {
		row("conflict", "%s", s.Lease.Conflict)
	}
	row("offloads", "TAP %s; UDP %s; coalescing %s; queues %d",
		words(s.Offloads.TAP), words(s.Offloads.UDP), onOff(s.Offloads.Coalesce), s.Queues)
	showSuperFrames(row, s.TXPath, len(s.Peers))
	showRoutes(row, s.Routes, len(s.Peers))
	row("checks", "source %s, inner source %s", s.Checks.Source, s.Checks.InnerSource)
	row("daemon", "%s, pid %d, up %s", s.Version, s.PID, duration(time.Duration(s.Uptime*float64(time.Second))))
	fmt.Fprintln(b, t.Render())
}

// newRows returns a table, and what adds a named row to it.
func newRows() (t table.Writer, row func(name, format string, args ...any)) {
	t = newTable()
	return t, func(name, format string, args ...any) {
		t.AppendRow(table.Row{"  " + name, fmt.Sprintf(format, args...)})
	}
}

// showIPv6 writes of the IPv6 half what there is of the IPv4 half above it.
func showIPv6(b *strings.Builder, s Status) {
	six := s.IPv6
	if six.Device == "" {
		fmt.Fprintf(b, "\nIPv6: none: %s\n", six.Reason)
		return
	}
	fmt.Fprintf(b, "\n%s:\n", six.Device)
	t, row := newRows()
	if six.Subnet.IsValid() {
		row("subnet", "%s of %s", six.Subnet, six.Network)
	} else {
		row("subnet", "none yet of %s", six.Network)
	}
	row("VTEP", "%s port %d, %s, VNI %d", six.VTEP, s.Port, six.MAC, s.VNI)
	row("interface", "%s, %s, MTU %d inside the tunnel", s.Interface, six.Address, six.MTU)
	row("offloads", "TAP %s; UDP %s; coalescing %s; queues %d", words(six.Offload.TAP), words(six.Offload.UDP), onOff(six.Offload.Coalesce), s.Queues)
	showSuperFrames(row, six.TXPath, len(six.Peers))
	fmt.Fprintln(b, t.Render())
	showPeers(b, six.Peers)
	showTraffic(b, six.Out, six.In, six.SocketOverflows, six.TAPOverflows)
}

func showSuperFrames(row func(name, format string, args ...any), p TXPathStatus, peers int) {
	switch {
	case p.InUse == txUplink:
		row("super-frames", "leave whole by %s: to %d of %d peers at present, to the others on demand", p.Device, p.OpenPeers, peers)
		for _, c := range p.Cut {
			row("", "but not to %s: %s", c.VTEP, c.Reason)
		}
		if more := p.CutPeers - len(p.Cut); more > 0 {
			row("", "and not to %d peers more", more)
		}
	case p.Reason == noSuperFrames:
		row("super-frames", "there are none: %s", p.Reason)
	case p.Reason != "":
		row("super-frames", "are cut here: %s", p.Reason)
	}
}

// showRoutes says nothing of what everybody has who asks for nothing.
func showRoutes(row func(name, format string, args ...any), r RoutesStatus, peers int) {
	name := "routes"
	if r.Mode == routePerPeer {
		row(name, "one for each peer")
		name = ""
	}
	if r.DirectRouting {
		row(name, "direct to %d of %d peers, without the tunnel", r.DirectPeers, peers)
	}
}

func showPeers(b *strings.Builder, peers []PeerStatus) {
	if len(peers) == 0 {
		b.WriteString("\nNo peers.\n")
		return
	}
	t := newTable(4, 5, 6, 7)
	t.AppendHeader(table.Row{"PEER", "VTEP", "MAC", "FRAMES OUT", "BYTES OUT", "FRAMES IN", "BYTES IN", "WAY"})
	for _, p := range peers {
		t.AppendRow(table.Row{p.Subnet, p.VTEP, p.MAC, p.OutFrames, size(p.OutBytes), p.InFrames, size(p.InBytes), wayTo(p)})
	}
	fmt.Fprintf(b, "\n%s\n", t.Render())
}

func wayTo(p PeerStatus) string {
	if p.Direct {
		return "direct"
	}
	return "tunnel"
}

func showTraffic(b *strings.Builder, out, in DirectionStatus, socketOverflows, tapOverflows uint64) {
	t := newTable(2, 3, 4, 5, 6)
	t.AppendHeader(table.Row{"TRAFFIC", "RECEIVED", "RECEIVED BYTES", "DELIVERED", "DELIVERED BYTES", "DROPPED", "BY REASON"})
	for _, d := range []struct {
		name string
		DirectionStatus
	}{{"out", out}, {"in", in}} {
		t.AppendRow(table.Row{d.name, d.Received, size(d.ReceivedBytes), d.Delivered, size(d.DeliveredBytes), d.Dropped, reasons(d.Drops)})
	}
	fmt.Fprintf(b, "\n%s\n", t.Render())
	if flagged := reasons(in.Flagged); flagged != "" {
		fmt.Fprintf(b, "Passed only because a check is set to log: %s.\n", flagged)
	}
	// Also while both are 0: whoever looks for lost frames wants to know that
	// they are not lost there.
	fmt.Fprintf(b, "Lost before they could be received, where a super-frame or a run of datagrams is one: %d from peers (socket full), %d to them (TAP full).\n", socketOverflows, tapOverflows)
}

func showRejected(b *strings.Builder, s Status) {
	if s.OtherBackend > 0 {
		fmt.Fprintf(b, "\nLeases of hosts with another backend, or without one, as a reservation before it is taken: %d.\n", s.OtherBackend)
	}
	if len(s.Rejected) == 0 {
		return
	}
	t := newTable()
	t.AppendHeader(table.Row{"LEFT OUT", "WHY"})
	for _, r := range s.Rejected {
		t.AppendRow(table.Row{printable(r.Key), printable(r.Reason)})
	}
	fmt.Fprintf(b, "\n%s\n", t.Render())
	if s.RejectedMore > 0 {
		fmt.Fprintf(b, "%d more keys are left out and only counted.\n", s.RejectedMore)
	}
}

// newTable has columns and no lines, so that it can be read by people and cut
// by awk. right are the columns to align right, from 1.
func newTable(right ...int) table.Writer {
	t := table.NewWriter()
	t.SetStyle(table.Style{
		Box:     table.BoxStyle{PaddingRight: "  "},
		Options: table.OptionsNoBordersAndSeparators,
	})
	var columns []table.ColumnConfig
	for _, n := range right {
		columns = append(columns, table.ColumnConfig{Number: n, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(columns)
	return t
}

func leaseEnd(l LeaseStatus, now time.Time) string {
	if l.State == leaseLost {
		return "lease lost, asking again"
	}
	if l.Expires == nil {
		return "reserved, never expires"
	}
	left := l.Expires.Sub(now)
	if left <= 0 {
		return "lease expired " + duration(-left) + " ago"
	}
	return "lease ends in " + duration(left) + " unless renewed"
}

func certificateLine(left time.Duration) string {
	if left < 0 {
		return "certificate ended " + duration(-left) + " ago"
	}
	return "certificate ends in " + duration(left)
}

func etcdLine(e EtcdStatus, now time.Time) string {
	state := "connected"
	if !e.Connected {
		state = "not connected"
	}
	if e.LastContact == nil {
		return state + ", never answered"
	}
	if e.Connected && e.NoSpace != "" {
		state += ", reads work, writes are refused for want of space"
	}
	ago := now.Sub(*e.LastContact)
	state += ", last answer " + duration(ago) + " ago"
	if e.Connected && ago >= time.Minute {
		// It is asked when the lease is renewed, every few hours, and speaks when
		// another one changes. A long time is no sign of anything.
		state += ", which is usual while no lease changes"
	}
	return state
}

// reasons lists counts, the largest first.
func reasons(counts map[string]uint64) string {
	names := slices.SortedFunc(maps.Keys(counts), func(a, b string) int {
		if counts[a] != counts[b] {
			if counts[a] > counts[b] {
				return -1
			}
			return 1
		}
		return strings.Compare(a, b)
	})
	for i, n := range names {
		names[i] = fmt.Sprintf("%s %d", n, counts[n])
	}
	return strings.Join(names, ", ")
}

func words(w []string) string {
	if len(w) == 0 {
		return "none"
	}
	return strings.Join(w, " ")
}

func onOff(b bool) string {
	if b {
		return "on"
	}
	return "off"
}

// duration is d in its two largest units: "23h 12m", "3m 7s", "0s". Days begin
// with the second: a lease of 24 hours has "24h 0m" and then "23h 59m".
func duration(d time.Duration) string {
	s := int64(d.Round(time.Second) / time.Second)
	switch {
	case s >= 48*3600:
		return fmt.Sprintf("%dd %dh", s/(24*3600), s/3600%24)
	case s >= 3600:
		return fmt.Sprintf("%dh %dm", s/3600, s/60%60)
	case s >= 60:
		return fmt.Sprintf("%dm %ds", s/60, s%60)
	}
	return fmt.Sprintf("%ds", max(0, s))
}

// size is n bytes with a decimal unit: "512 B", "1.5 kB", "23.4 GB".
func size(n uint64) string {
	if n < 1000 {
		return fmt.Sprintf("%d B", n)
	}
	v, unit := float64(n), 0
	for v >= 1000 && unit < len("kMGTPE") {
		v /= 1000
		unit++
	}
	return fmt.Sprintf("%.1f %cB", v, "kMGTPE"[unit-1])
}
