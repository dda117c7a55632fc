// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"strings"

	"github.com/jedib0t/go-pretty/v6/table"
	"github.com/urfave/cli/v2"

	"vxtap/lease"
)

const configHelp = `vxtap config looks after the network config, PREFIX/config in etcd, which all hosts
of the network read when they start, and vxtap follows while it runs.

  vxtap config check FILE    say what FILE means, and what is wrong with it
  vxtap config get           show the config in etcd
  vxtap config put FILE      write FILE to etcd, and say what that changes

vxtap config COMMAND -help says more.
`

const configCheckHelp = `vxtap config check says what a network config means, with the defaults filled in,
and what is wrong with it, a line for each fault. It asks no etcd. FILE may be - for
standard input. It ends with status 1 if flanneld or vxtap would not start with the
config.

  vxtap config check net.json
`

const configGetHelp = `vxtap config get shows the network config in etcd: as it is, and as hosts
understand it. It ends with status 1 if there is none, or none that they would
start with.

  vxtap config get
  vxtap config get -o json
`

const configPutHelp = `vxtap config put writes a network config to etcd, unless flanneld or vxtap would not
start with it. FILE may be - for standard input. It says first what becomes of the hosts
that have a lease: which settings change, and which hosts have to take another subnet.
It asks nothing; -dry-run only looks. If somebody else changes the config meanwhile,
nothing is written.

  vxtap config put -dry-run net.json
  vxtap config put net.json

Hosts of vxtap that run follow at once in what can change under traffic: MTU, DirectRouting,
EnableNFTables. The rest, and all of it on hosts of flanneld, takes a restart.
`

// maxConfigFile is a hundred times what all fields take.
const maxConfigFile = 64 << 10

func configCommand(env []string) *cli.Command {
	return group("config", "check, show or change the network config", configHelp,
		&cli.Command{
			Name: "check", Usage: "say what a network config means, and what is wrong with it", Description: configCheckHelp,
			Action: configCheck,
		},
		&cli.Command{
			Name: "get", Usage: "show the network config in etcd", Description: configGetHelp,
			Flags:  operatorFlags(formatFlag()),
			Action: func(c *cli.Context) error { return configGet(c, env) },
		},
		&cli.Command{
			Name: "put", Usage: "write the network config to etcd", Description: configPutHelp,
			Flags: operatorFlags(
				boolFlag("dry-run", false, "write nothing"),
				textFlag("if-revision", "", "write only if the config in etcd still has this `NUMBER`, as config get shows it"),
			),
			Action: func(c *cli.Context) error { return configPut(c, env) },
		},
	)
}

func configCheck(c *cli.Context) error {
	args, err := operands(c, "FILE")
	if err != nil {
		return err
	}
	value, err := readConfigFile(c, args[0])
	if err != nil {
		return err
	}
	var p printer
	r := lease.ReadConfig(value)
	p.reading(r)
	return errors.Join(p.to(c.App.Writer), refusal(args[0], r))
}

// refusal is the error for a config that is none, of a file or a key.
func refusal(name string, r lease.Reading) error {
	if name == "-" {
		name = "the config on standard input"
	}
	switch n := len(r.Faults); n {
	case 0:
		return nil
	case 1:
		return fmt.Errorf("%s has a fault: no host would start with it", name)
	default:
		return fmt.Errorf("%s has %d faults: no host would start with it", name, n)
	}
}

func readConfigFile(c *cli.Context, name string) ([]byte, error) {
	in := c.App.Reader
	if name != "-" {
		f, err := os.Open(name)
		if err != nil {
			return nil, fmt.Errorf("read network config: %w", err)
		}
		defer f.Close()
		in = f
	}
	value, err := io.ReadAll(io.LimitReader(in, maxConfigFile+1))
	if err != nil {
		return nil, fmt.Errorf("read network config: %w", err)
	}
	if len(value) > maxConfigFile {
		return nil, fmt.Errorf("read network config: %s is longer than %d bytes, which no network config is", name, maxConfigFile)
	}
	return bytes.TrimSpace(value), nil
}

// reading says what a config means, faults first.
func (p *printer) reading(r lease.Reading) {
	for _, err := range r.Faults {
		p.linef("fault: %v", err)
	}
	for _, note := range r.Config.Notes {
		p.linef("note: %s", note)
	}
	if len(r.Faults) > 0 {
		return
	}
	t := newTable()
	t.AppendHeader(table.Row{"SETTING", "VALUE", ""})
	for _, s := range r.Settings() {
		origin := ""
		if s.Default {
			origin = "(default)"
		}
		t.AppendRow(table.Row{s.Name, s.Value, origin})
	}
	p.linef("%s", t.Render())
	p.linef("There is room for %s.", hosts(r.Config.Room()))
}

func hosts(n int) string {
	if n == 1 {
		return "1 host"
	}
	return fmt.Sprintf("%d hosts", n)
}

// StoredConfigStatus is the JSON of vxtap config get. Fields are added, never
// renamed.
type StoredConfigStatus struct {
	Key      string            `json:"key"`
	Revision int64             `json:"revision"` // of its last change
	Value    string            `json:"value"`    // as it is
	Settings map[string]string `json:"settings"` // as hosts understand it; empty if there are faults
	Faults   []string          `json:"faults"`   // why no host would start with it
	Notes    []string          `json:"notes"`
}

func configGet(c *cli.Context, env []string) error {
	return showNetwork(c, env, func(ctx context.Context, n *network, isJSON bool) error {
		stored, err := n.Config(ctx)
		if err != nil {
			return err
		}
		key := n.store.Path("config")
		if stored.Revision == 0 {
			return fmt.Errorf("there is no network config: %s does not exist", key)
		}
		r := lease.ReadConfig(stored.Value)
		if isJSON {
			err = writeSafeJSON(c.App.Writer, storedConfigStatus(key, stored, r))
		} else {
			var p printer
			p.linef("%s, revision %d:\n", key, stored.Revision)
			p.linef("%s\n", quoted(stored.Value))
			p.reading(r)
			err = p.to(c.App.Writer)
		}
		return errors.Join(err, refusal(key, r))
	})
}

// quoted is the first maxConfigFile bytes of a value, for people: indented, so
// that no line of it can be taken for one of ours.
func quoted(value []byte) string {
	more := ""
	if len(value) > maxConfigFile {
		more = fmt.Sprintf("\n  ... and %d bytes more", len(value)-maxConfigFile)
		value = value[:maxConfigFile]
	}
	return "  " + strings.ReplaceAll(string(value), "\n", "\n  ") + more
}

func storedConfigStatus(key string, stored lease.StoredConfig, r lease.Reading) StoredConfigStatus {
	s := StoredConfigStatus{Key: key, Revision: stored.Revision, Value: string(stored.Value), Settings: map[string]string{}, Faults: []string{}, Notes: []string{}}
	s.Notes = append(s.Notes, r.Config.Notes...)
	for _, err := range r.Faults {
		s.Faults = append(s.Faults, err.Error())
	}
	if len(r.Faults) == 0 {
		for _, x := range r.Settings() {
			s.Settings[x.Name] = x.Value
		}
	}
	return s
}
