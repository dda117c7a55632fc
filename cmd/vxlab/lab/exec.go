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
//	VXTAP_RUN_DIR     the run directory of the host's daemon: "vxtap status" works
//	ETCDCTL_ENDPOINTS the lab's etcd
//	VXLAB_NAME        the lab
//	VXLAB_NODE        the node
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
	env = set(env, "PATH", dirs)
	if n > 0 {
		env = set(env, "VXTAP_RUN_DIR", l.runDir(n))
	}
	env = set(env, "ETCDCTL_API", "3")
	env = set(env, "ETCDCTL_ENDPOINTS", l.options.etcdURL())
	env = set(env, "VXLAB_NAME", l.options.Name)
	env = set(env, "VXLAB_NODE", node)
	program, err := findProgram(argv[0], dirs)
	if err != nil {
		return err
	}
	return ns.Exec(program, argv, env)
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
