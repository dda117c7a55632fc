// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package netns

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os/exec"
	"runtime"
)

// Namespace cannot be opened on this platform: Create and Open always fail, so
// that no method is ever reached.
type Namespace struct{ name string }

func unsupported() error {
	return fmt.Errorf("%s has no network namespaces as Linux has them: %w", runtime.GOOS, errors.ErrUnsupported)
}

// Create is not there on this platform.
func Create(string) (*Namespace, error) { return nil, unsupported() }

// Open is not there on this platform.
func Open(string) (*Namespace, error) { return nil, unsupported() }

// Delete is not there on this platform.
func Delete(string) error { return unsupported() }

// AddVeth is not there on this platform.
func AddVeth(*Namespace, string, *Namespace, string, int) error { return unsupported() }

// Name returns the name under which n was opened.
func (n *Namespace) Name() string { return n.name }

// Close does nothing.
func (n *Namespace) Close() error { return nil }

// Do is not there on this platform.
func (n *Namespace) Do(func() error) error { return unsupported() }

// AddBridge is not there on this platform.
func (n *Namespace) AddBridge(string, int) error { return unsupported() }

// Attach is not there on this platform.
func (n *Namespace) Attach(string, string) error { return unsupported() }

// DeleteLink is not there on this platform.
func (n *Namespace) DeleteLink(string) error { return unsupported() }

// SetUp is not there on this platform.
func (n *Namespace) SetUp(string) error { return unsupported() }

// SetDown is not there on this platform.
func (n *Namespace) SetDown(string) error { return unsupported() }

// SetMTU is not there on this platform.
func (n *Namespace) SetMTU(string, int) error { return unsupported() }

// AddAddr is not there on this platform.
func (n *Namespace) AddAddr(string, netip.Prefix) error { return unsupported() }

// DeleteAddrs is not there on this platform.
func (n *Namespace) DeleteAddrs(string) error { return unsupported() }

// Addrs is not there on this platform.
func (n *Namespace) Addrs(string) ([]netip.Addr, error) { return nil, unsupported() }

// AddRoute is not there on this platform.
func (n *Namespace) AddRoute(netip.Prefix, netip.Addr) error { return unsupported() }

// Interface is not there on this platform.
func (n *Namespace) Interface(string) (*net.Interface, error) { return nil, unsupported() }

// SetSysctl is not there on this platform.
func (n *Namespace) SetSysctl(string, string) error { return unsupported() }

// Start is not there on this platform.
func (n *Namespace) Start(*exec.Cmd) error { return unsupported() }

// Exec is not there on this platform.
func (n *Namespace) Exec(string, []string, []string) error { return unsupported() }

// Processes is not there on this platform.
func (n *Namespace) Processes() ([]int, error) { return nil, unsupported() }

// KillProcesses is not there on this platform.
func (n *Namespace) KillProcesses(context.Context) (int, error) { return 0, unsupported() }
