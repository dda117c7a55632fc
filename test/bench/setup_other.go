// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
)

type bench struct {
	contestants []*contestant
	leftOut     []string
}

func setUp(context.Context, settings, io.Writer) (*bench, error) {
	return nil, fmt.Errorf("kernel VXLAN and namespaces are Linux's: %w", errors.ErrUnsupported)
}

func (b *bench) takeDown() error { return nil }

func machine() string { return "" }
