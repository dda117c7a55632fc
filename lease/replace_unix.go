// SPDX-License-Identifier: Apache-2.0

//go:build !windows

package lease

import (
	"os"
	"path/filepath"
	"syscall"

	"github.com/google/renameio/v2"
)

// readFlags opens a file to read, and waits for nobody if it is a FIFO.
const readFlags = os.O_RDONLY | syscall.O_NONBLOCK

// replaceFile writes the file at path with mode, at once and for good: it is
// on the disk before it has its name. renameio.WriteFile would keep the mode of
// a file that is there already, whoever gave it.
func replaceFile(path string, b []byte, mode os.FileMode) error {
	f, err := renameio.NewPendingFile(path,
		renameio.WithStaticPermissions(mode),
		renameio.WithTempDir(filepath.Dir(path)))
	if err != nil {
		return err
	}
	defer func() { _ = f.Cleanup() }() // nothing, once it has been renamed
	if _, err := f.Write(b); err != nil {
		return err
	}
	return f.CloseAtomicallyReplace()
}
