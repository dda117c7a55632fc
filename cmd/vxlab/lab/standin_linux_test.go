// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"io/fs"
	"net/netip"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
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
