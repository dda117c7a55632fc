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
