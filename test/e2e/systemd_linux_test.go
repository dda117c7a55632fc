// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"vxtap/test/bed"
)

const packaging = "../../packaging/systemd"

// needPrograms ends a test without what it runs: in CI as a failure.
func needPrograms(t *testing.T, programs ...string) {
	t.Helper()
	for _, p := range programs {
		if _, err := exec.LookPath(p); err == nil {
			continue
		}
		if os.Getenv("CI") == "true" {
			t.Fatalf("there is no %s", p)
		}
		t.Skipf("not run: there is no %s: .ci/deps installs it", p)
	}
}

// systemd says nothing about the unit and its drop-ins: no key that it does not
// know, no value that it ignores.
func TestUnitIsVerified(t *testing.T) {
	needPrograms(t, "systemd-analyze")
	dir := t.TempDir()
	if err := os.CopyFS(dir, os.DirFS(packaging)); err != nil {
		t.Fatal(err)
	}
	write(t, filepath.Join(dir, "docker.service"), "[Service]\nExecStart=/usr/bin/dockerd\n")
	// It also looks whether the programs are there.
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		mended := strings.NewReplacer("/usr/local/bin/vxtap", bed.Binary(t, "vxtap"), "/usr/bin/dockerd", "/bin/true").Replace(string(text))
		return os.WriteFile(path, []byte(mended), 0o600)
	})
	if err != nil {
		t.Fatal(err)
	}
	for _, unit := range []string{"vxtap.service", "docker.service"} {
		out, err := exec.Command("systemd-analyze", "verify", "--man=no", filepath.Join(dir, unit)).CombinedOutput()
		if err != nil || len(out) > 0 {
			t.Errorf("%s: %v\n%s", unit, err, out)
		}
	}
}

func write(t *testing.T, path, text string) {
	t.Helper()
	if err := errors.Join(os.MkdirAll(filepath.Dir(path), 0o755), os.WriteFile(path, []byte(text), 0o644)); err != nil {
		t.Fatal(err)
	}
}

// The units are installed as docs/operations.md says, on a host with a systemd
// of its own, and then do what they say.
func TestOperationsUnderSystemd(t *testing.T) {
	bed.NeedRoot(t)
	// Those around them are for a firewall, and the operator's commands.
	blocks := shellBlocks(t, "../../docs/operations.md")
	first := slices.IndexFunc(blocks, func(b string) bool { return strings.Contains(b, "systemctl start vxtap") })
	if first < 0 || len(blocks) < first+2 || !strings.Contains(blocks[first+1], "/run/flannel/docker") {
		t.Fatalf("no shell blocks are the service and Docker, so that nothing runs them: %q", blocks)
	}
	blocks = blocks[first : first+2]
	m := boot(t)
	out := m.sh(blocks[0])
	if !strings.Contains(out, "Active: active (running)") || !strings.Contains(out, `"forwarding for 10.5.`) {
		t.Errorf("got status\n%s", out)
	}
	subnet := m.sh(". /run/flannel/subnet.env; echo $FLANNEL_SUBNET")
	options := fmt.Sprintf(" --bip=%s --ip-masq=true --mtu=1450", subnet)
	out = m.sh(blocks[1])
	if want := fmt.Sprintf("DOCKER_NETWORK_OPTIONS=%q", options); !strings.HasSuffix(out, want) {
		t.Errorf("got Docker's options\n%swant the last line to be %s", out, want)
	}
	bed.Eventually(t, 10*time.Second, func() error {
		return differs(m.sh("cat /run/dockerd"), strings.TrimSpace(options))
	})
	m.hardened()
	if got := m.sh("stat -c '%a %U' /var/lib/vxtap /var/lib/vxtap/*.json"); got != "700 root\n600 root" {
		t.Errorf("got %q, want that it remembers", got)
	}
	m.hangs(subnet)
	m.stopped()
}

func differs(got, want string) error {
	if got != want {
		return fmt.Errorf("got %q, want %q", got, want)
	}
	return nil
}

// hardened wants the daemon to be shut in, and frames to leave it all the same.
func (m *machine) hardened() {
	t := m.t
	t.Helper()
	status := m.sh("cat /proc/$(systemctl show -P MainPID vxtap)/status")
	for _, want := range []string{"CapEff:\t0000000000003000", "CapBnd:\t0000000000003000", "NoNewPrivs:\t1", "Seccomp:\t2"} {
		if !strings.Contains(status, want+"\n") {
			t.Errorf("the process has no line %q:\n%s", want, status)
		}
	}
	m.sh("cd /etc/systemd/system/vxtap.service.d\n" +
		"printf '[Service]\\nCapabilityBoundingSet=CAP_DAC_READ_SEARCH\\n' >more.conf; systemctl daemon-reload; systemctl restart vxtap")
	if got := m.sh("grep CapEff /proc/$(systemctl show -P MainPID vxtap)/status"); got != "CapEff:\t0000000000003004" {
		t.Errorf("got %q with a drop-in that gives one capability more", got)
	}
	m.sh(`etcdctl put /coreos.com/network/subnets/10.5.0.0-24 '{"PublicIP":"10.0.0.2","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:02"}}'`)
	bed.Eventually(t, 10*time.Second, func() error {
		var status struct {
			Out struct{ Delivered, Received int }
		}
		if err := json.Unmarshal([]byte(m.sh("echo >/dev/udp/10.5.0.9/9; vxtap status -o json")), &status); err != nil {
			return err
		}
		if status.Out.Delivered == 0 {
			return fmt.Errorf("nothing is delivered of %d frames", status.Out.Received)
		}
		return nil
	})
	log := m.sh("cat /run/vxtap.log")
	if strings.Contains(log, "level=ERROR") || strings.Contains(log, "not permitted") {
		t.Errorf("something was refused:\n%s", log)
	}
}

// hangs stops the daemon where it stands. systemd has to find out and start
// another, which has the same subnet.
func (m *machine) hangs(subnet string) {
	t := m.t
	t.Helper()
	m.sh("kill -STOP $(systemctl show -P MainPID vxtap)")
	bed.Eventually(t, 40*time.Second, func() error {
		return differs(m.property("NRestarts")+" "+m.property("ActiveState"), "1 active")
	})
	if log := m.sh("cat /run/vxtap.log"); !strings.Contains(log, "SIGABRT") || !strings.Contains(log, "goroutine ") {
		t.Errorf("the log does not say where it hung:\n%s", log)
	}
	if got := m.sh(". /run/flannel/subnet.env; echo $FLANNEL_SUBNET"); got != subnet {
		t.Errorf("got subnet %s, want %s again", got, subnet)
	}
}

// stopped wants a good end, and the files that others read to stay.
func (m *machine) stopped() {
	t := m.t
	t.Helper()
	m.sh("systemctl stop vxtap")
	if got := m.property("Result") + ", " + m.property("StatusText"); got != "success, stopping" {
		t.Errorf("got %q, want success and the last word", got)
	}
	if err := differs(m.sh("ls /run/flannel /run/vxtap; ip -br link show type tun"), "/run/flannel:\ndocker\nsubnet.env\n\n/run/vxtap:"); err != nil {
		t.Error(err)
	}
}

// property returns what systemd knows of the service.
func (m *machine) property(name string) string {
	m.t.Helper()
	return m.sh("systemctl show -P " + name + " vxtap")
}

// machine is a systemd in namespaces of its own, with an interface eth0 and an
// etcd on 10.0.0.1.
type machine struct {
	t     *testing.T
	stage string // has bin and packaging, as the repository
	init  string // its first process, for nsenter
}

// bootScript becomes the machine's first process. $1 is where the units are, the
// rest are control groups, each to stand in the place of its mount point.
const bootScript = `
units=$1; shift
mount --make-rprivate /
for g; do mount --bind "$g" "$(dirname "$g")"; done
mount -t proc none /proc
mount -t tmpfs none /run
for d in /etc/systemd/system /etc/default /usr/local/bin /var/lib; do mount -t tmpfs none $d; done
cp -r "$units" /run/units
mkdir -p /run/systemd/system
ip link set lo up
ip link add eth0 type veth peer name far
ip addr add 10.0.0.1/24 dev eth0
ip link set eth0 up
ip link set far up
exec env -i PATH="$PATH" container=vxtap SYSTEMD_UNIT_PATH=/etc/systemd/system:/run/units \
  /lib/systemd/systemd --system --unit=machine.target --log-target=console --log-level=notice --show-status=no
`

// units are what the machine has beside ours. A test that is killed leaves it
// for two minutes at most.
func units() map[string]string {
	bare := "[Unit]\nDefaultDependencies=no\n"
	m := map[string]string{
		"machine.target": bare + "Wants=etcd.service limit.service\n",
		"limit.service":  bare + "SuccessAction=exit-force\n[Service]\nExecStart=/bin/sleep 120\n",
		"etcd.service": bare + "[Service]\nExecStart=/usr/bin/env etcd --data-dir /run/etcd --logger zap --log-level error" +
			" --listen-client-urls http://10.0.0.1:2379,http://127.0.0.1:2379 --advertise-client-urls http://10.0.0.1:2379\n",
		// The file goes past what dockerd's drop-in says to run.
		"docker.service":                   "[Service]\nExecStart=/bin/false\n",
		"docker.service.d/zz-machine.conf": "[Service]\nExecStart=\nExecStart=/bin/sh -c 'echo $DOCKER_NETWORK_OPTIONS >/run/dockerd; exec sleep 120'\n",
		"vxtap.service.d/machine.conf":     "[Service]\nWatchdogSec=3\nTimeoutAbortSec=1\nRestartSec=0\nStandardOutput=append:/run/vxtap.log\nStandardError=append:/run/vxtap.log\n",
	}
	for _, name := range []string{"sysinit", "basic", "shutdown", "network-online", "multi-user"} {
		m[name+".target"] = bare
	}
	return m
}

func boot(t *testing.T) *machine {
	t.Helper()
	needPrograms(t, "/lib/systemd/systemd", "systemctl", "unshare", "nsenter", "etcd", "etcdctl", "ip")
	m := &machine{t: t, stage: t.TempDir()}
	for name, text := range units() {
		write(t, filepath.Join(m.stage, "units", name), text)
	}
	root, err := filepath.Abs("../..")
	if err != nil {
		t.Fatal(err)
	}
	if err := errors.Join(os.Symlink(binDir(t), filepath.Join(m.stage, "bin")), os.Symlink(filepath.Join(root, "packaging"), filepath.Join(m.stage, "packaging"))); err != nil {
		t.Fatal(err)
	}
	groups := controlGroups(t)
	// Into the groups first: the namespace begins where its first process is.
	enter := `units=$1 boot=$2; shift 2; for g; do echo $$ >"$g/cgroup.procs" || true; done 2>/dev/null
exec unshare --pid --fork --mount --uts --ipc --net --cgroup bash -euc "$boot" boot "$units" "$@"`
	cmd := exec.Command("bash", slices.Concat([]string{"-euc", enter, "enter", filepath.Join(m.stage, "units"), bootScript}, groups)...)
	var log strings.Builder
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() { _ = cmd.Wait(); close(ended) }() // it is killed
	t.Cleanup(func() {
		if m.init != "" {
			_ = exec.Command("kill", "-KILL", m.init).Run() // and with it all of the machine
		}
		_ = cmd.Process.Kill()
		<-ended
		removeGroups(t, groups)
		if t.Failed() {
			t.Logf("systemd printed:\n%s", log.String())
		}
	})
	bed.Eventually(t, 20*time.Second, func() error {
		select {
		case <-ended:
			t.Fatalf("systemd does not start here:\n%s", log.String())
		default:
		}
		children, err := os.ReadFile(fmt.Sprintf("/proc/%[1]d/task/%[1]d/children", cmd.Process.Pid))
		if m.init = strings.TrimSpace(string(children)); m.init == "" {
			return errors.Join(errors.New("there is no first process yet"), err)
		}
		_, err = m.try(`systemctl is-active machine.target && etcdctl put /coreos.com/network/config '{"Network":"10.5.0.0/16","Backend":{"Type":"vxlan"}}'`)
		return err
	})
	return m
}

// sh runs a script on the machine, from the root of the repository, and returns
// what it printed.
func (m *machine) sh(text string) string {
	m.t.Helper()
	out, err := m.try(text)
	if err != nil {
		m.t.Fatalf("%v\nscript: %s", err, text)
	}
	return out
}

func (m *machine) try(text string) (string, error) {
	cmd := exec.Command("nsenter", "-t", m.init, "-m", "-u", "-i", "-n", "-p", "--wd="+m.stage, "bash", "-euc", text)
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3", "SYSTEMD_PAGER=", "SYSTEMD_COLORS=0", "TERM=dumb")
	out, err := cmd.CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, out)
	}
	return strings.TrimSpace(string(out)), nil
}

// controlGroups makes a group below the root of each hierarchy: systemd takes
// what it finds at the root for its own.
func controlGroups(t *testing.T) []string {
	t.Helper()
	mounts, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		t.Fatal(err)
	}
	var groups []string
	for line := range strings.Lines(string(mounts)) {
		where, what, _ := strings.Cut(line, " - ")
		if !strings.HasPrefix(what, "cgroup") {
			continue
		}
		g := filepath.Join(strings.Fields(where)[4], fmt.Sprintf("vxtap-systemd-%d", os.Getpid()))
		if err := os.Mkdir(g, 0o755); err != nil {
			removeGroups(t, groups)
			t.Skipf("not run: no control group can be made: %v", err)
		}
		groups = append(groups, g)
	}
	return groups
}

// removeGroups removes groups, and what systemd made in them, as soon as the
// last process has left.
func removeGroups(t *testing.T, groups []string) {
	t.Helper()
	for _, g := range groups {
		bed.Eventually(t, 10*time.Second, func() error {
			var dirs []string
			_ = filepath.WalkDir(g, func(path string, d fs.DirEntry, err error) error {
				if err == nil && d.IsDir() {
					dirs = append(dirs, path)
				}
				return nil // what is gone is gone
			})
			var errs []error
			for _, d := range slices.Backward(dirs) {
				if err := syscall.Rmdir(d); err != nil && !errors.Is(err, fs.ErrNotExist) {
					errs = append(errs, fmt.Errorf("remove %s: %w", d, err))
				}
			}
			return errors.Join(errs...)
		})
	}
}
