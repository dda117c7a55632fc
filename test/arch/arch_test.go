// SPDX-License-Identifier: Apache-2.0

package arch

import (
	"os"
	"testing"
)

// TestTree holds the repository to its rules.
func TestTree(t *testing.T) {
	t.Parallel()
	repo, err := load(os.DirFS("../.."))
	if err != nil {
		t.Fatal(err)
	}
	if !repo.paths["go.mod"] || !repo.paths["encap/doc.go"] {
		t.Fatal("this is not the tree of the module: go.mod or encap/doc.go is not there")
	}
	for _, r := range rules() {
		t.Run(r.name, func(t *testing.T) {
			t.Parallel()
			for _, f := range r.check(repo) {
				t.Error(f)
			}
		})
	}
}
