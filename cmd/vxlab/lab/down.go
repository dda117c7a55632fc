// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"

	"vxtap/cmd/vxlab/netns"
)

// removeWait bounds the removal of a lab: processes get three seconds of grace,
// the rest is the kernel's work.
const removeWait = 20 * time.Second

// Down takes the lab down. A lab that is down already is no error.
func (l *Lab) Down(ctx context.Context) error {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.expectDeaths()
	_, err := Down(ctx, l.options.Name)
	l.reap(err)
	return err
}

// Down takes down whatever there is of the lab name: its processes, its
// namespaces with all that live in them, its files. It needs no records, and
// reports whether there was anything.
func Down(ctx context.Context, name string) (bool, error) {
	if err := CheckName(name); err != nil {
		return false, err
	}
	names, err := List()
	if err != nil || !slices.Contains(names, name) {
		return false, err
	}
	held, err := lock(ctx, name, true)
	if err != nil {
		return false, err
	}
	defer held.Close()
	return remove(ctx, name)
}

// labNamespaces returns the nodes that have a namespace, by lab.
func labNamespaces() (map[string][]string, error) {
	names, err := netns.List(nsPrefix)
	if err != nil {
		return nil, err
	}
	nodes := map[string][]string{}
	for _, name := range names {
		if lab, node, ok := splitNamespace(name); ok {
			nodes[lab] = append(nodes[lab], node)
		}
	}
	return nodes, nil
}

// remove is Down under the lock.
func remove(ctx context.Context, name string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, removeWait)
	defer cancel()
	recorded := recordedProcesses(name)
	namespaces, err := labNamespaces()
	if err != nil {
		return false, err
	}
	err = removeNodes(ctx, name, namespaces[name])
	// In a namespace whose name somebody has deleted, a process lives on. It
	// has had no signal yet: a second SIGTERM means "at once" to vxtap.
	group, ctx := errgroup.WithContext(ctx)
	for _, id := range recorded {
		group.Go(func() error { return id.end(ctx, syscall.SIGTERM) })
	}
	if err := errors.Join(err, group.Wait()); err != nil {
		return true, fmt.Errorf("take down lab %s: %w", name, err)
	}
	// The directory goes last: it is how a later Down knows that there is
	// something left.
	if err := os.RemoveAll(StateDir(name)); err != nil {
		return true, fmt.Errorf("take down lab %s: %w", name, err)
	}
	return true, nil
}

// recordedProcesses returns those of the records that can still be ours. No
// records, or broken ones, are no processes: the namespaces show the rest.
func recordedProcesses(name string) []identity {
	s, err := readState(name)
	if err != nil || s.Boot != bootID() {
		return nil
	}
	ids := []identity{s.Etcd}
	for _, h := range s.Hosts {
		ids = append(ids, h.Daemon)
	}
	return slices.DeleteFunc(ids, func(id identity) bool { return !id.alive() })
}

// removeNodes ends what lives in the namespaces of some nodes and deletes
// them. Nodes without a namespace are left out.
func removeNodes(ctx context.Context, name string, nodes []string) error {
	group, groupCtx := errgroup.WithContext(ctx)
	for _, node := range nodes {
		group.Go(func() error { return removeNamespace(groupCtx, NamespaceName(name, node)) })
	}
	return group.Wait()
}

func removeNamespace(ctx context.Context, name string) error {
	ns, err := netns.Open(name)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return nil
	case err == nil:
		_, err = ns.KillProcesses(ctx)
		ns.Close()
		if err != nil {
			return err
		}
	case !errors.Is(err, fs.ErrInvalid):
		return err
	}
	// Also a file on which nothing is mounted goes.
	if err := netns.Delete(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	return nil
}
