// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"github.com/urfave/cli/v2"

	"vxtap/lease"
	"vxtap/tunnel/host"
	"vxtap/tunnel/rules"
)

const cleanupHelp = `vxtap cleanup removes what outlives the daemon on this host, and says what it
removed: the rules for masquerading and forwarding, the blackhole route, direct
routes to peers, and sockets of daemons that died. It refuses to while a daemon runs.

  vxtap cleanup
  vxtap cleanup -flanneld

The rules have flannel's names: those that a flanneld left go as well. The lease
in etcd, the subnet file, and in /var/lib/vxtap (-state-dir) what the host last
knew stay, so that it can get its subnet and its MAC back: who wants none of it
releases the lease (vxtap lease release) and removes the directory by hand.
`

func cleanupFlags() []cli.Flag {
	return []cli.Flag{
		textFlag("run-dir", defaultRunDir, "`DIR` of the daemon's socket"),
		textFlag("subnet-file", defaultSubnetFile, "`FILE` that says which subnet flanneld's blackhole route is for; used with -flanneld"),
		boolFlag("flanneld", false, "remove besides what only a flanneld leaves: kernel vxlan devices flannel.<VNI> and flannel-v6.<VNI>, its blackhole route"),
	}
}

// cleanupCommand is vxtap cleanup.
func cleanupCommand(c *cli.Context, env []string) error {
	if err := errors.Join(flagsBefore(c), noArguments(c)); err != nil {
		return err
	}
	value := func(name string) string {
		if _, v := fromEnvironment(env, name); v != "" && !c.IsSet(name) {
			return v
		}
		return c.String(name)
	}
	if err := refuseWhileRunning(c, value("run-dir")); err != nil {
		return err
	}
	var errs []error
	removed := 0
	note := func(names []string, err error) {
		for _, n := range names {
			fmt.Fprintf(c.App.Writer, "removed %s\n", n)
		}
		removed += len(names)
		errs = append(errs, err)
	}
	flanneld := c.Bool("flanneld")
	if flanneld {
		note(host.RemoveKernelVXLAN())
	}
	note(rules.Remove(c.Context))
	var theirs netip.Prefix
	if flanneld {
		// Without the file, or with a broken one, there is no route to look for.
		subnet, err := lease.ReadSubnetEnv(value("subnet-file"))
		if err != nil && !errors.Is(err, fs.ErrNotExist) {
			errs = append(errs, err)
		}
		theirs = subnet.Subnet
	}
	note(host.RemoveBlackholes(theirs))
	note(host.RemoveDirectRoutes(netip.Prefix{}))
	note(removeSockets(value("run-dir")))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	if removed == 0 {
		fmt.Fprintln(c.App.Writer, "nothing to remove")
	}
	return nil
}

// refuseWhileRunning returns an error if a daemon is at work on this host, which
// would set everything again.
func refuseWhileRunning(c *cli.Context, dir string) error {
	sockets, err := filepath.Glob(filepath.Join(dir, "*"+socketSuffix))
	if err != nil {
		return usagef("-run-dir: %q is no directory", dir)
	}
	for _, path := range sockets {
		device := strings.TrimSuffix(filepath.Base(path), socketSuffix)
		if err := checkAdmin(c.Context, dir, device); err != nil {
			return fmt.Errorf("a daemon is at work: %w", err)
		}
	}
	p, ok := host.ProcessNamed("vxtap")
	if !ok {
		p, ok = host.Flanneld()
	}
	if ok {
		return fmt.Errorf("%s is at work: stop it first", p)
	}
	return nil
}

// removeSockets removes what dead daemons left in the run directory.
func removeSockets(dir string) (removed []string, err error) {
	sockets, err := filepath.Glob(filepath.Join(dir, "*"+socketSuffix))
	for _, path := range sockets {
		if fi, err := os.Lstat(path); err != nil || fi.Mode().Type() != fs.ModeSocket {
			continue
		}
		if err := os.Remove(path); err != nil {
			return removed, fmt.Errorf("remove socket: %w", err)
		}
		removed = append(removed, "socket "+path)
	}
	return removed, err
}
