// SPDX-License-Identifier: Apache-2.0

package lab

import (
	"context"
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"vxtap/cmd/vxlab/netns"
)

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
