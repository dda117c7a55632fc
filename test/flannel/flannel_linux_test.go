// SPDX-License-Identifier: Apache-2.0

// Package flannel puts a real flanneld beside vxtap: in one network, on one host
// one after the other, and with what it fails on.
package flannel

import (
	"context"
	"os"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/lab"
	"vxtap/test/bed"
	"vxtap/test/traffic"
)

func TestMain(m *testing.M) { os.Exit(bed.Main(m)) }

const streamBytes = 32 << 20

// TestTraffic sends everything in the three pairings, ours with ours, ours with
// flanneld's and flanneld's with ours, from containers and from hosts.
func TestTraffic(t *testing.T) {
	flanneld := bed.FlanneldBinary(t)
	for _, tt := range []struct {
		name string
		args []string
	}{
		{"offloads on", nil},
		{"offloads off", []string{"-offload=off"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			b := bed.Up(t, lab.Options{Hosts: 2, Args: tt.args})
			f := b.JoinFlanneld(t.Context(), flanneld)
			for n := 1; n <= 2; n++ {
				bed.Eventually(t, 5*time.Second, func() error { return reaches(t, f.HostEnd(), b.HostEnd(n)) })
			}
			for _, p := range []struct {
				name string
				a, b traffic.End
			}{
				{"container of ours, container of ours", b.ContainerEnd(1), b.ContainerEnd(2)},
				{"container of ours, container of flanneld's", b.ContainerEnd(1), f.ContainerEnd()},
				{"host of ours, host of flanneld's", b.HostEnd(1), f.HostEnd()},
				{"container of ours, host of flanneld's", b.ContainerEnd(2), f.HostEnd()},
				{"host of ours, container of flanneld's", b.HostEnd(2), f.ContainerEnd()},
			} {
				t.Run(p.name, func(t *testing.T) {
					ctx, cancel := context.WithTimeout(t.Context(), 60*time.Second)
					defer cancel()
					if err := traffic.BothWays(ctx, p.a, p.b, b.Options().MTU-50, streamBytes); err != nil {
						t.Error(err)
					}
				})
			}
		})
	}
}

// reaches sends one ping and waits half a second for the answer.
func reaches(t *testing.T, from, to traffic.End) error {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 500*time.Millisecond)
	defer cancel()
	return traffic.Ping(ctx, from, to, 1)
}

// modRevision returns the line of "etcdctl get -w=fields" that says when a key
// was written last.
func modRevision(fields string) string {
	for line := range strings.Lines(fields) {
		if strings.HasPrefix(line, `"ModRevision"`) {
			return line
		}
	}
	return fields
}
