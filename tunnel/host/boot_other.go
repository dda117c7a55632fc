// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package host

import "time"

// Boot returns nothing: the clock on the wall has to do.
func Boot() (name string, up time.Duration) { return "", 0 }
