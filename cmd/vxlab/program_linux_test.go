// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vxtap/cmd/vxlab/lab"
	"vxtap/cmd/vxlab/netns"
)

// asProgram makes the test binary vxlab itself. The servers that it starts
// inherit it.
const asProgram = "VXLAB_TEST_AS_PROGRAM"

func TestMain(m *testing.M) {
	if os.Getenv(asProgram) != "" {
		main()
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if dir, err := standinDir(); err == nil {
			_ = os.RemoveAll(dir)
		}
		os.Exit(code)
	}))
}

var standinDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "standin") })

// standin builds the daemon that takes vxtap's place, once.
var standin = sync.OnceValues(func() (string, error) {
	dir, err := standinDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "vxtap")
	out, err := exec.Command("go", "build", "-o", path, "./lab/testdata/standin").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the stand-in: %w\n%s", err, out)
	}
	return path, nil
})

// program is one run of vxlab.
type program struct {
	cmd    *exec.Cmd
	out    io.Closer   // our end of its standard output
	lines  chan string // of its standard output, closed at its end
	all    strings.Builder
	stderr bytes.Buffer
}

// start runs vxlab with arguments.
func start(t *testing.T, args ...string) *program {
	t.Helper()
	if os.Geteuid() != 0 {
		if os.Getenv("CI") == "true" {
			t.Fatal("root is needed for network namespaces")
		}
		t.Skip("left out: it needs root for network namespaces")
	}
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	p := &program{cmd: exec.Command(self, args...), lines: make(chan string, 1000)}
	p.cmd.Env = append(os.Environ(), asProgram+"=1")
	p.cmd.Stderr = &p.stderr
	out, err := p.cmd.StdoutPipe()
	if err == nil {
		err = p.cmd.Start()
	}
	if err != nil {
		t.Fatal(err)
	}
	p.out = out
	go func() {
		defer close(p.lines)
		for s := bufio.NewScanner(out); s.Scan(); {
			p.lines <- s.Text()
		}
	}()
	return p
}

// await reads until a line has text in it.
func (p *program) await(t *testing.T, text string) {
	t.Helper()
	for line := range p.lines {
		fmt.Fprintln(&p.all, line)
		if strings.Contains(line, text) {
			return
		}
	}
	t.Fatalf("no line with %q: stdout %q, stderr %q", text, p.all.String(), p.stderr.String())
}

// end waits for the program's end and returns its status and output.
func (p *program) end(t *testing.T) (code int, stdout, stderr string) {
	t.Helper()
	late := time.AfterFunc(60*time.Second, func() { _ = p.cmd.Process.Kill() })
	defer late.Stop()
	for line := range p.lines {
		fmt.Fprintln(&p.all, line)
	}
	_ = p.cmd.Wait() // what it says is in ProcessState
	return p.cmd.ProcessState.ExitCode(), p.all.String(), p.stderr.String()
}

// vxlab runs vxlab to its end.
func vxlab(t *testing.T, args ...string) (code int, stdout, stderr string) {
	t.Helper()
	return start(t, args...).end(t)
}

// newLab returns the name of a lab that is gone after the test, and the flags
// that put one up with stand-ins.
func newLab(t *testing.T, suffix string) (name string, flags []string) {
	t.Helper()
	path, err := standin()
	if err != nil {
		t.Fatal(err)
	}
	name = fmt.Sprintf("v%d-%s", os.Getpid(), suffix)
	t.Cleanup(func() {
		if _, err := lab.Down(context.Background(), name); err != nil {
			t.Error(err)
		}
	})
	return name, []string{"-name=" + name, "-vxtap=" + path}
}

// gone fails the test if anything of the lab is left.
func gone(t *testing.T, name string) {
	t.Helper()
	labs, err := lab.List()
	if err != nil || slices.Contains(labs, name) {
		t.Errorf("lab %s is not gone: %v, %v", name, labs, err)
	}
	if left, err := netns.List("vxlab-" + name + "-"); err != nil || len(left) > 0 {
		t.Errorf("namespaces left: %v, %v", left, err)
	}
}

// hostPID returns the process number of a host's daemon, as ls has it.
func hostPID(t *testing.T, name, node string) int {
	t.Helper()
	for _, l := range listed(t) {
		for _, h := range l.Hosts {
			if l.Name == name && h.Node == node {
				return h.PID
			}
		}
	}
	t.Fatalf("ls shows no %s of lab %s", node, name)
	return 0
}

// listed is what ls says to programs.
func listed(t *testing.T) []labInfo {
	t.Helper()
	code, out, stderr := vxlab(t, "ls", "-o=json")
	var labs []labInfo
	if err := json.Unmarshal([]byte(out), &labs); err != nil || code != exitOK {
		t.Fatalf("ls: status %d, %v, stdout %q, stderr %q", code, err, out, stderr)
	}
	return labs
}

// squeeze makes runs of blanks one: the columns of a table are as wide as the
// names of other labs.
func squeeze(s string) string { return strings.Join(strings.Fields(s), " ") }

func TestDemo(t *testing.T) {
	t.Parallel()
	name, flags := newLab(t, "demo")
	code, out, stderr := vxlab(t, append([]string{"demo", "-n=3", "-size=20"}, flags...)...)
	if code != exitOK || stderr != "" {
		t.Fatalf("got status %d, stderr %q, stdout %s", code, stderr, out)
	}
	for _, want := range []string{
		"pinging 6 pairs", "every container answers every other", "c1 -> c2: sending 20 MB", "c2 -> c1: ", "on both ends",
		"HOST  SUBNET", "h1    172.30.1.0/24  192.168.77.11  ", "b/s to h1", "h3    172.30.3.0/24", "everything is taken down", "all is well",
	} {
		if !strings.Contains(out, want) {
			t.Errorf("no %q in:\n%s", want, out)
		}
	}
	if strings.Contains(out, "\x1b") {
		t.Errorf("colours in a pipe: %q", out)
	}
	gone(t, name)
}

func TestADemoInWhichPairsFail(t *testing.T) {
	t.Parallel()
	name, flags := newLab(t, "island")
	code, out, stderr := vxlab(t, append([]string{"demo", "-n=2", "-vxtap-arg=-misbehave=island"}, flags...)...)
	if want := "vxlab: 2 of 2 pairs of containers failed: c1 -> c2 (no reply), c2 -> c1 (no reply)\n"; code != exitError || stderr != want {
		t.Errorf("got status %d, stderr %q, want %q", code, stderr, want)
	}
	if !strings.Contains(out, "1 of 1 lost") || strings.Contains(out, "all is well") {
		t.Errorf("stdout: %s", out)
	}
	gone(t, name)
}

func TestADemoWhoseDaemonsDoNotStart(t *testing.T) {
	t.Parallel()
	name, flags := newLab(t, "nostart")
	code, _, stderr := vxlab(t, append([]string{"demo", "-vxtap-arg=-misbehave=exit"}, flags...)...)
	if code != exitError || !strings.Contains(stderr, " ended: exit status 1: standin: told to end at once\n") {
		t.Errorf("got status %d, stderr %q", code, stderr)
	}
	gone(t, name)
}

// endless starts a demo that is sending more than it ever can.
func endless(t *testing.T, suffix string) (*program, string) {
	t.Helper()
	name, flags := newLab(t, suffix)
	p := start(t, append([]string{"demo", "-n=2", "-size=1000000"}, flags...)...)
	p.await(t, "sending")
	return p, name
}

func TestSignalsTakeTheDemoDown(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct {
		suffix string
		sig    syscall.Signal
		want   string
	}{{"int", syscall.SIGINT, "vxlab: interrupt signal received\n"}, {"term", syscall.SIGTERM, "vxlab: terminated signal received\n"}} {
		t.Run(tt.sig.String(), func(t *testing.T) {
			p, name := endless(t, tt.suffix)
			if err := p.cmd.Process.Signal(tt.sig); err != nil {
				t.Fatal(err)
			}
			code, out, stderr := p.end(t)
			if code != exitError || stderr != tt.want || !strings.Contains(out, "everything is taken down") {
				t.Errorf("got status %d, stderr %q, stdout %s", code, stderr, out)
			}
			gone(t, name)
		})
	}
}

func TestASignalWhileTheLabIsBuilt(t *testing.T) {
	t.Parallel()
	name, flags := newLab(t, "early")
	p := start(t, append([]string{"demo", "-vxtap-arg=-misbehave=mute"}, flags...)...)
	p.await(t, "etcd answers")
	if err := p.cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := p.end(t); code != exitError || stderr != "vxlab: interrupt signal received\n" {
		t.Errorf("got status %d, stderr %q", code, stderr)
	}
	gone(t, name)
}

func TestAReaderWhoGoesAwayTakesTheDemoDown(t *testing.T) {
	t.Parallel()
	name, flags := newLab(t, "pipe")
	p := start(t, append([]string{"demo", "-n=2", "-size=50"}, flags...)...)
	p.await(t, "underlay")
	if err := p.out.Close(); err != nil {
		t.Fatal(err)
	}
	if code, _, stderr := p.end(t); code != exitError || stderr != "vxlab: broken pipe signal received\n" {
		t.Errorf("got status %d, stderr %q", code, stderr)
	}
	gone(t, name)
}

func TestTheDemoNoticesADeathAtOnce(t *testing.T) {
	t.Parallel()
	for _, tt := range []struct{ suffix, pattern, want string }{
		{"dead", "h2", "vxlab: vxtap on h2 ended: signal: killed: ready\n"},
		{"noetcd", "etcd", "vxlab: etcd ended: signal: killed: "},
	} {
		t.Run(tt.pattern, func(t *testing.T) {
			p, name := endless(t, tt.suffix)
			pid := etcdPID(t, name)
			if tt.pattern != "etcd" {
				pid = hostPID(t, name, tt.pattern)
			}
			if err := syscall.Kill(pid, syscall.SIGKILL); err != nil {
				t.Fatal(err)
			}
			code, out, stderr := p.end(t)
			if code != exitError || !strings.HasPrefix(stderr, tt.want) || !strings.Contains(out, "everything is taken down") {
				t.Errorf("got status %d, stderr %q, stdout %s", code, stderr, out)
			}
			gone(t, name)
		})
	}
}

// etcdPID returns the process number of a lab's etcd: nothing else lives in
// its namespace.
func etcdPID(t *testing.T, name string) int {
	t.Helper()
	ns, err := netns.Open(lab.NamespaceName(name, lab.Underlay))
	if err != nil {
		t.Fatal(err)
	}
	defer ns.Close()
	pids, err := ns.Processes()
	if err != nil || len(pids) != 1 {
		t.Fatalf("processes in %s: %v, %v", ns.Name(), pids, err)
	}
	return pids[0]
}

func TestWhatAKilledDemoLeavesIsClearedUp(t *testing.T) {
	t.Parallel()
	p, name := endless(t, "kill9")
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.end(t)
	if hostPID(t, name, "h1") == 0 {
		t.Fatal("the daemons have gone with the demo: nothing to clear up")
	}
	// The next demo of the name replaces it.
	_, flags := newLab(t, "kill9")
	p = start(t, append([]string{"demo", "-n=2", "-size=1000000"}, flags...)...)
	p.await(t, "sending")
	if err := p.cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	p.end(t)
	// And down clears it, records or not.
	if err := os.Remove(filepath.Join(lab.StateDir(name), "lab.json")); err != nil {
		t.Fatal(err)
	}
	if code, out, stderr := vxlab(t, "ls"); code != exitOK || !strings.Contains(squeeze(out), name+" - - - - - - broken: its records are lost") {
		t.Errorf("ls: got status %d, stdout %s, stderr %q", code, out, stderr)
	}
	if code, out, stderr := vxlab(t, "down", "-name="+name); code != exitOK || out != "lab "+name+" is down\n" || stderr != "" {
		t.Errorf("down: got status %d, stdout %q, stderr %q", code, out, stderr)
	}
	gone(t, name)
}

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

func TestADemoThatStays(t *testing.T) {
	t.Parallel()
	name, flags := newLab(t, "keep")
	code, out, _ := vxlab(t, append([]string{"demo", "-n=2", "-size=1", "-keep"}, flags...)...)
	if code != exitOK || !strings.Contains(out, "stays: ") || hostPID(t, name, "h1") == 0 {
		t.Errorf("got status %d, stdout %s", code, out)
	}
	if code, _, stderr := vxlab(t, append([]string{"demo"}, flags...)...); code != exitError || !strings.Contains(stderr, "lab exists") {
		t.Errorf("a demo over a lab that was kept: got status %d, stderr %q", code, stderr)
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
