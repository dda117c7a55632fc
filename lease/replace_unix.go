// SPDX-License-Identifier: Apache-2.0

//go:build !windows

package lease

import (
	"path/filepath"

	"github.com/google/renameio/v2"
)

// replaceFile writes the file at path, mode 0644, at once and for good: it is
// on the disk before it has its name.
func replaceFile(path string, b []byte) error {
	return renameio.WriteFile(path, b, 0o644,
		renameio.WithStaticPermissions(0o644),
		renameio.WithTempDir(filepath.Dir(path)))
}
