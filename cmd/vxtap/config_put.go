// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"strconv"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"

	"vxtap/lease"
)

func configPut(c *cli.Context, env []string) error {
	args, err := operands(c, "FILE")
	if err != nil {
		return err
	}
	expected, err := revisionFlag(c)
	if err != nil {
		return err
	}
	value, err := readConfigFile(c, args[0])
	if err != nil {
		return err
	}
	if r := lease.ReadConfig(value); len(r.Faults) > 0 {
		var p printer
		p.reading(r)
		return errors.Join(p.to(c.App.Writer), refusal(args[0], r))
	}
	return withNetwork(c, env, func(ctx context.Context, n *network) error {
		return n.putConfig(ctx, c, value, expected)
	})
}

// revisionFlag reads -if-revision, -1 where it is not given.
func revisionFlag(c *cli.Context) (int64, error) {
	v := c.String("if-revision")
	if v == "" {
		return -1, nil
	}
	n, err := strconv.ParseInt(v, 10, 64)
	if err != nil || n < 0 {
		return 0, usagef("-if-revision: %q is not a whole number of 0 or more", v)
	}
	return n, nil
}

// putConfig writes value, which is a config, and says what that changes.
func (n *network) putConfig(ctx context.Context, c *cli.Context, value []byte, expected int64) error {
	key := n.store.Path("config")
	before, err := n.Config(ctx)
	if err != nil {
		return err
	}
	if expected >= 0 && before.Revision != expected {
		return fmt.Errorf("%s has revision %d, not %d: somebody has changed it, and nothing was written", key, before.Revision, expected)
	}
	leases, err := n.Leases(ctx)
	if err != nil {
		return err
	}
	sortLeases(leases.Leases)
	var p printer
	p.consequences(before, lease.ReadConfig(value), leases)
	switch {
	case bytes.Equal(before.Value, value):
		p.linef("%s is this already, to the byte: nothing is written.", key)
	case c.Bool("dry-run"):
		p.linef("Nothing is written, because of -dry-run.")
	default:
		after, err := n.PutConfig(ctx, value, before)
		if errors.Is(err, lease.ErrConflict) {
			return fmt.Errorf("%w since it was compared: nothing was written; look again", err)
		}
		if err != nil {
			return errors.Join(p.to(c.App.Writer), err)
		}
		p.linef("%s is written, revision %d.", key, after.Revision)
	}
	return p.to(c.App.Writer)
}

// consequences says what the config after would do to the hosts with leases.
func (p *printer) consequences(before lease.StoredConfig, after lease.Reading, leases lease.Snapshot) {
	for _, note := range after.Config.Notes {
		p.linef("note: %s", note)
	}
	p.changes(before, after.Config)
	var moved, halved []lease.Move
	for _, m := range leases.Moves(after.Config) {
		if m.KeepsIPv4 {
			halved = append(halved, m)
		} else {
			moved = append(moved, m)
		}
	}
	all := hosts(len(leases.Leases))
	if len(moved) > 0 {
		p.linef("%d of %s must take another subnet when restarted, and their containers have to be made anew:\n%s", len(moved), all, movesTable(moved))
	}
	if len(halved) > 0 {
		p.linef("%d of %s must give up the IPv6 subnet when restarted; the IPv4 one stays:\n%s", len(halved), all, movesTable(halved))
	}
	if len(moved)+len(halved) == 0 && len(leases.Leases) > 0 {
		p.linef("All keep their subnets: %s.", all)
	}
	if room := after.Config.Room(); room < len(leases.Leases) {
		p.linef("There is room for %s only, and %d have a lease: the others will find none.", hosts(room), len(leases.Leases))
	}
}

func movesTable(moves []lease.Move) string {
	t := newTable()
	t.AppendHeader(table.Row{"LEASE", "HOST", "CANNOT BE KEPT"})
	for _, m := range moves {
		name := subnetName(m.Lease)
		if m.Reserved() {
			name += " (reserved)"
		}
		t.AppendRow(table.Row{name, addrText(m.Attrs.PublicIP), printable(m.Why)})
	}
	return t.Render()
}

func (p *printer) changes(before lease.StoredConfig, after lease.Config) {
	if before.Revision == 0 {
		p.linef("There is no config yet: hosts that wait for one start as soon as it is there.")
		return
	}
	old, err := lease.ParseConfig(before.Value)
	if err != nil {
		p.linef("The config in etcd now is one that no host starts with: %v", err)
		return
	}
	changes := old.Changes(after)
	if len(changes) == 0 {
		p.linef("It means the same as the config in etcd.")
		return
	}
	t := newTable()
	t.AppendHeader(table.Row{"SETTING", "NOW", "THEN", "WHEN"})
	for _, x := range changes {
		t.AppendRow(table.Row{x.Name, orNone(x.From), orNone(x.To), x.Effect})
	}
	p.linef("%s\nWhat vxtap follows at once interrupts nothing. All else it takes up when it is restarted, and before that says so in vxtap status; or when its lease is lost. flanneld reads the config when it starts.", t.Render())
}

func orNone(s string) string {
	if s == "" {
		return "none"
	}
	return s
}
