// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"strings"
	"testing"
)

func TestCheckName(t *testing.T) {
	for _, name := range []string{"a", "lab", "demo-2", "0", "a-h1", strings.Repeat("x", maxName)} {
		if err := CheckName(name); err != nil {
			t.Errorf("CheckName(%q): got %v, want nil", name, err)
		}
	}
	for _, name := range []string{
		"", "-", "-a", "a-", "a--b", "A", "a_b", "a.b", "a/b", "..", "../x", "a b", "ä", "a\n", strings.Repeat("x", maxName+1),
	} {
		if err := CheckName(name); err == nil {
			t.Errorf("CheckName(%q): got nil, want an error", name)
		}
	}
}

func TestANamespaceNameIsReadBackInOneWay(t *testing.T) {
	for _, lab := range []string{"a", "a-h1", "a-net", "net", "h1", "c1-c1"} {
		for _, node := range []string{Underlay, HostNode(1), HostNode(999), ContainerNode(10)} {
			gotLab, gotNode, ok := splitNamespace(NamespaceName(lab, node))
			if !ok || gotLab != lab || gotNode != node {
				t.Errorf("%s, %s: got %q, %q, %v", lab, node, gotLab, gotNode, ok)
			}
		}
	}
}

func TestForeignNamespacesAreNotOurs(t *testing.T) {
	for _, name := range []string{
		"", "vxlab", "vxlab-", "vxlab-net", "vxlab--net", "vxlab-a", "vxlab-a-", "vxlab-a-x1", "vxlab-a-h", "vxlab-a-h0", "vxlab-a-h01",
		"vxlab-a-h1000", "vxlab-a-net2", "vxlab-A-h1", "vxlab-a--h1", "xvxlab-a-h1", "vxlab-a-h1 ", "vxlab-a-h1\n", "kva", "cni-1234",
		"vxlab-" + strings.Repeat("x", maxName+1) + "-h1",
	} {
		if lab, node, ok := splitNamespace(name); ok {
			t.Errorf("%q: got lab %q, node %q, want nothing of ours", name, lab, node)
		}
	}
}

func TestNodeNumber(t *testing.T) {
	for node, want := range map[string]int{"net": 0, "h1": 1, "c1": 1, "h42": 42, "c999": 999} {
		if got, err := nodeNumber(node); err != nil || got != want {
			t.Errorf("%s: got %d, %v, want %d", node, got, err, want)
		}
	}
	for _, node := range []string{"", "h", "h0", "h-1", "1", "x1", "h1000", "H1", "net1", "h1/../h2"} {
		if got, err := nodeNumber(node); err == nil {
			t.Errorf("%q: got %d, want an error", node, got)
		}
	}
}
