// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"vxtap/cmd/vxlab/netns"
)

// poll is how often something is looked at that nobody tells us of.
const poll = 20 * time.Millisecond

// stopGrace is how long a process has between SIGTERM and SIGKILL.
const stopGrace = 3 * time.Second

// identity names a process beyond its end: numbers are used again, but not
// with the same start time. The zero identity is no process.
type identity struct {
	PID   int    `json:"pid,omitempty"`
	Start uint64 `json:"start,omitempty"` // clock ticks after boot, field 22 of /proc/PID/stat (proc(5))
}

// identify returns who has the number pid now.
func identify(pid int) (identity, error) {
	start, state, err := readStat(pid)
	if err == nil && state == 'Z' {
		err = os.ErrProcessDone
	}
	return identity{pid, start}, err
}

// readStat returns when a process started and its state, a letter.
func readStat(pid int) (start uint64, state byte, err error) {
	b, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "stat"))
	if err != nil {
		return 0, 0, err
	}
	return parseStat(b)
}

// parseStat reads the fields 3 and 22 of /proc/PID/stat. They are counted from
// the last parenthesis: field 2 is the program's name, which may hold anything.
func parseStat(b []byte) (start uint64, state byte, err error) {
	fields := strings.Fields(string(b[bytes.LastIndexByte(b, ')')+1:]))
	if len(fields) < 20 || len(fields[0]) != 1 {
		return 0, 0, errors.New("process state has too few fields")
	}
	start, err = strconv.ParseUint(fields[19], 10, 64)
	return start, fields[0][0], err
}

// alive reports whether the process runs still. A zombie does not.
func (id identity) alive() bool {
	if id.PID <= 0 {
		return false
	}
	now, err := identify(id.PID)
	return err == nil && now == id
}

// signal sends sig if the process runs still. It is held (by a pidfd, which
// os.FindProcess opens) before it is looked at, so that a newcomer with the
// same number never gets the signal.
func (id identity) signal(sig os.Signal) {
	if id.PID <= 0 {
		return
	}
	p, err := os.FindProcess(id.PID)
	if err != nil {
		return
	}
	defer func() { _ = p.Release() }() // it cannot fail for a process that was found
	if id.alive() {
		_ = p.Signal(sig) // it may just have ended: alive tells
	}
}

// end makes the process end, with sig first and SIGKILL after stopGrace, and
// returns when it has.
func (id identity) end(ctx context.Context, sig os.Signal) error {
	ctx, cancel := context.WithTimeout(ctx, 2*stopGrace)
	defer cancel()
	kill := time.Now().Add(stopGrace)
	id.signal(sig)
	return wait(ctx, func() (bool, error) {
		if time.Now().After(kill) {
			id.signal(syscall.SIGKILL)
		}
		return !id.alive(), nil
	})
}

// wait calls done every poll until it says true or fails, or ctx ends.
func wait(ctx context.Context, done func() (bool, error)) error {
	tick := time.NewTicker(poll)
	defer tick.Stop()
	for {
		ok, err := done()
		if ok || err != nil {
			return err
		}
		select {
		case <-ctx.Done():
			return context.Cause(ctx)
		case <-tick.C:
		}
	}
}

// process is the etcd server or a daemon.
type process struct {
	name string // for errors: "etcd", "vxtap on h1"
	log  string // path of its log
	id   identity

	// The rest is for children of this program. ended is nil for others.
	ended    chan struct{} // closed when the child is gone, after err was set
	err      error         // what exec.Cmd.Wait said
	expected atomic.Bool   // somebody asked it to end
}

// launch starts a program in a namespace, its output appended to the log. If it
// ends unasked, deaths is told; if nobody has taken the last message yet, the
// first death is the one that counts.
func launch(ns *netns.Namespace, p *process, deaths chan<- *process, args ...string) error {
	log, err := os.OpenFile(p.log, os.O_CREATE|os.O_WRONLY|os.O_APPEND, 0o644)
	if err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	defer log.Close()                         // the child has its own
	cmd := exec.Command(args[0], args[1:]...) //nolint:noctx // it outlives this program
	cmd.Stdout, cmd.Stderr, cmd.Dir, cmd.Env = log, log, "/", inherited(os.Environ())
	if err := ns.Start(cmd); err != nil {
		return fmt.Errorf("start %s: %w", p.name, err)
	}
	// The child is not reaped before Wait, so that its number is its own
	// even if it has ended already.
	start, _, err := readStat(cmd.Process.Pid)
	if err != nil {
		return errors.Join(fmt.Errorf("start %s: %w", p.name, err), cmd.Process.Kill(), cmd.Wait())
	}
	p.id = identity{cmd.Process.Pid, start}
	p.ended = make(chan struct{})
	go func() {
		p.err = cmd.Wait()
		close(p.ended)
		if !p.expected.Load() {
			select {
			case deaths <- p:
			default:
			}
		}
	}()
	return nil
}

// inherited returns the part of our environment that the processes of a lab
// get. What would configure another flanneld or vxtap on this machine must not
// configure them, and our own service manager must not hear that they are
// ready.
func inherited(env []string) []string {
	foreign := func(kv string) bool {
		for _, prefix := range []string{"FLANNELD_", "VXTAP_", "NOTIFY_SOCKET=", "WATCHDOG_", "LISTEN_"} {
			if strings.HasPrefix(kv, prefix) {
				return true
			}
		}
		return false
	}
	return slices.DeleteFunc(slices.Clone(env), foreign)
}

// end ends the process, and is done when a child has been reaped too.
func (p *process) end(ctx context.Context, sig os.Signal) error {
	p.expected.Store(true)
	if err := p.id.end(ctx, sig); err != nil {
		return fmt.Errorf("end %s: %w", p.name, err)
	}
	if p.ended != nil {
		<-p.ended
	}
	return nil
}

// died returns an error that says how the process ended, with the end of its
// log, or nil if it runs still.
func (p *process) died() error {
	if p.ended == nil {
		if p.id.alive() {
			return nil
		}
		return p.fault("ended")
	}
	select {
	case <-p.ended:
	default:
		return nil
	}
	if p.err == nil {
		return p.fault("ended by itself, with exit status 0")
	}
	return p.fault("ended: " + p.err.Error())
}

// fault returns an error about the process with the end of its log.
func (p *process) fault(what string) *ProcessError {
	return &ProcessError{Process: p.name, What: what, Log: p.log, Tail: tail(p.log)}
}

// ProcessError says that the etcd server or a daemon of a lab ended or does not
// come up.
type ProcessError struct {
	Process string   // "etcd", "vxtap on h1"
	What    string   // "ended: exit status 1"
	Log     string   // path of its log; a lab that is taken down takes it along
	Tail    []string // the last lines of the log

	runs bool // it has not ended
}

// Error is one line. What ended said why in the last line of its log; what runs
// may have said anything there, so that of it only a warning counts.
func (e *ProcessError) Error() string {
	s := e.Process + " " + e.What
	if !e.runs {
		if len(e.Tail) > 0 {
			s += ": " + e.Tail[len(e.Tail)-1]
		}
		return s
	}
	for _, line := range slices.Backward(e.Tail) {
		if isWarning(line) {
			return s + "; the last warning in its log: " + line
		}
	}
	return s + ", and its log does not say why: " + e.Log
}

// isWarning reports whether a line of a log is a warning or an error, in the forms
// that vxtap and etcd have.
func isWarning(line string) bool {
	for _, mark := range []string{"level=WARN", "level=ERROR", `"level":"WARN"`, `"level":"ERROR"`, `"level":"warn"`, `"level":"error"`, `"level":"fatal"`} {
		if strings.Contains(line, mark) {
			return true
		}
	}
	return false
}

// How much of a log is shown.
const (
	tailBytes = 8 << 10
	tailLines = 12
)

// tail returns the last lines of a log, in printable characters.
func tail(path string) []string {
	f, err := os.Open(path)
	if err != nil {
		return nil
	}
	defer f.Close()
	b := make([]byte, tailBytes)
	var from int64
	if info, err := f.Stat(); err == nil {
		from = max(0, info.Size()-tailBytes)
	}
	n, _ := f.ReadAt(b, from) // io.EOF: what is there is what there is
	return lastLines(b[:n], tailLines)
}

// lastLines returns up to n lines that are not empty. Terminal controls become
// question marks: a log may quote what came from outside.
func lastLines(b []byte, n int) []string {
	clean := func(r rune) rune {
		if r < ' ' || r == 0x7f {
			return '?'
		}
		return r
	}
	var lines []string
	for line := range strings.Lines(string(b)) {
		if line = strings.TrimSpace(line); line != "" {
			lines = append(lines, strings.Map(clean, strings.ToValidUTF8(line, "?")))
		}
	}
	return lines[max(0, len(lines)-n):]
}
