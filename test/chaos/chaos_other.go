// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package main

import (
	"context"
	"errors"
	"fmt"
	"io"
)

func chaos(context.Context, settings, io.Writer) (figures, error) {
	return figures{}, fmt.Errorf("namespaces are Linux's: %w", errors.ErrUnsupported)
}
