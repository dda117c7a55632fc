// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"time"

	"github.com/urfave/cli/v2"

	"vxtap/cmd/vxlab/lab"
	"vxtap/encap/vxlan"
)

// buildFlags are the flags that say what lab to build.
func buildFlags(defaultName string) []cli.Flag {
	return []cli.Flag{
		&cli.IntFlag{Name: "n", Value: 3, Usage: "how many `HOSTS`"},
		nameFlag(defaultName),
		&cli.IntFlag{Name: "mtu", Value: 1500, Usage: "MTU of the underlay in `BYTES`; the overlay has 50 less"},
		&cli.StringFlag{Name: "underlay", Value: "192.168.77.0/24", Usage: "`NETWORK` of the hosts"},
		&cli.StringFlag{Name: "network", Value: "172.30.0.0/16", Usage: "`NETWORK` of the overlay"},
		&cli.IntFlag{Name: "subnet-len", Value: 24, Usage: "prefix length in `BITS` of what a host leases"},
		&cli.UintFlag{Name: "vni", Usage: "`VNI` of the overlay", DefaultText: "1"},
		&cli.UintFlag{Name: "port", Usage: "UDP `PORT` of the overlay", DefaultText: "8472"},
		&cli.StringFlag{Name: "vxtap", Usage: "`PATH` of the daemon", DefaultText: "vxtap beside vxlab"},
		&cli.StringSliceFlag{Name: "vxtap-arg", Usage: "one more `FLAG` for every daemon, as -vxtap-arg=-v=1; may be repeated"},
	}
}

// buildOptions turns the flags into options, without looking at the machine
// beyond the place of the daemon.
func buildOptions(c *cli.Context, defaultName string, progress io.Writer) (lab.Options, error) {
	if err := noArguments(c); err != nil {
		return lab.Options{}, err
	}
	o := lab.Options{
		Name: c.String("name"), Hosts: c.Int("n"), MTU: c.Int("mtu"), SubnetLen: c.Int("subnet-len"),
		Vxtap: c.String("vxtap"), Args: c.StringSlice("vxtap-arg"), Progress: progress,
	}
	if o.Name == "" {
		o.Name = defaultName
	}
	// Options take 0 for "the default", a flag that says 0 does not.
	for _, flag := range []string{"n", "mtu", "subnet-len"} {
		if c.Int(flag) <= 0 {
			return o, usagef("-%s: %d is not a positive number", flag, c.Int(flag))
		}
	}
	if v := c.Uint("vni"); v > uint(vxlan.MaxVNI) {
		return o, usagef("-vni: %d does not fit 24 bits", v)
	}
	if v := c.Uint("port"); v > 65535 {
		return o, usagef("-port: %d is no UDP port", v)
	}
	o.VNI, o.Port = vxlan.VNI(c.Uint("vni")), uint16(c.Uint("port"))
	var errs [2]error
	o.Underlay, errs[0] = prefixFlag(c, "underlay")
	o.Network, errs[1] = prefixFlag(c, "network")
	if err := errors.Join(errs[:]...); err != nil {
		return o, err
	}
	if o.Vxtap == "" {
		var err error
		if o.Vxtap, err = besideUs("vxtap"); err != nil {
			return o, err
		}
	}
	if err := o.Validate(); err != nil {
		return o, usageError{err}
	}
	return o, nil
}

func prefixFlag(c *cli.Context, name string) (netip.Prefix, error) {
	p, err := netip.ParsePrefix(c.String(name))
	if err != nil {
		return p, usagef("-%s: %q is not a network, as 10.1.0.0/16", name, c.String(name))
	}
	return p, nil
}

// besideUs returns the path of a program in the directory of this one.
func besideUs(name string) (string, error) {
	self, err := os.Executable()
	if err == nil {
		self, err = filepath.EvalSymlinks(self)
	}
	if err != nil {
		return "", fmt.Errorf("find own program: %w", err)
	}
	return filepath.Join(filepath.Dir(self), name), nil
}

func upCommand() *cli.Command {
	return &cli.Command{
		Name:  "up",
		Usage: "put up a lab and leave it standing",
		Flags: buildFlags(lab.DefaultName),
		Action: func(c *cli.Context) error {
			o, err := buildOptions(c, lab.DefaultName, c.App.Writer)
			if err == nil {
				err = needRoot(c)
			}
			if err != nil {
				return err
			}
			begun := time.Now()
			l, err := lab.Up(c.Context, o)
			if err != nil {
				return explainUp(err)
			}
			fmt.Fprintf(c.App.Writer, "lab %s stands after %.1f s\n\n", l.Name(), time.Since(begun).Seconds())
			name := nameArg(l.Name())
			_, err = fmt.Fprintf(c.App.Writer, "%s\n\nlook into it:  vxlab exec%s h1 -- vxtap status\ntake it down:  vxlab down%s\n",
				labTable([]labInfo{describe(l)}), name, name)
			return err
		},
	}
}

// explainUp adds what to do to the faults of a machine that are not ours.
func explainUp(err error) error {
	if errors.Is(err, os.ErrPermission) {
		return fmt.Errorf("%w: root in a container also needs CAP_SYS_ADMIN and CAP_NET_ADMIN", err)
	}
	return err
}
