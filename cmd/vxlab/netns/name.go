// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
)

// Dir is where the names of namespaces are files, as iproute2 has it.
const Dir = "/run/netns"

// maxName is the longest file name that Linux takes (NAME_MAX).
const maxName = 255

// checkName refuses what is no plain file name: a name with a slash would
// create or delete something outside Dir.
func checkName(name string) error {
	if name == "" || name == "." || name == ".." || len(name) > maxName || strings.ContainsAny(name, "/\x00") {
		return fmt.Errorf("%q cannot be the name of a network namespace: %w", name, fs.ErrInvalid)
	}
	return nil
}

func path(name string) string { return filepath.Join(Dir, name) }

// Exists reports whether there is a file for the namespace name. After a
// reboot or a crash it may be a file with nothing mounted on it, which Open
// refuses and Delete removes.
func Exists(name string) bool {
	if checkName(name) != nil {
		return false
	}
	_, err := os.Lstat(path(name))
	return err == nil
}

// List returns the names that begin with prefix, sorted. No directory means no
// names.
func List(prefix string) ([]string, error) {
	entries, err := os.ReadDir(Dir)
	if err != nil && !os.IsNotExist(err) {
		return nil, fmt.Errorf("list network namespaces: %w", err)
	}
	var names []string
	for _, e := range entries {
		if strings.HasPrefix(e.Name(), prefix) {
			names = append(names, e.Name())
		}
	}
	return names, nil
}
