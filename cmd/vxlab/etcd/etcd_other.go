// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package etcd

import (
	"context"
	"errors"
	"fmt"
)

// Serve is Linux's: elsewhere there is no lab to serve, and its large server
// need not be compiled.
func Serve(context.Context, Config) error {
	return fmt.Errorf("labs are network namespaces, which are Linux's: %w", errors.ErrUnsupported)
}
