// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"

	"github.com/urfave/cli/v2"

	"vxtap/cmd/vxlab/lab"
)

func downCommand() *cli.Command {
	return &cli.Command{
		Name:  "down",
		Usage: "take down a lab, or what a crash has left of one",
		Flags: []cli.Flag{
			nameFlag(lab.DefaultName),
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
					fmt.Fprintf(c.App.Writer, "no lab %s stands: nothing to do%s\n", name, others(c))
				}
			}
			return errors.Join(errs...)
		},
	}
}

// others names the labs that do stand, for whoever gave no name.
func others(c *cli.Context) string {
	names, err := lab.List()
	if c.Command.Name == "down" && c.IsSet("name") || err != nil || len(names) == 0 {
		return ""
	}
	return " (there is " + strings.Join(names, ", ") + ")"
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
	// Without a name it is the lab that up makes without a name, and never
	// whatever else happens to stand: it may be somebody's work.
	name := lab.DefaultName
	if c.IsSet("name") {
		name = c.String("name")
	}
	if err := lab.CheckName(name); err != nil {
		return nil, usageError{err}
	}
	return []string{name}, nil
}
