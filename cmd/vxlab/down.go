// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"

	"github.com/urfave/cli/v2"

	"vxtap/cmd/vxlab/lab"
)

func downCommand() *cli.Command {
	return &cli.Command{
		Name:  "down",
		Usage: "take down a lab, or what a crash has left of one",
		Flags: []cli.Flag{
			nameFlag("lab, or the only one"),
			&cli.BoolFlag{Name: "all", Usage: "all labs"},
		},
		Action: func(c *cli.Context) error {
			names, err := downNames(c)
			if err == nil {
				err = needRoot(c)
			}
			if err != nil {
				return err
			}
			if len(names) == 0 {
				fmt.Fprintln(c.App.Writer, "no lab stands: nothing to do")
			}
			var errs []error
			for _, name := range names {
				found, err := lab.Down(c.Context, name)
				switch {
				case err != nil:
					errs = append(errs, err)
				case found:
					fmt.Fprintf(c.App.Writer, "lab %s is down\n", name)
				default:
					fmt.Fprintf(c.App.Writer, "no lab %s stands: nothing to do\n", name)
				}
			}
			return errors.Join(errs...)
		},
	}
}

// downNames returns which labs are to go; none if there is none.
func downNames(c *cli.Context) ([]string, error) {
	if err := noArguments(c); err != nil {
		return nil, err
	}
	if c.Bool("all") {
		if c.IsSet("name") {
			return nil, usagef("-name and -all exclude each other")
		}
		return lab.List()
	}
	name, err := standing(c.String("name"))
	if err != nil || name == "" {
		return nil, err
	}
	return []string{name}, nil
}
