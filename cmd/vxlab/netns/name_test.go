// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"errors"
	"io/fs"
	"strings"
	"testing"
)

func TestNamesThatWouldLeaveTheDirectoryAreRefused(t *testing.T) {
	for _, name := range []string{"", ".", "..", "../x", "a/b", "/etc/passwd", "a\x00b", strings.Repeat("n", 256)} {
		if err := checkName(name); !errors.Is(err, fs.ErrInvalid) {
			t.Errorf("checkName(%q): got %v, want fs.ErrInvalid", name, err)
		}
		if Exists(name) {
			t.Errorf("Exists(%q): got true, want false", name)
		}
	}
	for _, name := range []string{"h1", "vxlab-a-net", "a.b", "..a", strings.Repeat("n", 255)} {
		if err := checkName(name); err != nil {
			t.Errorf("checkName(%q): got %v, want nil", name, err)
		}
	}
}
