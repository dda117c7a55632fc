// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"strings"

	"vxtap/cmd/vxlab/netns"
)

// daemon is a process that moves the frames of a host. It lives in a namespace
// of the lab, and ends with the lab.
type daemon struct {
	name  string
	log   string // path
	cmd   *exec.Cmd
	ended chan struct{} // closed when it has ended
}

// start starts a daemon whose output goes to the file log.
func start(ns *netns.Namespace, name, log string, args ...string) (*daemon, error) {
	out, err := os.Create(log)
	if err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	defer out.Close() // the child has its own
	d := &daemon{name: name, log: log, cmd: exec.Command(args[0], args[1:]...), ended: make(chan struct{})}
	d.cmd.Stdout, d.cmd.Stderr, d.cmd.Dir = out, out, "/"
	if err := ns.Start(d.cmd); err != nil {
		return nil, fmt.Errorf("start %s: %w", name, err)
	}
	go func() {
		_ = d.cmd.Wait()
		close(d.ended)
	}()
	return d, nil
}

// died returns an error with the end of its log if d has ended.
func (d *daemon) died() error {
	select {
	case <-d.ended:
	default:
		return nil
	}
	text, _ := os.ReadFile(d.log)
	lines := strings.Split(strings.TrimSpace(string(text)), "\n")
	return fmt.Errorf("%s ended, %s: %s", d.name, d.cmd.ProcessState, strings.Join(lines[max(0, len(lines)-3):], "; "))
}
