// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"

	"github.com/urfave/cli/v2"
)

// strays returns the names of variables VXTAP_* that stand for none of flags, each
// once and sorted: mistyped ones, which would be passed over without a word. Their
// values may be secrets. Those of flanneld's are not looked at, since a flanneld of
// another version may have more flags; an empty variable says nothing anyway.
func strays(env []string, flags []cli.Flag) []string {
	var names []string
	for _, e := range env {
		name, v, _ := strings.Cut(e, "=")
		suffix, ours := strings.CutPrefix(name, "VXTAP_")
		if !ours || v == "" || isSetForUs(suffix) {
			continue
		}
		if !slices.ContainsFunc(flags, func(f cli.Flag) bool { return variableSuffix(f.Names()[0]) == suffix }) {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// isSetForUs reports whether a variable is one that others set with no thought of
// our flags: container images their version, and Kubernetes and Docker's links
// where a service called vxtap is (Kubernetes, "Discovering services").
func isSetForUs(suffix string) bool {
	return suffix == "VERSION" || suffix == "PORT" || strings.HasPrefix(suffix, "PORT_") || strings.HasPrefix(suffix, "SERVICE_")
}
