// SPDX-License-Identifier: Apache-2.0

package field

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"vxtap/cmd/vxlab/netns"
	"vxtap/test/bed"
)

// leaver is the variable that makes the test binary start something in a field,
// say what, and wait to be killed.
const leaver = "FIELD_TEST_LEAVER"

func TestMain(m *testing.M) {
	if os.Geteuid() != 0 {
		os.Exit(m.Run())
	}
	code, outside, err := Enter()
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		code = 1
	case outside:
	case os.Getenv(leaver) != "":
		code = leave()
	default:
		code = bed.Main(m)
	}
	os.Exit(code)
}

// leave starts a member in the field and never ends.
func leave() int {
	f, err := New(os.Getenv(leaver), false)
	if err == nil {
		err = f.AddMembers(1)
	}
	if err != nil {
		fmt.Fprintln(os.Stdout, err)
		return 1
	}
	fmt.Fprintln(os.Stdout, "ready")
	for {
		time.Sleep(time.Hour)
	}
}

// Whoever kills the program leaves nothing behind: no process, no namespace.
func TestKilledFieldLeavesNothing(t *testing.T) {
	bed.NeedRoot(t)
	dir := t.TempDir()
	cmd := exec.Command("/proc/self/exe")
	cmd.Env = append(os.Environ(), leaver+"="+dir)
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	if line, err := bufio.NewReader(out).ReadString('\n'); line != "ready\n" {
		t.Fatalf("got %q, %v", line, err)
	}
	if n := running(t, dir); n == 0 {
		t.Fatal("no etcd runs in the field: the test is wrong")
	}
	if err := cmd.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = cmd.Wait()
	bed.Eventually(t, 5*time.Second, func() error {
		if n := running(t, dir); n != 0 {
			return fmt.Errorf("%d processes are left", n)
		}
		return nil
	})
}

// running counts the processes that have dir among their arguments.
func running(t *testing.T, dir string) (n int) {
	t.Helper()
	entries, err := os.ReadDir("/proc")
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if _, err := strconv.Atoi(e.Name()); err != nil {
			continue
		}
		args, err := os.ReadFile("/proc/" + e.Name() + "/cmdline")
		if err == nil && strings.Contains(string(args), dir) {
			n++
		}
	}
	return n
}

func timeNamespace(t *testing.T, pid string) string {
	t.Helper()
	name, err := os.Readlink("/proc/" + pid + "/ns/time")
	if err != nil {
		t.Fatal(err)
	}
	return name
}

// Hosts with both families can be asked for the other one, and lose it for a while.
func TestHostOfBothFamilies(t *testing.T) {
	bed.NeedRoot(t)
	f, err := New(t.TempDir(), true)
	if err != nil {
		t.Fatal(err)
	}
	h, err := f.AddHost("none", "/x")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { // the next test makes them again
		h.Namespace().Close()
		if err := errors.Join(netns.Delete(h.Name), f.root.DeleteLink(bridge)); err != nil {
			t.Error(err)
		}
	})
	want := IPv6Of(h.Addr)
	for _, step := range []struct {
		name  string
		do    func() error
		there bool
	}{
		{"as made", func() error { return nil }, true},
		{"taken", h.TakeIPv6, false},
		{"given back", h.GiveIPv6, true},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		all, err := h.Namespace().Addrs("eth0")
		if err != nil || slices.Contains(all, want) != step.there || len(all) > 2 {
			t.Errorf("%s: got %v, %v, want %v there: %t", step.name, all, err, want, step.there)
		}
	}
	if err := h.TakeIPv6(); err != nil {
		t.Fatal(err)
	}
	if err := h.TakeIPv6(); err == nil {
		t.Error("what is gone was taken again")
	}
}

// A member and a host do what the faults ask of them.
func TestMembersAndHosts(t *testing.T) {
	bed.NeedRoot(t)
	f, err := New(t.TempDir(), false)
	if err != nil {
		t.Fatal(err)
	}
	if err := f.AddMembers(1); err != nil {
		t.Fatal(err)
	}
	m := f.Members[0]
	answers := func() error {
		_, err := bed.Etcdctl(m.Namespace(), m.URL(), "put", "/x/config", `{"Network": "172.30.0.0/16", "EnableNFTables": true, "Backend": {"Type": "vxlan"}}`)
		return err
	}
	bed.Eventually(t, 20*time.Second, answers)
	h, err := f.AddHost(bed.Binary(t, "vxtap"), "/x", "-lease-ttl=10s")
	if err != nil {
		t.Fatal(err)
	}
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	ready := func() error {
		s, err := h.Status(t.Context())
		if err != nil || s.State != StateReady {
			return fmt.Errorf("got %q, %w", s.State, err)
		}
		return nil
	}
	bed.Eventually(t, 10*time.Second, ready)
	if !h.TalksTo(m) {
		t.Error("the daemon does not talk to the only member")
	}
	if n, err := h.Memory(); err != nil || n < 1<<20 || n > 1<<30 {
		t.Errorf("got %d bytes, %v", n, err)
	}

	if err := h.Pause(); err != nil {
		t.Fatal(err)
	}
	late, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := h.Status(late); err == nil || !h.Paused() {
		t.Error("a daemon that stands still answers")
	}
	if err := h.Continue(); err != nil {
		t.Fatal(err)
	}
	bed.Eventually(t, 5*time.Second, ready)

	for _, step := range []struct {
		name     string
		do, undo func() error
	}{
		{"host cut off", h.CutOff, h.Rejoin},
		{"member silenced", m.Silence, m.Heal},
	} {
		if err := step.do(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		asked := bed.Eventually(t, 20*time.Second, func() error {
			if s, err := h.Status(t.Context()); err != nil || s.Lease.Expires == nil || time.Until(*s.Lease.Expires) > time.Second {
				return fmt.Errorf("%s: the lease is renewed still: %+v, %w", step.name, s.Lease, err)
			}
			return nil
		})
		if asked < time.Second {
			t.Errorf("%s: not renewed for %v, want the time of a lease", step.name, asked)
		}
		if err := step.undo(); err != nil {
			t.Fatalf("%s: %v", step.name, err)
		}
		bed.Eventually(t, 20*time.Second, func() error {
			if s, err := h.Status(t.Context()); err != nil || s.Lease.Expires == nil || time.Until(*s.Lease.Expires) < 5*time.Second {
				return fmt.Errorf("%s and back: the lease is not renewed: %+v, %w", step.name, s.Lease, err)
			}
			return nil
		})
	}
	if err := h.End(syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	h.SetClock(Clock{Boot: 90000, Monotonic: 5})
	if err := h.Start(); err != nil {
		t.Fatal(err)
	}
	bed.Eventually(t, 10*time.Second, ready)
	if here, there := timeNamespace(t, "self"), timeNamespace(t, strconv.Itoa(h.PID())); here == there {
		t.Errorf("with other clocks: got %s, which is the machine's", there)
	}
	if err := h.End(syscall.SIGKILL); err != nil || h.Runs() || h.Unasked() {
		t.Errorf("killed: got %v, runs %t, unasked %t", err, h.Runs(), h.Unasked())
	}
	if err := m.End(syscall.SIGTERM); err != nil || m.PID() != 0 {
		t.Errorf("ended: got %v, number %d", err, m.PID())
	}
}
