// SPDX-License-Identifier: Apache-2.0

package main

import (
	"net/netip"

	"github.com/urfave/cli/v2"

	"vxtap/cmd/vxlab/etcd"
	"vxtap/cmd/vxlab/lab"
)

// serverCommand is how package lab starts the etcd server of a lab: it must
// outlive the command that puts the lab up, and live in a namespace.
func serverCommand() *cli.Command {
	return &cli.Command{
		Name:   lab.EtcdCommand,
		Usage:  "serve the etcd of a lab, until SIGTERM",
		Hidden: true,
		Flags: []cli.Flag{
			&cli.StringFlag{Name: lab.EtcdDirFlag, Usage: "`DIR` of the data"},
			&cli.StringFlag{Name: lab.EtcdClientFlag, Usage: "`ADDRESS:PORT` for clients"},
			&cli.StringFlag{Name: lab.EtcdPeerFlag, Usage: "`ADDRESS:PORT` for members"},
			&cli.StringFlag{Name: lab.EtcdKeyFlag, Usage: "`KEY` to make at the first start"},
			&cli.StringFlag{Name: lab.EtcdValueFlag, Usage: "`VALUE` of the key"},
		},
		Action: func(c *cli.Context) error {
			if err := noArguments(c); err != nil {
				return err
			}
			config := etcd.Config{Dir: c.String(lab.EtcdDirFlag), Key: c.String(lab.EtcdKeyFlag), Value: c.String(lab.EtcdValueFlag)}
			for _, f := range []struct {
				name string
				to   *netip.AddrPort
			}{{lab.EtcdClientFlag, &config.Client}, {lab.EtcdPeerFlag, &config.Peer}} {
				var err error
				if *f.to, err = netip.ParseAddrPort(c.String(f.name)); err != nil {
					return usagef("-%s: %w", f.name, err)
				}
			}
			return etcd.Serve(c.Context, config)
		},
	}
}
