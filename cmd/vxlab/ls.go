// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"

	"github.com/urfave/cli/v2"

	"vxtap/cmd/vxlab/lab"
)

// labInfo is one lab as ls shows it; the JSON form is for programs.
type labInfo struct {
	Name     string     `json:"name"`
	Problem  string     `json:"problem,omitempty"` // why nothing else is known
	Underlay string     `json:"underlay,omitempty"`
	Network  string     `json:"network,omitempty"`
	EtcdURL  string     `json:"etcd_url,omitempty"`
	EtcdUp   bool       `json:"etcd_up"`
	Hosts    []lab.Host `json:"hosts"`
}

// describe tells what is known of a lab.
func describe(l *lab.Lab) labInfo {
	o := l.Options()
	return labInfo{
		Name: l.Name(), Underlay: o.Underlay.String(), Network: o.Network.String(),
		EtcdURL: l.EtcdURL(), EtcdUp: l.EtcdRunning(), Hosts: l.Look(),
	}
}

func lsCommand() *cli.Command {
	return &cli.Command{
		Name:  "ls",
		Usage: "list the labs that stand, and their hosts",
		Flags: []cli.Flag{
			&cli.StringFlag{Name: "o", Value: "table", Usage: "`FORMAT`: table, for people, or json, for programs"},
			nameFlag("all labs"),
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			format := c.String("o")
			if format != "table" && format != "json" {
				return usagef("-o: %q is not one of table, json", format)
			}
			if c.IsSet("name") {
				if err := lab.CheckName(c.String("name")); err != nil {
					return usageError{err}
				}
			}
			labs, err := listLabs(c.String("name"))
			if err != nil {
				return err
			}
			if format == "json" {
				e := json.NewEncoder(c.App.Writer)
				e.SetIndent("", "  ")
				return e.Encode(labs)
			}
			if name := c.String("name"); len(labs) == 0 && name != "" {
				_, err = fmt.Fprintf(c.App.Writer, "no lab %s stands%s\n", name, others(c))
				return err
			}
			if len(labs) == 0 {
				_, err = fmt.Fprintln(c.App.Writer, "no lab stands: put one up with vxlab up")
				return err
			}
			_, err = fmt.Fprintln(c.App.Writer, labTable(labs))
			return err
		},
	}
}

// listLabs describes every lab of which anything is left, also those that
// cannot be opened, or the one of the name only.
func listLabs(only string) ([]labInfo, error) {
	names, err := lab.List()
	if err != nil {
		return nil, err
	}
	labs := make([]labInfo, 0, len(names))
	for _, name := range names {
		if only != "" && name != only {
			continue
		}
		l, err := lab.Load(name)
		if err != nil {
			problem := oneLine(err.Error())
			if errors.Is(err, fs.ErrNotExist) {
				problem = "its records are lost; vxlab down -name " + name + " clears what is left"
			}
			labs = append(labs, labInfo{Name: name, Problem: problem, Hosts: []lab.Host{}})
			continue
		}
		labs = append(labs, describe(l))
	}
	return labs, nil
}
