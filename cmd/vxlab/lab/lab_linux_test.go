// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"

	"vxtap/cmd/vxlab/etcd"
	"vxtap/cmd/vxlab/netns"
)

// TestMain lets the test binary take the place of vxlab for EtcdCommand.
func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == EtcdCommand {
		os.Exit(serveEtcd(os.Args[2:]))
	}
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if dir, err := standinDir(); err == nil {
			_ = os.RemoveAll(dir)
		}
		os.Exit(code)
	}))
}

func serveEtcd(args []string) int {
	var c etcd.Config
	flags := flag.NewFlagSet(EtcdCommand, flag.ExitOnError)
	flags.StringVar(&c.Dir, EtcdDirFlag, "", "")
	flags.TextVar(&c.Client, EtcdClientFlag, netip.AddrPort{}, "")
	flags.TextVar(&c.Peer, EtcdPeerFlag, netip.AddrPort{}, "")
	flags.StringVar(&c.Key, EtcdKeyFlag, "", "")
	flags.StringVar(&c.Value, EtcdValueFlag, "", "")
	_ = flags.Parse(args)
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	if err := etcd.Serve(ctx, c); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return 0
}

// needRoot leaves a test out where namespaces cannot be made; in CI it fails.
func needRoot(t *testing.T) {
	t.Helper()
	if os.Geteuid() == 0 {
		return
	}
	if os.Getenv("CI") == "true" {
		t.Fatal("root is needed for network namespaces")
	}
	t.Skip("left out: it needs root for network namespaces")
}

var standinDir = sync.OnceValues(func() (string, error) { return os.MkdirTemp("", "standin") })

// buildStandin builds the daemon that takes vxtap's place here, once.
var buildStandin = sync.OnceValues(func() (string, error) {
	dir, err := standinDir()
	if err != nil {
		return "", err
	}
	path := filepath.Join(dir, "standin")
	out, err := exec.Command("go", "build", "-o", path, "./testdata/standin").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("build the stand-in: %w\n%s", err, out)
	}
	return path, nil
})

func standin(t *testing.T) string {
	t.Helper()
	path, err := buildStandin()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// labName returns a name that no other run has.
func labName(suffix string) string { return fmt.Sprintf("t%d-%s", os.Getpid(), suffix) }

// options are those of a small lab of stand-ins that is gone after the test.
func options(t *testing.T, suffix string, hosts int) Options {
	t.Helper()
	needRoot(t)
	name := labName(suffix)
	t.Cleanup(func() {
		if _, err := Down(context.Background(), name); err != nil {
			t.Error(err)
		}
		left(t, name)
	})
	return Options{Name: name, Hosts: hosts, Vxtap: standin(t), Owned: true, Progress: t.Output()}
}

// left fails the test if anything of a lab is left.
func left(t *testing.T, name string) {
	t.Helper()
	names, err := List()
	if err != nil || slices.Contains(names, name) {
		t.Errorf("lab %s is not gone: %q, %v", name, names, err)
	}
	namespaces, err := netns.List(nsPrefix + name + "-")
	if err != nil || len(namespaces) > 0 {
		t.Errorf("namespaces left: %q, %v", namespaces, err)
	}
	if _, err := os.Lstat(StateDir(name)); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("%s: got %v, want it gone", StateDir(name), err)
	}
}

func up(t *testing.T, o Options) *Lab {
	t.Helper()
	l, err := Up(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := l.Down(context.Background()); err != nil {
			t.Error(err)
		}
	})
	return l
}

// reach fails the test unless the container of host a can open a TCP
// connection to that of host b, soon.
func reach(t *testing.T, l *Lab, a, b int) {
	t.Helper()
	from, err := l.Namespace(ContainerNode(a))
	if err != nil {
		t.Fatal(err)
	}
	defer from.Close()
	to, err := l.Namespace(ContainerNode(b))
	if err != nil {
		t.Fatal(err)
	}
	defer to.Close()
	listener, err := to.Listen(t.Context(), netip.AddrPortFrom(l.Hosts()[b-1].Container, 0))
	if err != nil {
		t.Fatal(err)
	}
	defer listener.Close()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
	defer cancel()
	err = wait(ctx, func() (bool, error) {
		try, cancel := context.WithTimeout(ctx, time.Second)
		defer cancel()
		conn, err := from.DialContext(try, "tcp", listener.Addr().String())
		if err == nil {
			conn.Close()
		}
		return err == nil, nil
	})
	if err != nil {
		t.Errorf("c%d does not reach c%d: %v", a, b, err)
	}
}

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

func TestUpThatFailsLeavesNothing(t *testing.T) {
	for _, tt := range []struct {
		name, suffix string
		change       func(*Options)
		want         string
	}{
		{"a daemon that ends at once", "exit", func(o *Options) { o.Args = []string{"-misbehave=exit"} }, "exit status 1: standin: told to end at once"},
		{"a daemon that does not know a flag", "flag", func(o *Options) { o.Args = []string{"-nonsense"} }, "exit status 2"},
		{"an etcd that does not start", "noetcd", func(o *Options) { o.Vxlab = "/bin/false" }, "etcd ended: exit status 1"},
		{"a daemon that cannot be run", "notelf", func(o *Options) { o.Vxtap = "testdata/standin/main.go" }, "not a program"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			o := options(t, tt.suffix, 2)
			tt.change(&o)
			if l, err := Up(t.Context(), o); err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Errorf("got %v, %v, want %q", l, err, tt.want)
			}
			left(t, o.Name)
		})
	}
}

func TestUpThatIsInterruptedLeavesNothing(t *testing.T) {
	o := options(t, "int", 2)
	o.Args = []string{"-misbehave=mute"} // Up waits for it
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() {
		_, err := Up(ctx, o)
		done <- err
	}()
	if err := wait(t.Context(), func() (bool, error) {
		_, err := os.Stat(filepath.Join(StateDir(o.Name), "h2", "subnet.env"))
		return err == nil, nil
	}); err != nil {
		t.Fatal(err)
	}
	cancel()
	if err := <-done; !errors.Is(err, context.Canceled) {
		t.Errorf("got %v, want context.Canceled", err)
	}
	left(t, o.Name)
}

func TestAJoinThatFailsLeavesTheLabAsItWas(t *testing.T) {
	l := up(t, options(t, "join", 2))
	if _, err := l.Join(t.Context(), "-misbehave=exit"); err == nil || !strings.Contains(err.Error(), "vxtap on h3 ended") {
		t.Errorf("got %v, want that vxtap on h3 ended", err)
	}
	if got := len(l.Hosts()); got != 2 || netns.Exists(NamespaceName(l.Name(), "h3")) || netns.Exists(NamespaceName(l.Name(), "c3")) {
		t.Errorf("got %d hosts, or a namespace of the third", got)
	}
	if h, err := l.Join(t.Context()); err != nil || h.Node != "h3" {
		t.Errorf("next Join: got %+v, %v", h, err)
	}
	reach(t, l, 3, 1)
}

func TestDownWithoutRecords(t *testing.T) {
	o := options(t, "norec", 2)
	o.Args = []string{"-misbehave=deaf"} // SIGTERM is not enough
	l := up(t, o)
	hosts := l.Hosts()
	l.expectDeaths()
	if err := os.RemoveAll(StateDir(o.Name)); err != nil {
		t.Fatal(err)
	}
	if _, err := Load(o.Name); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Load: got %v, want fs.ErrNotExist", err)
	}
	if _, err := Up(t.Context(), o); !errors.Is(err, ErrExists) {
		t.Errorf("Up over the rests: got %v, want ErrExists", err)
	}
	found, err := Down(t.Context(), o.Name)
	if !found || err != nil {
		t.Errorf("Down: got %v, %v", found, err)
	}
	left(t, o.Name)
	for _, h := range hosts {
		if (identity{PID: h.PID}).alive() {
			t.Errorf("the daemon of %s lives", h.Node)
		}
	}
	if found, err := Down(t.Context(), o.Name); found || err != nil {
		t.Errorf("second Down: got %v, %v, want that there was nothing", found, err)
	}
}

func TestDownWithBrokenRecordsAndAHalfBuiltLab(t *testing.T) {
	o := options(t, "half", 1)
	for _, node := range []string{"net", "h1", "c7"} {
		ns, err := netns.Create(NamespaceName(o.Name, node))
		if err != nil {
			t.Fatal(err)
		}
		ns.Close()
	}
	// A crash between making a file and mounting the namespace on it.
	if err := syscall.Unmount(filepath.Join(netns.Dir, NamespaceName(o.Name, "c7")), syscall.MNT_DETACH); err != nil {
		t.Fatal(err)
	}
	neighbour, err := netns.Create("x" + NamespaceName(o.Name, "h1"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() {
		neighbour.Close()
		if err := netns.Delete(neighbour.Name()); err != nil {
			t.Error(err)
		}
	}()
	if err := os.MkdirAll(StateDir(o.Name), 0o755); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(StateDir(o.Name), "lab.json"), []byte(`{"etcd":{"pid":-1}}`), 0o644); err != nil {
		t.Fatal(err)
	}
	if _, err := Up(t.Context(), o); !errors.Is(err, ErrExists) {
		t.Errorf("Up: got %v, want ErrExists", err)
	}
	if found, err := Down(t.Context(), o.Name); !found || err != nil {
		t.Errorf("Down: got %v, %v", found, err)
	}
	left(t, o.Name)
	if !netns.Exists(neighbour.Name()) {
		t.Error("a namespace that is not ours is gone")
	}
}

func TestDownFindsADaemonWhoseNamespaceHasNoName(t *testing.T) {
	l := up(t, options(t, "noname", 1))
	pid := l.Hosts()[0].PID
	if err := netns.Delete(NamespaceName(l.Name(), "h1")); err != nil {
		t.Fatal(err)
	}
	if err := l.Down(t.Context()); err != nil {
		t.Error(err)
	}
	if err := syscall.Kill(pid, 0); !errors.Is(err, syscall.ESRCH) {
		t.Errorf("the daemon lives: %v", err)
	}
}

func TestALabWhoseOwnerIsGoneIsReplaced(t *testing.T) {
	l := up(t, options(t, "owner", 1))
	l.mu.Lock()
	l.state.Owner.Start-- // somebody else, who has ended
	err := l.state.write()
	l.expectDeaths()
	l.mu.Unlock()
	if err != nil {
		t.Fatal(err)
	}
	next := up(t, l.Options())
	if err := next.Keep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if _, err := Up(t.Context(), l.Options()); !errors.Is(err, ErrExists) {
		t.Errorf("Up over a lab that is kept: got %v, want ErrExists", err)
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
