// SPDX-License-Identifier: Apache-2.0

package lease

import "os"

// readFlags opens a file to read.
const readFlags = os.O_RDONLY

// replaceFile writes the file at path. Windows has no atomic replacement of a
// file that somebody has open.
func replaceFile(path string, b []byte, mode os.FileMode) error { return os.WriteFile(path, b, mode) }
