// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"vxtap/cmd/vxlab/netns"
	"vxtap/test/stall"
)

// What every testHost has.
const (
	hostAddr   = "192.0.2.1"
	hostDevice = "flannel.1"
	etcdURL    = "http://127.0.0.1:2379"
	healthURL  = "http://127.0.0.1:8081"
)

// testHost is a network namespace with an outside interface u0, an etcd of its
// own, and whatever daemon a test starts in it.
type testHost struct {
	*testing.T
	ns         *netns.Namespace
	run        string // run directory
	subnetFile string
}

func newTestHost(t *testing.T) *testHost {
	t.Helper()
	if os.Geteuid() != 0 {
		lacking(t, "network namespaces need root")
	}
	name := fmt.Sprintf("vxd%d", os.Getpid())
	ns, err := netns.Create(name)
	if err != nil {
		lacking(t, err.Error())
	}
	dir := runDir(t)
	h := &testHost{T: t, ns: ns, run: filepath.Join(dir, "run"), subnetFile: filepath.Join(dir, "subnet.env")}
	t.Cleanup(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
		defer cancel()
		_, killed := ns.KillProcesses(ctx)
		if err := errors.Join(killed, ns.Close(), netns.Delete(name)); err != nil {
			t.Error(err)
		}
	})
	if err := errors.Join(ns.AddBridge("u0", 1500), ns.AddAddr("u0", netip.MustParsePrefix(hostAddr+"/24")), ns.SetUp("u0")); err != nil {
		t.Fatal(err)
	}
	return h
}

// newRunningHost makes a host with an etcd that has the config, and with a daemon
// that is ready.
func newRunningHost(t *testing.T, config string, args ...string) (*testHost, *process) {
	t.Helper()
	h := newTestHost(t)
	h.startEtcd(config)
	p := h.daemon(nil, args...)
	h.ready(p)
	return h, p
}

// startEtcd starts an etcd in the namespace and puts the network config.
func (h *testHost) startEtcd(config string, flags ...string) *process {
	h.Helper()
	if _, err := exec.LookPath("etcd"); err != nil {
		lacking(h.T, "there is no etcd binary: install Debian's etcd-server and etcd-client")
	}
	p := h.start(exec.Command("etcd", append([]string{"--data-dir", filepath.Join(filepath.Dir(h.run), "etcd"),
		"--listen-client-urls", etcdURL, "--advertise-client-urls", etcdURL, "--listen-peer-urls", "http://127.0.0.1:2380",
		"--logger", "zap", "--log-level", "error"}, flags...)...))
	h.eventually("etcd answers", func() error {
		_, err := h.get(etcdURL + "/health")
		return errors.Join(err, p.died())
	})
	h.etcdctl("put", "/coreos.com/network/config", config)
	return p
}

// etcdctl runs etcdctl in the namespace and returns what it prints.
func (h *testHost) etcdctl(args ...string) string {
	h.Helper()
	cmd := exec.Command("etcdctl", append([]string{"--endpoints=" + etcdURL}, args...)...)
	cmd.Env = append(os.Environ(), "ETCDCTL_API=3")
	var out []byte
	err := h.ns.Do(func() (err error) {
		out, err = cmd.CombinedOutput()
		return err
	})
	if err != nil {
		h.Fatalf("etcdctl %s: %v: %s", strings.Join(args, " "), err, out)
	}
	return strings.TrimSpace(string(out))
}

// leases returns the keys of all leases.
func (h *testHost) leases() string {
	h.Helper()
	return h.etcdctl("get", "--prefix", "--keys-only", "/coreos.com/network/subnets")
}

// daemonArgs are the flags that every daemon of a test gets, before its own: of
// a flag that is there twice the last counts, but for -iface.
func (h *testHost) daemonArgs(args ...string) []string {
	own := []string{
		"-etcd-endpoints=" + etcdURL, "-run-dir=" + h.run, "-subnet-file=" + h.subnetFile,
		"-state-dir=" + h.stateDir(),
		"-healthz-ip=127.0.0.1", "-healthz-port=8081",
	}
	if !slices.ContainsFunc(args, func(a string) bool { return strings.HasPrefix(a, "-iface=") }) {
		own = append(own, "-iface=u0")
	}
	return append(own, args...)
}

func (h *testHost) stateDir() string { return filepath.Join(filepath.Dir(h.run), "state") }

// daemon starts vxtap in the namespace.
func (h *testHost) daemon(env []string, args ...string) *process {
	h.Helper()
	cmd := exec.Command("/proc/self/exe", h.daemonArgs(args...)...)
	cmd.Env = append(append(os.Environ(), asVxtap+"=1"), env...)
	return h.start(cmd)
}

// ready waits until the daemon says that it is.
func (h *testHost) ready(p *process) {
	h.Helper()
	h.eventually("the daemon is ready", func() error {
		body, err := h.get(healthURL + "/readyz")
		if err == nil && body != "vxtap is ready\n" {
			err = errors.New(body)
		}
		return errors.Join(err, p.died())
	})
}

// get returns the body of an answer, whatever its status.
func (h *testHost) get(url string) (string, error) {
	ctx, cancel := context.WithTimeout(h.Context(), 5*time.Second)
	defer cancel()
	req, err := http.NewRequestWithContext(ctx, http.MethodGet, url, nil)
	if err != nil {
		return "", err
	}
	client := http.Client{Transport: &http.Transport{DialContext: h.ns.DialContext, DisableKeepAlives: true}}
	resp, err := client.Do(req)
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	body, err := io.ReadAll(resp.Body)
	return string(body), err
}

// status asks the daemon as vxtap status does. Unix sockets with a path are of
// no network namespace.
func (h *testHost) status() Status {
	h.Helper()
	ctx, cancel := context.WithTimeout(h.Context(), 20*time.Second) // one that hangs is not waited for
	defer cancel()
	s, err := askDaemon(ctx, h.run, "")
	if err != nil {
		h.Fatal(err)
	}
	return s
}

// tapIndex returns the interface index of the TAP, 0 if there is none.
func (h *testHost) tapIndex() int {
	i, err := h.ns.Interface(hostDevice)
	if err != nil {
		return 0
	}
	return i.Index
}

// nothingLeft checks that no daemon has left anything but leases and the
// subnet file.
func (h *testHost) nothingLeft() {
	h.Helper()
	if h.tapIndex() != 0 {
		h.Errorf("%s is still there", hostDevice)
	}
	if entries, err := os.ReadDir(h.run); err == nil && len(entries) > 0 {
		h.Errorf("the run directory still has %v", entries)
	}
	var conn net.PacketConn
	err := h.ns.Do(func() (err error) {
		conn, err = net.ListenPacket("udp", hostAddr+":8472")
		return err
	})
	if err != nil {
		h.Errorf("the port is still taken: %v", err)
		return
	}
	conn.Close()
}

// eventually waits until f returns nil. A process does not tell when it is
// where a test wants it; looking often is all there is.
func (h *testHost) eventually(what string, f func() error) {
	h.Helper()
	clock, tick := stall.Start(), time.NewTicker(20*time.Millisecond)
	defer tick.Stop()
	for {
		err := f()
		if err == nil {
			return
		}
		if clock.Took() > 20*time.Second {
			h.Fatalf("%s: not after 20 s: %v", what, err)
		}
		<-tick.C
	}
}

// process is one program in the namespace.
type process struct {
	cmd   *exec.Cmd
	ended chan struct{}

	mu     sync.Mutex
	output bytes.Buffer
}

func (h *testHost) start(cmd *exec.Cmd) *process {
	h.Helper()
	p := &process{cmd: cmd, ended: make(chan struct{})}
	if cmd.Stderr == nil {
		cmd.Stdout, cmd.Stderr = p, p
	}
	if err := h.ns.Start(cmd); err != nil {
		h.Fatal(err)
	}
	go func() {
		defer close(p.ended)
		_ = cmd.Wait() // the status is in ProcessState
	}()
	h.Cleanup(func() {
		_ = cmd.Process.Kill() // it may have ended already
		<-p.ended
		if h.Failed() {
			h.Logf("%s printed:\n%s", cmd.Path, p.printed())
		}
	})
	return p
}

func (p *process) Write(b []byte) (int, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.Write(b)
}

func (p *process) printed() string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.output.String()
}

// died returns an error when the process has ended.
func (p *process) died() error {
	select {
	case <-p.ended:
		return fmt.Errorf("%s ended: %s", p.cmd.Path, p.printed())
	default:
		return nil
	}
}

// wait returns the exit status. The process has to end by itself, and within
// limit if the machine lets it run.
func (p *process) wait(h *testHost, limit time.Duration) int {
	h.Helper()
	clock, tick := stall.Start(), time.NewTicker(10*time.Millisecond)
	defer tick.Stop()
	for {
		select {
		case <-p.ended:
			return p.cmd.ProcessState.ExitCode()
		case <-tick.C:
		}
		if clock.Took() > limit {
			h.Fatalf("still running after %v", limit)
		}
	}
}

// stop sends SIGTERM and wants exit status 0 within two seconds.
func (p *process) stop(h *testHost) {
	h.Helper()
	if err := p.cmd.Process.Signal(syscall.SIGTERM); err != nil {
		h.Fatal(err)
	}
	if got := p.wait(h, 2*time.Second); got != exitOK {
		h.Errorf("got status %d after SIGTERM, want 0", got)
	}
}

// failure returns the last line that was printed, which has to be the one and
// only line that is not of the log.
func (p *process) failure(h *testHost) string {
	h.Helper()
	var plain []string
	for line := range strings.Lines(p.printed()) {
		if !strings.HasPrefix(line, "time=") {
			plain = append(plain, strings.TrimSuffix(line, "\n"))
		}
	}
	if len(plain) != 1 {
		h.Fatalf("got %d lines that are not of the log, want 1: %q", len(plain), plain)
	}
	return plain[0]
}

func (h *testHost) macOf(device string) string {
	h.Helper()
	i, err := h.ns.Interface(device)
	if err != nil {
		h.Fatal(err)
	}
	return i.HardwareAddr.String()
}
