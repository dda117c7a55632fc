// SPDX-License-Identifier: Apache-2.0

package main

import (
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
)

func TestALabToPlayWith(t *testing.T) {
	t.Parallel()
	name, flags := newLab(t, "play")
	code, out, stderr := vxlab(t, append([]string{"up", "-n=2", "-mtu=9000"}, flags...)...)
	if code != exitOK || stderr != "" || !strings.Contains(out, "vxlab exec -name "+name+" h1 -- vxtap status") {
		t.Fatalf("up: got status %d, stderr %q, stdout %s", code, stderr, out)
	}
	labs := listed(t)
	i := slices.IndexFunc(labs, func(l labInfo) bool { return l.Name == name })
	if i < 0 || len(labs[i].Hosts) != 2 || labs[i].Hosts[1].MTU != 8950 || !labs[i].EtcdUp {
		t.Fatalf("ls: got %+v", labs)
	}
	if code, out, _ := vxlab(t, "ls"); code != exitOK || !strings.Contains(squeeze(out), name+" h2 172.30.2.0/24 ") {
		t.Errorf("ls: got status %d, stdout %s", code, out)
	}
	if code, _, stderr := vxlab(t, append([]string{"up"}, flags...)...); code != exitError || !strings.Contains(stderr, "lab exists: "+name) {
		t.Errorf("second up: got status %d, stderr %q", code, stderr)
	}

	for _, tt := range []struct {
		name, args, stdout, stderr string
		code                       int
	}{
		{"the host's devices", "h1 -- ls /sys/class/net", "cni0\neth0\nflannel.1\nlo\nveth0\n", "", 0},
		{"the container's devices", "c2 -- ls /sys/class/net", "eth0\nlo\n", "", 0},
		{"the environment", "h2 -- printenv VXTAP_RUN_DIR VXLAB_NODE ETCDCTL_ENDPOINTS", lab.StateDir(name) + "/h2\nh2\nhttp://192.168.77.1:2379\n", "", 0},
		{"the daemon is in the path", "h1 -- sh -c 'command -v vxtap'", "", "", 0},
		{"its exit status", "net -- false", "", "", 1},
		{"a host that is not there", "h3 -- true", "", "has no h3: its 2 hosts are h1 to h2", 1},
		{"a command that is not there", "h1 -- nonsense-xyz", "", `no program "nonsense-xyz"`, 1},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args := strings.Fields(tt.args)
			if k := slices.Index(args, "'command"); k >= 0 {
				args = append(args[:k], "command -v vxtap")
				tt.stdout = flags[1][len("-vxtap="):] + "\n"
			}
			code, out, stderr := vxlab(t, append([]string{"exec", "-name=" + name}, args...)...)
			if code != tt.code || out != tt.stdout || !strings.Contains(stderr, tt.stderr) {
				t.Errorf("got status %d, stdout %q, stderr %q", code, out, stderr)
			}
		})
	}

	startsAgain(t, name)

	for _, want := range []string{"lab " + name + " is down\n", "no lab " + name + " stands: nothing to do\n"} {
		if code, out, stderr := vxlab(t, "down", "-name", name); code != exitOK || out != want || stderr != "" {
			t.Errorf("down: got status %d, stdout %q, stderr %q, want %q", code, out, stderr, want)
		}
	}
	gone(t, name)
	if code, _, stderr := vxlab(t, "exec", "-name="+name, "h1", "true"); code != exitError || !strings.Contains(stderr, "no lab "+name+" stands") {
		t.Errorf("exec after down: got status %d, stderr %q", code, stderr)
	}
}

// startsAgain kills h2's daemon and starts it again, as ls says.
func startsAgain(t *testing.T, name string) {
	t.Helper()
	if code, _, stderr := vxlab(t, "start", "-name="+name, "h2"); code != exitError || !strings.Contains(stderr, "vxtap on h2 runs already") {
		t.Errorf("start of what runs: got status %d, stderr %q", code, stderr)
	}
	if code, _, stderr := vxlab(t, "start", "h3", "-name="+name); code != exitError || !strings.Contains(stderr, "has no h3") {
		t.Errorf("start of a host that is not there: got status %d, stderr %q", code, stderr)
	}
	p, err := os.FindProcess(hostPID(t, name, "h2"))
	if err == nil {
		err = p.Kill()
	}
	if err != nil {
		t.Fatal(err)
	}
	said := "vxlab start -name " + name + " h2"
	var listing string
	for end := time.Now().Add(10 * time.Second); !strings.Contains(listing, said); {
		if time.Now().After(end) {
			t.Fatalf("ls does not say %q: %s", said, listing)
		}
		_, listing, _ = vxlab(t, "ls", "-name", name)
	}
	code, out, stderr := vxlab(t, strings.Fields(said)[1:]...)
	if code != exitOK || !strings.HasPrefix(out, "h2 is ready: vxtap, pid ") || !strings.Contains(out, lab.StateDir(name)+"/h2/vxtap.log") {
		t.Errorf("%s: got status %d, stdout %q, stderr %q", said, code, out, stderr)
	}
	if hostPID(t, name, "h2") == 0 {
		t.Error("after start: no daemon on h2")
	}
	if code, out, _ := vxlab(t, "ls", "-name", "nobody-"+name); code != exitOK || !strings.Contains(out, "no lab nobody-"+name+" stands") {
		t.Errorf("ls of another lab: got status %d, stdout %q", code, out)
	}
}

func TestRootIsNeeded(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("left out: this user cannot become another one")
	}
	dir := t.TempDir()
	self, err := os.ReadFile("/proc/self/exe")
	if err != nil {
		t.Fatal(err)
	}
	path := filepath.Join(dir, "vxlab")
	if err := os.WriteFile(path, self, 0o755); err != nil {
		t.Fatal(err)
	}
	for d := dir; d != "/" && d != os.TempDir(); d = filepath.Dir(d) {
		if err := os.Chmod(d, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	for _, args := range []string{"up", "demo", "down", "exec h1 true"} {
		cmd := exec.Command(path, strings.Fields(args)...)
		cmd.Env = []string{asProgram + "=1"}
		cmd.Dir = "/"
		cmd.SysProcAttr = &syscall.SysProcAttr{Credential: &syscall.Credential{Uid: 65534, Gid: 65534}}
		out, err := cmd.CombinedOutput()
		if err == nil || cmd.ProcessState.ExitCode() != exitError || !strings.Contains(string(out), "run it with sudo") {
			t.Errorf("vxlab %s: got %v, %q", args, err, out)
		}
	}
}
