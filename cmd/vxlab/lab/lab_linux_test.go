// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"
)

func TestALabStandsAndGoes(t *testing.T) {
	l := up(t, options(t, "life", 3))
	hosts := l.Hosts()
	if len(hosts) != 3 || !l.EtcdRunning() {
		t.Fatalf("got %d hosts, etcd %v", len(hosts), l.EtcdRunning())
	}
	for i, h := range hosts {
		n := i + 1
		want := Host{
			Node: HostNode(n), Namespace: "vxlab-" + l.Name() + "-" + HostNode(n), VTEP: netip.AddrFrom4([4]byte{192, 168, 77, byte(10 + n)}),
			Subnet: netip.PrefixFrom(netip.AddrFrom4([4]byte{172, 30, byte(n), 0}), 24), MTU: 1450,
			Container: netip.AddrFrom4([4]byte{172, 30, byte(n), 2}), MAC: h.MAC, PID: h.PID, RunDir: l.runDir(n), Log: l.daemonLog(n),
		}
		if h != want || h.PID == 0 || h.MAC.IsZero() {
			t.Errorf("host %d: got %+v, want %+v", n, h, want)
		}
	}
	reach(t, l, 1, 2)
	reach(t, l, 3, 1)

	again, err := Load(l.Name())
	if err != nil {
		t.Fatal(err)
	}
	if !slices.Equal(again.Hosts(), hosts) || !again.EtcdRunning() {
		t.Errorf("loaded: got %+v, want %+v", again.Hosts(), hosts)
	}
	if _, err := Up(t.Context(), l.Options()); !errors.Is(err, ErrExists) || !strings.Contains(err.Error(), "vxlab down -name "+l.Name()) {
		t.Errorf("second Up: got %v, want ErrExists and what to do", err)
	}
	if err := l.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	left(t, l.Name())
	for _, h := range hosts {
		if err := syscall.Kill(h.PID, 0); !errors.Is(err, syscall.ESRCH) {
			t.Errorf("the daemon of %s is there still: %v", h.Node, err)
		}
	}
	if _, err := Load(l.Name()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load after Down: got %v, want fs.ErrNotExist", err)
	}
	if _, err := l.Join(t.Context()); err == nil || !strings.Contains(err.Error(), "taken down") {
		t.Errorf("Join after Down: got %v", err)
	}
	if err := l.Down(t.Context()); err != nil {
		t.Errorf("second Down: %v", err)
	}
}

func TestTwoLabsStandAtOnceOnTheSameAddresses(t *testing.T) {
	a, b := up(t, options(t, "one", 2)), up(t, options(t, "two", 2))
	reach(t, a, 1, 2)
	reach(t, b, 2, 1)
	if err := a.Down(t.Context()); err != nil {
		t.Fatal(err)
	}
	left(t, a.Name())
	reach(t, b, 1, 2)
}

func TestHostsComeAndGoAndEtcdFails(t *testing.T) {
	l := up(t, options(t, "faults", 2))
	watched := make(chan error, 1)
	ctx, cancel := context.WithCancel(t.Context())
	go func() { watched <- l.Watch(ctx) }()

	h, err := l.Join(t.Context())
	if err != nil || h.Node != "h3" {
		t.Fatalf("Join: got %+v, %v", h, err)
	}
	reach(t, l, 1, 3)
	bare, err := l.JoinBare(t.Context())
	if err != nil || bare.Node != "h4" || bare.PID != 0 || !bare.Bare {
		t.Fatalf("JoinBare: got %+v, %v", bare, err)
	}
	if err := l.StartHost(t.Context(), 4); err == nil {
		t.Error("StartHost of a bare host: got nil, want an error")
	}

	if err := errors.Join(l.KillHost(t.Context(), 3), l.KillHost(t.Context(), 3)); err != nil {
		t.Fatal(err)
	}
	if l.Hosts()[2].PID != 0 {
		t.Error("after KillHost: the daemon runs")
	}
	if l.Hosts()[2].ByHand {
		t.Error("after KillHost: somebody else's daemon runs")
	}
	byHand, err := net.Listen("unix", filepath.Join(l.Hosts()[2].RunDir, "flannel.1.sock"))
	if err != nil {
		t.Fatal(err)
	}
	if !l.Hosts()[2].ByHand {
		t.Error("somebody else's daemon is not seen")
	}
	byHand.Close()
	if err := l.StartHost(t.Context(), 3); err != nil {
		t.Fatal(err)
	}
	if err := l.StartHost(t.Context(), 3); err == nil {
		t.Error("second StartHost: got nil, want an error")
	}
	reach(t, l, 3, 2)

	if err := l.StopEtcd(t.Context()); err != nil || l.EtcdRunning() {
		t.Fatalf("StopEtcd: got %v, running %v", err, l.EtcdRunning())
	}
	reach(t, l, 1, 2)
	if err := l.StartEtcd(t.Context()); err != nil || !l.EtcdRunning() {
		t.Fatalf("StartEtcd: got %v, running %v", err, l.EtcdRunning())
	}
	if _, err := l.Join(t.Context()); err != nil {
		t.Fatalf("Join after etcd came back: %v", err)
	}
	reach(t, l, 5, 1)

	// Nothing so far was a death that nobody asked for.
	select {
	case err := <-watched:
		t.Fatalf("Watch: got %v before anything died by itself", err)
	default:
	}
	if err := syscall.Kill(l.Hosts()[1].PID, syscall.SIGKILL); err != nil {
		t.Fatal(err)
	}
	err = <-watched
	cancel()
	var died *ProcessError
	if !errors.As(err, &died) || died.Process != "vxtap on h2" || !strings.Contains(err.Error(), "signal: killed: ready") {
		t.Errorf("Watch: got %v, want that vxtap on h2 was killed, and its last line", err)
	}
}

func TestALabIsChangedByOneAtATime(t *testing.T) {
	needRoot(t)
	name := labName("lock")
	held, err := lock(t.Context(), name, true)
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 100*time.Millisecond)
	defer cancel()
	if f, err := lock(ctx, name, true); err == nil {
		f.Close()
		t.Error("a second lock was given")
	}
	next := make(chan error, 1)
	go func() {
		f, err := lock(t.Context(), name, true)
		if err == nil {
			f.Close()
		}
		next <- err
	}()
	// The holder takes the lab down: the lock of the next one must be on the
	// new directory.
	if err := errors.Join(os.RemoveAll(StateDir(name)), held.Close()); err != nil {
		t.Fatal(err)
	}
	if err := <-next; err != nil {
		t.Error(err)
	}
	if err := os.Remove(StateDir(name)); err != nil {
		t.Error(err)
	}
	if _, err := lock(t.Context(), name, false); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("lock of nothing: got %v, want fs.ErrNotExist", err)
	}
}

func TestExecEnvironment(t *testing.T) {
	env := set(set([]string{"PATH=/a", "X=1", "PATH=/b"}, "PATH", "/c"), "Y", "")
	if want := []string{"X=1", "PATH=/c", "Y="}; !slices.Equal(env, want) {
		t.Errorf("got %q, want %q", env, want)
	}
	if got := lookup(env, "PATH"); got != "/c" {
		t.Errorf("got %q, want /c", got)
	}
	kept := inherited([]string{"HOME=/", "FLANNELD_IFACE=x", "VXTAP_PUBLIC_IP=1.2.3.4", "NOTIFY_SOCKET=/run/n", "LISTEN_FDS=3", "VXLAB_NAME=l"})
	if want := []string{"HOME=/", "VXLAB_NAME=l"}; !slices.Equal(kept, want) {
		t.Errorf("a daemon gets %q, want %q", kept, want)
	}
	dir := t.TempDir()
	if err := os.WriteFile(filepath.Join(dir, "prog"), nil, 0o755); err != nil {
		t.Fatal(err)
	}
	if got, err := findProgram("prog", "/nowhere:.:"+dir); err != nil || got != filepath.Join(dir, "prog") {
		t.Errorf("got %q, %v", got, err)
	}
	if got, err := findProgram("prog", "/nowhere"); err == nil || strings.Contains(err.Error(), "Debian") {
		t.Errorf("got %q and %v, want an error without a package", got, err)
	}
	if got, err := findProgram("ping", "/nowhere"); err == nil || !strings.Contains(err.Error(), "Debian's package iputils-ping has it") {
		t.Errorf("got %q and %v, want the package", got, err)
	}
}
