// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package rules

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"
)

func unsupported() error {
	return fmt.Errorf("rules for the packet filter are there for Linux only, not yet for %s: %w", runtime.GOOS, errors.ErrUnsupported)
}

// Choose returns the kind that Apply would refuse.
func Choose(bool, netip.Prefix) (k Kind, why string) { return NFTables, "" }

// RandomFully reports nothing.
func RandomFully(context.Context, Kind, netip.Prefix) bool { return false }

// Apply reports that this platform is not supported yet.
func Apply(context.Context, Plan) (changed []string, err error) { return nil, unsupported() }

// Retire reports that this platform is not supported yet.
func Retire(context.Context, Plan) (removed []string, err error) { return nil, unsupported() }

// Remove reports that this platform is not supported yet.
func Remove(context.Context) (removed []string, err error) { return nil, unsupported() }

// Dropping reports that this platform is not supported yet.
func Dropping(Plan) ([]string, error) { return nil, unsupported() }
