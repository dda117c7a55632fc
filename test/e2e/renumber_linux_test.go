// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
)

// A host that is started with another address than it had keeps its subnet, and
// its containers their addresses: its peers see one change of one key. What is
// not its own by then it leaves alone.
func TestRestartWithAnotherAddress(t *testing.T) {
	b := bed.Up(t, lab.Options{Hosts: 2})
	one, two := b.ContainerEnd(1), b.ContainerEnd(2)
	bed.Eventually(t, 2*time.Second, func() error { return reaches(t, one, two) })
	was := before(b)
	h1 := b.Node("h1")
	restart := func(vtep string, between func()) {
		t.Helper()
		remembers(t, b, 1)
		if err := b.StopHost(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
		// The lab asks on the first address whether the daemon is ready.
		bed.Run(t, h1, "sh", "-c", "ip link set lo up; ip addr replace 192.168.77.11/32 dev lo; "+fmt.Sprintf(renumber, vtep))
		between()
		if err := b.StartHost(t.Context(), 1); err != nil {
			t.Fatal(err)
		}
	}
	revision := func() (created, version string) {
		for line := range strings.Lines(b.Etcdctl("get", "-w", "fields", bed.Prefix+"/"+was.key)) {
			name, v, _ := strings.Cut(strings.TrimSpace(line), " : ")
			switch name {
			case `"CreateRevision"`:
				created = v
			case `"Version"`:
				version = v
			}
		}
		return created, version
	}
	created, version := revision()
	restart("192.168.77.111", func() {})
	bed.Eventually(t, 2*time.Second, func() error { return errors.Join(was.check(t, b, "192.168.77.111"), reaches(t, one, two)) })
	if c, v := revision(); c != created || version != "1" || v != "2" {
		t.Errorf("the key was created at %s and has version %s; it was %s and %s, and is to have one change", c, v, created, version)
	}
	bed.Eventually(t, 20*time.Second, func() error {
		files, err := filepath.Glob(filepath.Join(b.Host(1).RunDir, "*-*.json"))
		if err != nil || len(files) != 1 || !strings.Contains(files[0], "192.168.77.111-") {
			return fmt.Errorf("what is remembered is in %v, %w; want one file, of the address by now", files, err)
		}
		return nil
	})

	// While it is away, somebody else takes the subnet over.
	theirs := `{"PublicIP":"192.168.77.203","PublicIPv6":null,"BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:09"}}`
	restart("192.168.77.112", func() { b.Etcdctl("put", bed.Prefix+"/"+was.key, theirs) })
	s := b.Status(1)
	if s.Subnet == was.subnet || s.MAC.String() != was.mac || s.VTEP.String() != "192.168.77.112" {
		t.Errorf("got %s and %s at %s, want another subnet than %s, and the MAC %s", s.Subnet, s.MAC, s.VTEP, was.subnet, was.mac)
	}
	if got := b.Etcdctl("get", "--print-value-only", bed.Prefix+"/"+was.key); strings.TrimSpace(got) != theirs {
		t.Errorf("somebody else's lease was overwritten: %s", got)
	}
}
