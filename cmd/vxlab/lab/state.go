// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"

	"vxtap/encap/ether"
)

// Dir has a directory for each lab: lab.json, etcd's data and log, and for each
// host its log, its subnet.env and its run directory.
const Dir = "/run/vxlab"

// StateDir returns the directory of a lab.
func StateDir(lab string) string { return filepath.Join(Dir, lab) }

// state is lab.json: what a later command must know to find its way in a lab.
// It holds no path that anything is deleted by; those follow from the name.
type state struct {
	Options Options     `json:"options"`
	Boot    string      `json:"boot"`           // the kernel's boot ID: identities mean nothing after a reboot
	Owner   identity    `json:"owner,omitzero"` // see Options.Owned
	Etcd    identity    `json:"etcd,omitzero"`
	Hosts   []hostState `json:"hosts"` // by number, without gaps from 1
}

// hostState is one host of lab.json.
type hostState struct {
	Bare   bool         `json:"bare,omitempty"` // no daemon and no container
	Args   []string     `json:"args,omitempty"` // flags of this daemon only
	Daemon identity     `json:"daemon,omitzero"`
	Subnet netip.Prefix `json:"subnet"` // zero until the first lease
	MTU    int          `json:"mtu"`
	MAC    ether.MAC    `json:"mac"`

	IPv6Subnet netip.Prefix `json:"ipv6_subnet,omitzero"` // zero where there is none
}

// maxState bounds lab.json in bytes: a lab of 999 hosts has 250 KB.
const maxState = 4 << 20

// bootID returns the kernel's name for this boot, and "" where there is none.
func bootID() string {
	b, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return string(bytes.TrimSpace(b))
}

// readState reads lab.json of a lab. A lab without one is an error that
// matches fs.ErrNotExist.
func readState(name string) (state, error) {
	f, err := os.Open(filepath.Join(StateDir(name), "lab.json"))
	if err != nil {
		return state{}, fmt.Errorf("read the records of lab %s: %w", name, err)
	}
	defer f.Close()
	b, err := io.ReadAll(io.LimitReader(f, maxState+1))
	if err != nil {
		return state{}, fmt.Errorf("read the records of lab %s: %w", name, err)
	}
	s, err := parseState(name, b)
	if err != nil {
		return state{}, fmt.Errorf("read the records of lab %s: %s: %w", name, f.Name(), err)
	}
	return s, nil
}

// parseState checks all that the rest of the package relies on.
func parseState(name string, b []byte) (state, error) {
	var s state
	if len(b) > maxState {
		return state{}, fmt.Errorf("longer than %d bytes", maxState)
	}
	if err := json.Unmarshal(b, &s); err != nil {
		return state{}, err
	}
	if s.Options.Name != name {
		return state{}, fmt.Errorf("the records are of a lab %q", s.Options.Name)
	}
	if err := s.Options.check(); err != nil {
		return state{}, err
	}
	var errs []error
	if len(s.Hosts) > s.Options.maxHosts() {
		errs = append(errs, fmt.Errorf("%d hosts are more than there can be", len(s.Hosts)))
	}
	for i, h := range s.Hosts {
		if h.Subnet.IsValid() && (h.Subnet != h.Subnet.Masked() || !h.Subnet.Addr().Is4() || h.Subnet.Bits() > 30) {
			errs = append(errs, fmt.Errorf("h%d: %s is not a subnet", i+1, h.Subnet))
		}
	}
	for i, h := range s.Hosts {
		if p := h.IPv6Subnet; p.IsValid() && (p != p.Masked() || !p.Addr().Is6() || p.Addr().Is4In6() || p.Bits() > 126) {
			errs = append(errs, fmt.Errorf("h%d: %s is not an IPv6 subnet", i+1, p))
		}
	}
	ids := []identity{s.Owner, s.Etcd}
	for _, h := range s.Hosts {
		ids = append(ids, h.Daemon)
	}
	// 1 is init, and a negative number is a group of processes (kill(2)).
	if slices.ContainsFunc(ids, func(id identity) bool { return id != identity{} && id.PID <= 1 }) {
		errs = append(errs, errors.New("a process number is not one of a process that we started"))
	}
	if err := errors.Join(errs...); err != nil {
		return state{}, err
	}
	return s, nil
}

// write puts lab.json in the place of an older one in one step. It is not
// synced to a disk: after a power cut there is no lab.
func (s *state) write() error {
	path := filepath.Join(StateDir(s.Options.Name), "lab.json")
	b, err := json.MarshalIndent(s, "", "\t")
	if err == nil {
		err = os.WriteFile(path+".new", b, 0o644)
	}
	if err == nil {
		err = os.Rename(path+".new", path)
	}
	if err != nil {
		return fmt.Errorf("write the records of lab %s: %w", s.Options.Name, err)
	}
	return nil
}

// abandoned reports whether the lab's owner is gone, or the machine has been
// started again since.
func (s *state) abandoned() bool {
	return s.Boot != bootID() || s.Owner != identity{} && !s.Owner.alive()
}

// List returns the names of all labs of which anything is left: a directory or
// a namespace.
func List() ([]string, error) {
	entries, err := os.ReadDir(Dir)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list labs: %w", err)
	}
	var names []string
	for _, e := range entries {
		if e.IsDir() && CheckName(e.Name()) == nil {
			names = append(names, e.Name())
		}
	}
	namespaces, err := labNamespaces()
	if err != nil {
		return nil, err
	}
	for name := range namespaces {
		names = append(names, name)
	}
	slices.Sort(names)
	return slices.Compact(names), nil
}
