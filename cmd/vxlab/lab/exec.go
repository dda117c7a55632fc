// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
)

// Exec replaces this program by a command inside a node, and returns only if
// that fails. The command finds the lab's vxtap first in its PATH, and in its
// environment, beside env:
//
//	VXTAP_ETCD_ENDPOINTS, VXTAP_ETCD_PREFIX            the lab's network: "vxtap lease show" works
//	VXTAP_RUN_DIR, VXTAP_STATE_DIR, VXTAP_SUBNET_FILE  where the host's daemon has its files: "vxtap
//	                                                   status" works, and one that is started by hand
//	                                                   leaves the machine's own files alone
//	ETCDCTL_ENDPOINTS                                  the lab's etcd
//	VXLAB_NAME, VXLAB_NODE                             the lab, and the node
func (l *Lab) Exec(node string, argv, env []string) error {
	if len(argv) == 0 {
		return errors.New("no command is given")
	}
	n, err := nodeNumber(node)
	if err != nil {
		return err
	}
	ns, err := l.Namespace(node)
	if err != nil {
		return err
	}
	defer ns.Close()
	dirs := filepath.Dir(l.options.Vxtap)
	if path := lookup(env, "PATH"); path != "" {
		dirs += string(filepath.ListSeparator) + path
	}
	program, err := findProgram(argv[0], dirs)
	if err != nil {
		return err
	}
	return ns.Exec(program, argv, l.environment(node, n, env, dirs))
}

// environment is env as Exec gives it to a command in a node of number n, 0 for
// the underlay.
func (l *Lab) environment(node string, n int, env []string, path string) []string {
	dir, subnetFile := l.runDir(n), l.subnetFile(n)
	if n == 0 { // no daemon runs there, and none that is started may leave the lab
		dir = filepath.Join(StateDir(l.options.Name), Underlay)
		subnetFile = filepath.Join(dir, "subnet.env")
	}
	for _, v := range [][2]string{
		{"PATH", path},
		{"VXTAP_ETCD_ENDPOINTS", l.options.etcdURL()},
		{"VXTAP_ETCD_PREFIX", EtcdPrefix},
		{"VXTAP_RUN_DIR", dir},
		{"VXTAP_STATE_DIR", dir},
		{"VXTAP_SUBNET_FILE", subnetFile},
		{"ETCDCTL_API", "3"},
		{"ETCDCTL_ENDPOINTS", l.options.etcdURL()},
		{"VXLAB_NAME", l.options.Name},
		{"VXLAB_NODE", node},
	} {
		env = set(env, v[0], v[1])
	}
	return env
}

func lookup(env []string, key string) string {
	for _, kv := range env {
		if k, v, _ := strings.Cut(kv, "="); k == key {
			return v
		}
	}
	return ""
}

// set returns env with one variable set, once.
func set(env []string, key, value string) []string {
	kept := make([]string, 0, len(env)+1)
	for _, kv := range env {
		if k, _, _ := strings.Cut(kv, "="); k != key {
			kept = append(kept, kv)
		}
	}
	return append(kept, key+"="+value)
}

// findProgram is exec.LookPath for a PATH that is not this program's.
func findProgram(name, dirs string) (string, error) {
	if strings.Contains(name, "/") {
		return exec.LookPath(name)
	}
	for _, dir := range filepath.SplitList(dirs) {
		path := filepath.Join(dir, name)
		if info, err := os.Stat(path); filepath.IsAbs(path) && err == nil && info.Mode().IsRegular() && info.Mode().Perm()&0o111 != 0 {
			return path, nil
		}
	}
	if p := packages[name]; p != "" {
		return "", fmt.Errorf("no program %q: it is in no directory of PATH; Debian's package %s has it", name, p)
	}
	return "", fmt.Errorf("no program %q: it is in no directory of PATH", name)
}

// packages are Debian's, of what people run in a lab.
var packages = map[string]string{
	"ping": "iputils-ping", "tracepath": "iputils-tracepath", "traceroute": "traceroute", "mtr": "mtr-tiny", "curl": "curl",
	"tcpdump": "tcpdump", "tshark": "tshark", "iperf3": "iperf3", "sockperf": "sockperf", "nc": "netcat-openbsd", "socat": "socat",
	"ip": "iproute2", "ss": "iproute2", "nstat": "iproute2", "tc": "iproute2", "bridge": "iproute2", "ethtool": "ethtool",
	"nft": "nftables", "iptables": "iptables", "conntrack": "conntrack", "sysctl": "procps", "etcdctl": "etcd-client", "strace": "strace",
}
