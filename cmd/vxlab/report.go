// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"io"
	"net/netip"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/jedib0t/go-pretty/v6/text"

	"vxtap/cmd/vxlab/lab"
)

// none stands in a table where there is nothing to show.
const none = "-"

// newTable returns a table without lines, which people and awk can both read.
// The columns in right, counted from 1, hold numbers.
func newTable(header table.Row, right ...int) table.Writer {
	t := table.NewWriter()
	style := table.StyleDefault
	style.Options = table.OptionsNoBordersAndSeparators
	style.Format.Header = text.FormatDefault
	style.Box.PaddingLeft, style.Box.PaddingRight = "", "  "
	t.SetStyle(style)
	t.AppendHeader(header)
	var columns []table.ColumnConfig
	for _, n := range right {
		columns = append(columns, table.ColumnConfig{Number: n, Align: text.AlignRight, AlignHeader: text.AlignRight})
	}
	t.SetColumnConfigs(columns)
	return t
}

// render returns the table without blanks at the ends of its lines.
func render(t table.Writer) string {
	lines := strings.Split(t.Render(), "\n")
	for i, line := range lines {
		lines[i] = strings.TrimRight(line, " ")
	}
	return strings.Join(lines, "\n")
}

// labTable shows labs and their hosts, one line a node.
func labTable(labs []labInfo) string {
	t := newTable(table.Row{"LAB", "NODE", "SUBNET", "VTEP", "MAC", "MTU", "CONTAINER", "RUNS"}, 6)
	for _, l := range labs {
		if l.Problem != "" {
			t.AppendRow(table.Row{l.Name, none, none, none, none, none, none, "broken: " + l.Problem})
			continue
		}
		etcd := "etcd"
		if !l.EtcdUp {
			etcd = "nothing (etcd is down: vxlab start" + nameArg(l.Name) + " net)"
		}
		gateway := none
		if p, err := netip.ParsePrefix(l.Underlay); err == nil {
			gateway = p.Addr().Next().String()
		}
		t.AppendRow(table.Row{l.Name, lab.Underlay, none, gateway, none, none, none, etcd})
		for _, h := range l.Hosts {
			t.AppendRow(hostRow(l.Name, h))
		}
	}
	return render(t)
}

// nameArg is the flag that a command about the lab needs, behind a blank.
func nameArg(name string) string {
	if name == lab.DefaultName {
		return ""
	}
	return " -name " + name
}

func hostRow(name string, h lab.Host) table.Row {
	runs := "vxtap, pid " + strconv.Itoa(h.PID)
	switch {
	case h.Bare:
		runs = "no vxtap of the lab's"
	case h.ByHand:
		runs = "vxtap, not started by the lab"
	case h.PID == 0:
		runs = "nothing (vxtap is down: vxlab start" + nameArg(name) + " " + h.Node + ")"
	}
	vtep := none
	if h.VTEP.IsValid() {
		vtep = h.VTEP.String()
	}
	if !h.Subnet.IsValid() {
		return table.Row{name, h.Node, none, vtep, none, none, none, runs}
	}
	return table.Row{name, h.Node, h.Subnet, vtep, h.MAC, h.MTU, h.Container, runs}
}

// demoTable is the demo's result, one line a host.
func demoTable(hosts []lab.Host, m *measurement, c colours) string {
	t := newTable(table.Row{"HOST", "SUBNET", "VTEP", "MAC", "MTU", "RTT", "THROUGHPUT"}, 5, 6)
	for i, h := range hosts {
		t.AppendRow(table.Row{h.Node, h.Subnet, h.VTEP, h.MAC, h.MTU, m.rttCell(i, c), m.throughputCell(i)})
	}
	return render(t)
}

// showTrip writes a round trip as ping does.
func showTrip(d time.Duration) string {
	return fmt.Sprintf("%.3f ms", float64(d)/float64(time.Millisecond))
}

// showRate writes bits per second as people say them.
func showRate(bits float64) string {
	if bits >= 1e9 {
		return fmt.Sprintf("%.2f Gb/s", bits/1e9)
	}
	return fmt.Sprintf("%.0f Mb/s", bits/1e6)
}

// colours says whether to use them.
type colours bool

// coloursFor is true for a terminal whose user does not object
// (https://no-color.org).
func coloursFor(w io.Writer) colours {
	f, ok := w.(*os.File)
	if !ok || os.Getenv("NO_COLOR") != "" || os.Getenv("TERM") == "dumb" {
		return false
	}
	info, err := f.Stat()
	return colours(err == nil && info.Mode()&os.ModeCharDevice != 0)
}

func (c colours) good(s string) string { return c.in("\x1b[32m", s) }
func (c colours) bad(s string) string  { return c.in("\x1b[31m", s) }

func (c colours) in(code, s string) string {
	if !c {
		return s
	}
	return code + s + "\x1b[0m"
}
