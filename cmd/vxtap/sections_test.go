// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"strings"
	"testing"
)

// docs/operations.md is long, and its list is how a reader finds the way. That the
// links of it lead somewhere is looked at in test/arch.
func TestOperationsListsItsSections(t *testing.T) {
	b, err := os.ReadFile("../../docs/operations.md")
	if err != nil {
		t.Fatal(err)
	}
	list, rest, found := strings.Cut(string(b), "\n## ")
	if !found {
		t.Fatal("docs/operations.md has no sections")
	}
	for section := range strings.SplitSeq("\n"+rest, "\n## ") {
		title, _, _ := strings.Cut(strings.TrimSpace(section), "\n")
		anchor := strings.NewReplacer(" ", "-", "'", "", ",", "").Replace(strings.ToLower(title))
		if !strings.Contains(list, "](#"+anchor+")") {
			t.Errorf("the list at the top has no link to %q (#%s)", title, anchor)
		}
	}
}
