// SPDX-License-Identifier: Apache-2.0

package field

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"sync"
	"syscall"
	"time"

	"vxtap/cmd/vxlab/netns"
)

// process is a program that is started again and again in one namespace, with
// the same flags. The zero value with its first three fields is ready.
type process struct {
	ns   *netns.Namespace
	log  string // gets what it prints, of all runs
	args []string

	clock Clock // that it is started with

	mu     sync.Mutex
	cmd    *exec.Cmd
	ended  chan struct{} // closed when it is gone
	asked  bool          // somebody wants it gone
	paused bool
}

// Clock is how far a process's clocks are from the machine's, in seconds: those that
// count from the boot, with and without the time asleep. The one on the wall cannot be
// another one (time_namespaces(7)).
type Clock struct{ Boot, Monotonic int }

// wrap is the program that starts another one so. It becomes it, so that the number of
// the process is the same.
func (c Clock) wrap() []string {
	if c == (Clock{}) {
		return nil
	}
	return []string{"unshare", "--time", "--boottime", strconv.Itoa(c.Boot), "--monotonic", strconv.Itoa(c.Monotonic)}
}

// SetClock says which clocks the next Start is with.
func (p *process) SetClock(c Clock) { p.clock = c }

var errRuns = errors.New("it runs already")

// Start starts it.
func (p *process) Start() error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.runs() {
		return fmt.Errorf("start %s: %w", p.args[0], errRuns)
	}
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return err
	}
	defer log.Close()
	args := slices.Concat(p.clock.wrap(), p.args)
	cmd := exec.Command(args[0], args[1:]...)
	cmd.Stdout, cmd.Stderr, cmd.Dir = log, log, "/"
	if err := p.ns.Start(cmd); err != nil {
		return err
	}
	ended := make(chan struct{})
	p.cmd, p.ended, p.asked, p.paused = cmd, ended, false, false
	go func() {
		_ = cmd.Wait() // Unasked tells
		close(ended)
	}()
	return nil
}

// runs is Runs under mu.
func (p *process) runs() bool {
	if p.cmd == nil {
		return false
	}
	select {
	case <-p.ended:
		return false
	default:
		return true
	}
}

// Runs reports whether it runs, or is stopped by Pause.
func (p *process) Runs() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.runs()
}

// Unasked reports whether it was started and has ended without End.
func (p *process) Unasked() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.cmd != nil && !p.runs() && !p.asked
}

// PID returns its number, 0 if it does not run.
func (p *process) PID() int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.runs() {
		return 0
	}
	return p.cmd.Process.Pid
}

// End sends it a signal, SIGKILL or SIGTERM, and returns when it is gone; after
// ten seconds it is killed, and that is an error. What does not run has ended.
func (p *process) End(s syscall.Signal) error {
	p.mu.Lock()
	p.asked = true
	if !p.runs() {
		p.mu.Unlock()
		return nil
	}
	cmd, ended := p.cmd, p.ended
	p.mu.Unlock()
	_ = cmd.Process.Signal(s) // it may just have ended
	late := time.NewTimer(10 * time.Second)
	defer late.Stop()
	select {
	case <-ended:
		return nil
	case <-late.C:
	}
	_ = cmd.Process.Kill()
	<-ended
	return fmt.Errorf("%s did not end within 10 s of signal %v", p.args[0], s)
}

// Pause stops it where it is, and Continue lets it go on.
func (p *process) Pause() error { return p.hold(syscall.SIGSTOP, true) }

// Continue is the opposite of Pause.
func (p *process) Continue() error { return p.hold(syscall.SIGCONT, false) }

func (p *process) hold(s syscall.Signal, paused bool) error {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.runs() {
		return fmt.Errorf("%s does not run", p.args[0])
	}
	p.paused = paused
	return p.cmd.Process.Signal(s)
}

// Paused reports whether it stands still.
func (p *process) Paused() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.paused && p.runs()
}
