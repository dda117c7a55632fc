// SPDX-License-Identifier: Apache-2.0

package guide

import (
	"context"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/netns"
	"vxtap/test/bed"
)

// machine is a network namespace with a host name and files of its own: what
// is written to /etc, /var/lib, /usr/local, /root and /run stays there.
type machine struct {
	name  string
	ns    *netns.Namespace
	addr  netip.Addr
	pid   int    // of the process that its mounts live by
	tools string // directory of the stand-ins
	hosts string // file with the address and pid of every machine, for scp
}

// setUp makes the files of a machine: $1 is an empty directory for them, $2 its
// name, $3 where vxtap is, $4 this repository's packaging.
const setUp = `
set -euo pipefail
hostname "$2"
mount -t tmpfs none "$1"
for d in etc var/lib usr/local; do
  mkdir -p "$1/upper/$d" "$1/scratch/$d"
  mount -t overlay none -o "lowerdir=/$d,upperdir=$1/upper/$d,workdir=$1/scratch/$d" "/$d"
done
mkdir "$1/root"
cp -r "$4" "$1/root/packaging"
ln -s "$3" "$1/root/bin"
mount --bind "$1/root" /root
mount -t tmpfs none /run
# As Debian's packages and a first boot leave them.
rm -rf /var/lib/etcd /etc/default/etcd /etc/default/vxtap /etc/default/flanneld
install -d -m 700 -o etcd -g etcd /var/lib/etcd
touch /run/is-up
exec sleep infinity
`

func startMachine(t *testing.T, name string, ns *netns.Namespace, addr netip.Addr) *machine {
	t.Helper()
	m := &machine{name: name, ns: ns, addr: addr, tools: t.TempDir()}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	for tool := range standins() {
		if err := os.Symlink(self, filepath.Join(m.tools, tool)); err != nil {
			t.Fatal(err)
		}
	}
	packaging, err := filepath.Abs("../../packaging")
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	cmd := exec.Command("unshare", "--mount", "--uts", "bash", "-c", setUp, "machine",
		t.TempDir(), name, filepath.Dir(bed.Binary(t, "vxtap")), packaging)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := ns.Start(cmd); err != nil {
		t.Fatal(err)
	}
	m.pid = cmd.Process.Pid
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_ = cmd.Wait() // it is killed, sooner or later
	}()
	t.Cleanup(func() {
		// With it go its mounts, and all that runs on the machine.
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		if _, err := ns.KillProcesses(ctx); err != nil {
			t.Error(err)
		}
		<-ended
	})
	bed.Eventually(t, 10*time.Second, func() error {
		_, err := os.Stat(m.path("/run/is-up"))
		if err != nil && exited(ended) {
			t.Fatalf("%s does not come up: %s", name, out.String())
		}
		return err
	})
	return m
}

func exited(ended <-chan struct{}) bool {
	select {
	case <-ended:
		return true
	default:
		return false
	}
}

// path returns where a file of the machine is to be found from outside.
func (m *machine) path(file string) string {
	return filepath.Join("/proc", strconv.Itoa(m.pid), "root", file)
}

// run types text into a shell on the machine, as root in /root, and returns
// what it printed.
func (m *machine) run(ctx context.Context, text string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, "nsenter", "--target", strconv.Itoa(m.pid), "--mount", "--uts",
		"bash", "-euo", "pipefail", "-c", "cd /root\n"+text)
	cmd.Env = []string{
		"HOME=/root", "LANG=C.UTF-8", hostsVariable + "=" + m.hosts,
		"PATH=" + m.tools + ":/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
	}
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	cmd.WaitDelay = time.Second
	if err := m.ns.Start(cmd); err != nil {
		return "", fmt.Errorf("nsenter: %w", err)
	}
	err := cmd.Wait()
	return out.String(), err
}
