// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"context"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
)

// config has a loopback address of its own, which no other test run uses.
func config(t *testing.T) Config {
	t.Helper()
	addr := netip.AddrFrom4([4]byte{127, 77, byte(os.Getpid() >> 8), byte(os.Getpid())})
	return Config{
		Dir: filepath.Join(t.TempDir(), "data"), Key: "/x/config", Value: `{"a":1}`,
		Client: netip.AddrPortFrom(addr, 2379), Peer: netip.AddrPortFrom(addr, 2380),
	}
}

// serve starts the server until the returned function is called.
func serve(t *testing.T, c Config) (stop func()) {
	t.Helper()
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Serve(ctx, c) }()
	return func() {
		t.Helper()
		cancel()
		if err := <-ended; err != nil {
			t.Errorf("Serve: got %v, want nil after its context ended", err)
		}
	}
}

func client(t *testing.T, c Config) *clientv3.Client {
	t.Helper()
	cl, err := clientv3.New(clientv3.Config{Endpoints: []string{"http://" + c.Client.String()}, DialTimeout: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { cl.Close() })
	return cl
}

// await waits until the key has a value.
func await(t *testing.T, cl *clientv3.Client, key, want string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	defer cancel()
	for w := range cl.Watch(ctx, key, clientv3.WithRev(1)) {
		for _, e := range w.Events {
			if string(e.Kv.Value) == want {
				return
			}
		}
	}
	t.Fatalf("%s never became %s", key, want)
}

func TestTheKeyIsMadeOnceAndDataStay(t *testing.T) {
	c := config(t)
	cl := client(t, c)
	stop := serve(t, c)
	await(t, cl, c.Key, c.Value)
	if _, err := cl.Put(t.Context(), c.Key, "changed"); err != nil {
		t.Fatal(err)
	}
	stop()

	stop = serve(t, c)
	defer stop()
	await(t, cl, c.Key, "changed")
	got, err := cl.Get(t.Context(), c.Key)
	if err != nil || len(got.Kvs) != 1 || string(got.Kvs[0].Value) != "changed" || got.Kvs[0].Version != 2 {
		t.Errorf("after a restart: got %v, %v, want what a client has put", got, err)
	}
}

func TestAPortThatIsTakenIsAnError(t *testing.T) {
	c := config(t)
	l, err := net.Listen("tcp", c.Client.String())
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	if err := Serve(t.Context(), c); err == nil || !strings.Contains(err.Error(), "start etcd: ") || !strings.Contains(err.Error(), "in use") {
		t.Errorf("got %v, want that the address is in use", err)
	}
}

func TestTheDataAreSmall(t *testing.T) {
	c := config(t)
	stop := serve(t, c)
	await(t, client(t, c), c.Key, c.Value)
	stop()
	var bytes int64
	err := filepath.WalkDir(c.Dir, func(_ string, d os.DirEntry, err error) error {
		if err != nil {
			return err
		}
		info, err := d.Info()
		if err == nil && info.Mode().IsRegular() {
			bytes += info.Size()
		}
		return err
	})
	if err != nil || bytes > 3*segmentSize {
		t.Errorf("got %d bytes, %v, want at most %d: /run may be a small tmpfs", bytes, err, 3*segmentSize)
	}
}
