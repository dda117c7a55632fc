// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
)

func lock(context.Context, string, bool) (*os.File, error) {
	return nil, fmt.Errorf("a lab needs the network namespaces of Linux, which %s has not: %w", runtime.GOOS, errors.ErrUnsupported)
}
