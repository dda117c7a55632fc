// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"runtime"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"go.uber.org/goleak"
)

func TestMain(m *testing.M) {
	if len(os.Args) > 1 && os.Args[1] == "exec-in" {
		execIn(os.Args[2], os.Args[3:])
	}
	goleak.VerifyTestMain(m)
}

// execIn is the test binary as a program that replaces itself by another.
func execIn(name string, argv []string) {
	n, err := Open(name)
	if err == nil {
		err = n.Exec(argv[0], argv, os.Environ())
	}
	fmt.Fprintln(os.Stderr, err)
	os.Exit(1)
}

// newNamespace makes a namespace that goes with the test. Where that is not
// possible the test says so and is left out, or fails in CI.
func newNamespace(t *testing.T, suffix string) *Namespace {
	t.Helper()
	name := fmt.Sprintf("vxnstest-%d-%s", os.Getpid(), suffix)
	n, err := Create(name)
	if errors.Is(err, os.ErrPermission) {
		if os.Getenv("CI") == "true" {
			t.Fatalf("network namespaces are needed: %v", err)
		}
		t.Skipf("left out, it needs root for network namespaces: %v", err)
	}
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 5*time.Second)
		defer cancel()
		if _, err := n.KillProcesses(ctx); err != nil {
			t.Error(err)
		}
		n.Close()
		if err := Delete(name); err != nil && !errors.Is(err, fs.ErrNotExist) {
			t.Error(err)
		}
	})
	return n
}

func check(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func TestCreateOpenDelete(t *testing.T) {
	n := newNamespace(t, "life")
	if _, err := Create(n.Name()); !errors.Is(err, fs.ErrExist) {
		t.Errorf("second Create: got %v, want fs.ErrExist", err)
	}
	lo, err := n.Interface("lo")
	check(t, err)
	if lo.Flags&net.FlagUp == 0 {
		t.Error("lo is down, want it up")
	}
	names, err := List(n.Name())
	check(t, err)
	if !Exists(n.Name()) || len(names) != 1 || names[0] != n.Name() {
		t.Errorf("after Create: Exists %v, List %q", Exists(n.Name()), names)
	}
	again, err := Open(n.Name())
	check(t, err)
	check(t, again.Close(), Delete(n.Name()))
	if Exists(n.Name()) {
		t.Error("after Delete: Exists is true, want false")
	}
	if _, err := Open(n.Name()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("Open after Delete: got %v, want fs.ErrNotExist", err)
	}
	if err := Delete(n.Name()); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("second Delete: got %v, want fs.ErrNotExist", err)
	}
	if err := n.SetUp("lo"); err != nil {
		t.Errorf("an open namespace without a name: %v, want it usable", err)
	}
}

func TestIPCommandWorksOnOurNames(t *testing.T) {
	ip, err := exec.LookPath("ip")
	if err != nil && os.Getenv("CI") == "true" {
		t.Fatal(err)
	}
	if err != nil {
		t.Skipf("left out, there is no ip command: %v", err)
	}
	n := newNamespace(t, "ip")
	out, err := exec.CommandContext(t.Context(), ip, "netns", "exec", n.Name(), ip, "link", "show", "lo").CombinedOutput()
	if err != nil || !bytes.Contains(out, []byte("LOOPBACK,UP")) {
		t.Errorf("ip netns exec: got %v, %s", err, out)
	}
}

func TestAFileWithNothingMountedIsRefusedAndDeleted(t *testing.T) {
	n := newNamespace(t, "stale")
	check(t, syscall.Unmount(path(n.Name()), syscall.MNT_DETACH))
	if _, err := Open(n.Name()); !errors.Is(err, fs.ErrInvalid) {
		t.Errorf("Open: got %v, want fs.ErrInvalid", err)
	}
	if err := Delete(n.Name()); err != nil || Exists(n.Name()) {
		t.Errorf("Delete: got %v, exists %v", err, Exists(n.Name()))
	}
}

// pair makes two namespaces with a veth pair, 192.0.2.1 and 192.0.2.2.
func pair(t *testing.T, prefix string, mtu int) (a, b *Namespace) {
	t.Helper()
	a, b = newNamespace(t, prefix+"a"), newNamespace(t, prefix+"b")
	check(t, AddVeth(a, "eth0", b, "eth0", mtu),
		a.AddAddr("eth0", netip.MustParsePrefix("192.0.2.1/24")), b.AddAddr("eth0", netip.MustParsePrefix("192.0.2.2/24")),
		a.SetUp("eth0"), b.SetUp("eth0"))
	return a, b
}

// talk sends a few bytes over TCP from one namespace to an address of another
// and reports whether they came back.
func talk(t *testing.T, from, to *Namespace, addr string) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Second)
	defer cancel()
	listener, err := to.Listen(ctx, netip.MustParseAddrPort(addr+":0"))
	check(t, err)
	defer listener.Close()
	var echo sync.WaitGroup
	defer echo.Wait()
	echo.Go(func() {
		conn, err := listener.Accept()
		if err == nil {
			_, _ = io.Copy(conn, conn)
			conn.Close()
		}
	})
	conn, err := from.DialContext(ctx, "tcp", listener.Addr().String())
	if err != nil {
		listener.Close() // or the echo would wait for a caller for ever
		return err
	}
	defer conn.Close()
	if _, err := conn.Write([]byte("ping")); err != nil {
		return err
	}
	got := make([]byte, 4)
	_, err = io.ReadFull(conn, got)
	if err == nil && string(got) != "ping" {
		err = fmt.Errorf("got %q, want ping", got)
	}
	return err
}

func TestVethCarriesTraffic(t *testing.T) {
	a, b := pair(t, "veth", 9000)
	if err := talk(t, a, b, "192.0.2.2"); err != nil {
		t.Error(err)
	}
	for _, n := range []*Namespace{a, b} {
		dev, err := n.Interface("eth0")
		check(t, err)
		if dev.MTU != 9000 {
			t.Errorf("%s: got MTU %d, want 9000", n.Name(), dev.MTU)
		}
	}
	check(t, a.SetMTU("eth0", 1400))
	dev, err := a.Interface("eth0")
	check(t, err)
	if dev.MTU != 1400 {
		t.Errorf("after SetMTU: got %d, want 1400", dev.MTU)
	}
}

func TestBridgeRouteAndForwarding(t *testing.T) {
	// left -- router -- bridge of "right": as container, host and underlay.
	left, router, right := newNamespace(t, "l"), newNamespace(t, "r"), newNamespace(t, "g")
	check(t, AddVeth(left, "eth0", router, "l0", 0), AddVeth(router, "r0", right, "p0", 0),
		right.AddBridge("br0", 1500), right.Attach("br0", "p0"),
		left.AddAddr("eth0", netip.MustParsePrefix("198.51.100.2/24")), router.AddAddr("l0", netip.MustParsePrefix("198.51.100.1/24")),
		router.AddAddr("r0", netip.MustParsePrefix("203.0.113.1/24")), right.AddAddr("br0", netip.MustParsePrefix("203.0.113.2/24")),
		left.SetUp("eth0"), router.SetUp("l0"), router.SetUp("r0"), right.SetUp("p0"), right.SetUp("br0"),
		left.AddRoute(netip.Prefix{}, netip.MustParseAddr("198.51.100.1")),
		right.AddRoute(netip.MustParsePrefix("198.51.100.0/24"), netip.MustParseAddr("203.0.113.1")),
		router.SetSysctl("net.ipv4.ip_forward", "1"))
	if err := talk(t, left, right, "203.0.113.2"); err != nil {
		t.Error(err)
	}
	check(t, left.DeleteAddrs("eth0"))
	if err := talk(t, left, right, "203.0.113.2"); err == nil {
		t.Error("after DeleteAddrs: connected, want no route")
	}
	check(t, router.DeleteLink("l0"))
	if _, err := left.Interface("eth0"); err == nil {
		t.Error("the other end of a deleted veth pair is there still")
	}
}

func TestSettingsOutsideNetAreRefused(t *testing.T) {
	n := newNamespace(t, "ctl")
	for _, key := range []string{"kernel.ostype", "net/../kernel/ostype", "/proc/sys/net/ipv4/ip_forward", "net", ""} {
		if err := n.SetSysctl(key, "1"); err == nil || errors.Is(err, os.ErrPermission) {
			t.Errorf("SetSysctl(%q): got nil, want an error", key)
		}
	}
}

func TestABridgeKeepsItsAddressWhenPortsCome(t *testing.T) {
	n := newNamespace(t, "brmac")
	check(t, n.AddBridge("br0", 0), n.SetUp("br0"))
	before, err := n.Interface("br0")
	check(t, err)
	for i := range 8 { // one of them is lower, but for one time in 2^8
		port := fmt.Sprintf("p%d", i)
		check(t, AddVeth(n, port, n, "x"+port, 0), n.Attach("br0", port), n.SetUp(port))
	}
	after, err := n.Interface("br0")
	check(t, err)
	if !bytes.Equal(before.HardwareAddr, after.HardwareAddr) {
		t.Errorf("got %s, want %s still", after.HardwareAddr, before.HardwareAddr)
	}
}

func ownNamespace(t *testing.T) string {
	t.Helper()
	s, err := os.Readlink("/proc/thread-self/ns/net")
	check(t, err)
	return s
}

func TestDoLeavesEveryThreadWhereItWas(t *testing.T) {
	n := newNamespace(t, "do")
	home := ownNamespace(t)
	var wg sync.WaitGroup
	for range 16 {
		wg.Go(func() {
			for range 20 {
				inside := ""
				if err := n.Do(func() (err error) {
					inside, err = os.Readlink("/proc/thread-self/ns/net")
					return err
				}); err != nil {
					t.Error(err)
				}
				if inside == home || inside == "" {
					t.Errorf("in Do: got namespace %q, home is %q", inside, home)
				}
			}
		})
	}
	wg.Wait()
	for range 100 {
		runtime.Gosched()
		if got := ownNamespace(t); got != home {
			t.Fatalf("after Do: got namespace %s, want %s", got, home)
		}
	}
	main, err := os.Readlink("/proc/self/ns/net")
	check(t, err)
	if main != home {
		t.Errorf("the process shows namespace %s, want %s", main, home)
	}
}

func TestDoReportsAFunctionThatEndsItsGoroutine(t *testing.T) {
	n := newNamespace(t, "goexit")
	if err := n.Do(func() error { runtime.Goexit(); return nil }); !errors.Is(err, errGone) {
		t.Errorf("got %v, want %v", err, errGone)
	}
	want := errors.New("its own")
	if err := n.Do(func() error { return want }); !errors.Is(err, want) {
		t.Errorf("got %v, want %v", err, want)
	}
}

func TestCloseWhileInUse(t *testing.T) {
	n := newNamespace(t, "close")
	var wg sync.WaitGroup
	for range 8 {
		wg.Go(func() {
			for n.Do(func() error { return nil }) == nil {
			}
		})
	}
	again, err := Open(n.Name())
	check(t, err, n.Close())
	wg.Wait() // every Do fails now
	n.file = again.file
}

func TestAChildLivesInTheNamespaceAndIsFound(t *testing.T) {
	n := newNamespace(t, "child")
	cmd := exec.CommandContext(t.Context(), "sleep", "60")
	check(t, n.Start(cmd))
	pids, err := n.Processes()
	check(t, err)
	if len(pids) != 1 || pids[0] != cmd.Process.Pid {
		t.Errorf("Processes: got %v, want only %d", pids, cmd.Process.Pid)
	}
	if sid, _, _ := syscall.Syscall(syscall.SYS_GETSID, uintptr(cmd.Process.Pid), 0, 0); int(sid) != cmd.Process.Pid {
		t.Errorf("session %d, want one of its own (%d)", sid, cmd.Process.Pid)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }() // a zombie has no namespace, but the test shall not leave one
	count, err := n.KillProcesses(t.Context())
	if err != nil || count != 1 {
		t.Errorf("KillProcesses: got %d, %v, want 1", count, err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "terminated") {
		t.Errorf("the child ended with %v, want by SIGTERM", err)
	}
}

func TestAChildThatIgnoresSIGTERMIsKilled(t *testing.T) {
	n := newNamespace(t, "stubborn")
	cmd := exec.CommandContext(t.Context(), "sh", "-c", `trap "" TERM; echo ready; while :; do sleep 60; done`)
	out, err := cmd.StdoutPipe()
	check(t, err)
	check(t, n.Start(cmd))
	if _, err := io.ReadFull(out, make([]byte, 6)); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	if _, err := n.KillProcesses(t.Context()); err != nil {
		t.Error(err)
	}
	if err := <-ended; err == nil || !strings.Contains(err.Error(), "killed") {
		t.Errorf("the child ended with %v, want by SIGKILL", err)
	}
}

func TestParentDeathSignalIsRefused(t *testing.T) {
	n := newNamespace(t, "pdeath")
	cmd := exec.CommandContext(t.Context(), "true")
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := n.Start(cmd); err == nil {
		t.Error("got nil, want an error")
	}
}

func TestExecSeesTheNamespaceInSys(t *testing.T) {
	a, _ := pair(t, "sys", 0)
	self, err := os.Executable()
	check(t, err)
	before := mountsOfSys(t)
	out, err := exec.CommandContext(t.Context(), self, "exec-in", a.Name(), "/bin/ls", "/sys/class/net").CombinedOutput()
	if got, want := strings.Fields(string(out)), "eth0 lo"; err != nil || strings.Join(got, " ") != want {
		t.Errorf("/sys/class/net: got %q, %v, want %q", got, err, want)
	}
	if after := mountsOfSys(t); !slices.Equal(before, after) {
		t.Errorf("the mounts outside have changed: got %q, want %q", after, before)
	}
}

// mountsOfSys returns the mounts at and below /sys. Others are not our matter:
// whoever makes a namespace meanwhile, as other tests do, mounts it.
func mountsOfSys(t *testing.T) []string {
	t.Helper()
	text, err := os.ReadFile("/proc/self/mounts")
	check(t, err)
	var mounts []string
	for line := range strings.Lines(string(text)) {
		if point := strings.Fields(line)[1]; point == "/sys" || strings.HasPrefix(point, "/sys/") {
			mounts = append(mounts, line)
		}
	}
	if len(mounts) == 0 {
		t.Fatal("nothing is mounted at /sys, so that no change would be seen")
	}
	return mounts
}

func TestANumericAddressIsNeeded(t *testing.T) {
	n := newNamespace(t, "dial")
	if conn, err := n.DialContext(t.Context(), "tcp", "localhost:1"); err == nil {
		conn.Close()
		t.Error("got a connection, want an error")
	}
}
