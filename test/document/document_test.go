// SPDX-License-Identifier: Apache-2.0

package document

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
)

func TestInsert(t *testing.T) {
	const others = "before\n<!-- make other: begin -->\nkept\n<!-- make other: end -->\n"
	tests := []struct{ name, before, after string }{
		{"figures of before", others + Begin("x") + "FORMER\n" + End("x") + "after\n", others + Begin("x") + "new\n" + End("x") + "after\n"},
		{"none yet", Begin("x") + End("x"), Begin("x") + "new\n" + End("x")},
		{"an empty file", "", ""},
		{"a file of somebody else's", "text\n", ""},
		{"another program's marks", others, ""},
		{"a beginning only", Begin("x"), ""},
		{"the end first", End("x") + Begin("x"), ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "doc.md")
			if err := os.WriteFile(file, []byte(tt.before), 0o600); err != nil {
				t.Fatal(err)
			}
			want, refused := tt.after, tt.after == ""
			if refused {
				want = tt.before
			}
			if err := Check(file, "x"); (err != nil) != refused {
				t.Errorf("check: got %v, want an error: %v", err, refused)
			}
			for range 2 {
				if err := Insert(file, "x", []byte("new\n")); (err != nil) != refused {
					t.Errorf("got %v, want an error: %v", err, refused)
				}
			}
			if got, err := os.ReadFile(file); err != nil || string(got) != want {
				t.Errorf("got %q and %v, want %q", got, err, want)
			}
		})
	}
}

func TestNoFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "none.md")
	if err := Insert(file, "x", nil); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v", err)
	}
}
