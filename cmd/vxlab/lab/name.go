// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"fmt"
	"regexp"
	"strconv"
)

// nsPrefix begins the name of every namespace that is a lab's. Nothing without
// it is ever touched.
const nsPrefix = "vxlab-"

// maxName bounds the name of a lab in bytes. The tightest limit is that of the
// path of a daemon's admin socket, 107 bytes (unix(7)); short names also keep
// tables and prompts readable.
const maxName = 20

var (
	nameForm      = regexp.MustCompile(`^[a-z0-9]+(-[a-z0-9]+)*$`)
	namespaceForm = regexp.MustCompile(`^` + nsPrefix + `([a-z0-9-]+)-(net|[hc][1-9][0-9]{0,2})$`)
	nodeForm      = regexp.MustCompile(`^(net|[hc][1-9][0-9]{0,2})$`)
)

// CheckName says what is wrong with the name of a lab, if anything.
func CheckName(name string) error {
	if len(name) > maxName || !nameForm.MatchString(name) {
		return fmt.Errorf("%q cannot be the name of a lab: use up to %d of a-z, 0-9 and single dashes inside", name, maxName)
	}
	return nil
}

// Underlay is the node where the underlay's bridge and etcd are.
const Underlay = "net"

// HostNode returns the node name of host n, "h1" for the first.
func HostNode(n int) string { return "h" + strconv.Itoa(n) }

// ContainerNode returns the node name of host n's container, "c1" for the
// first.
func ContainerNode(n int) string { return "c" + strconv.Itoa(n) }

// CheckNode says what is wrong with the name of a node, if anything.
func CheckNode(node string) error {
	_, err := nodeNumber(node)
	return err
}

// nodeNumber returns the number of a host or container node, and 0 for the
// underlay.
func nodeNumber(node string) (int, error) {
	if !nodeForm.MatchString(node) {
		return 0, fmt.Errorf("%q is no node: use h1 for the first host, c1 for its container, net for the underlay", node)
	}
	if node == Underlay {
		return 0, nil
	}
	return strconv.Atoi(node[1:])
}

// NamespaceName returns the name of the namespace of a node of a lab.
func NamespaceName(lab, node string) string { return nsPrefix + lab + "-" + node }

// splitNamespace is the way back from NamespaceName. No node has a dash in it,
// so that there is one reading even of labs named "a" and "a-h1".
func splitNamespace(name string) (lab, node string, ok bool) {
	m := namespaceForm.FindStringSubmatch(name)
	if m == nil || CheckName(m[1]) != nil {
		return "", "", false
	}
	return m[1], m[2], true
}
