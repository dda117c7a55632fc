// SPDX-License-Identifier: Apache-2.0

package flannel

import (
	"errors"
	"os/exec"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
)

// F16: flanneld logs all of its flags, with the password. vxtap does not:
// TestDaemonKeepsThePasswordToItself in cmd/vxtap looks at all that it prints.
func TestF16PasswordInTheLog(t *testing.T) {
	flanneld := bed.FlanneldBinary(t)
	b := bed.Up(t, lab.Options{Hosts: 1})
	bare, err := b.JoinBare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	f := bed.StartFlanneld(t, flanneld, b.Node(bare.Node), b.EtcdURL(), t.TempDir()+"/subnet.env", "-etcd-username=me", "-etcd-password=hunter2")
	bed.Eventually(t, 5*time.Second, func() error {
		if !strings.Contains(f.Log(), "hunter2") {
			return errors.New("flanneld does not log its password: it has been mended")
		}
		return nil
	})
}

// F17: flanneld ends with status 0 when a flag is wrong and when its lease is
// revoked, so that systemd's Restart=on-failure leaves it dead.
func TestF17ExitStatus(t *testing.T) {
	flanneld := bed.FlanneldBinary(t)
	b := bed.Up(t, lab.Options{Hosts: 1, Args: []string{"-on-lease-lost=exit"}})
	f := b.JoinFlanneld(t.Context(), flanneld)
	for _, tt := range []struct {
		program string
		want    int
	}{{flanneld, 0}, {bed.Binary(t, "vxtap"), 2}} {
		cmd := exec.Command(tt.program, "-no-such-flag")
		_ = cmd.Run()
		if got := cmd.ProcessState.ExitCode(); got != tt.want {
			t.Errorf("%s with a wrong flag: got status %d, want %d", tt.program, got, tt.want)
		}
	}

	theirs, _ := b.LeaseOf(lab.Host{VTEP: f.VTEP})
	ours, _ := b.LeaseOf(b.Host(1))
	b.Etcdctl("del", theirs)
	b.Etcdctl("del", ours)
	bed.Eventually(t, 5*time.Second, func() error {
		if status, ended := f.Ended(); !ended || status != 0 {
			return errors.New("flanneld does not end with status 0: it has been mended")
		}
		return nil
	})
	if err := b.Watch(t.Context()); err == nil || !strings.Contains(err.Error(), "exit status 1") {
		t.Errorf("got %v, want that vxtap ended with status 1", err)
	}
}
