// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"strings"
	"testing"
	"time"
)

// A TAP that somebody renames has its name again, and where it cannot have it
// everybody who asks hears why.
func TestRenamedTAPIsMendedOrSaid(t *testing.T) {
	h := newTestHost(t)
	h.startEtcd(netConfig)
	h.shell("sysctl -qw net.ipv4.ip_forward=1")
	p := h.daemon(nil)
	h.ready(p)
	index := h.tapIndex()
	hasName := func() error {
		if got := h.tapIndex(); got != index {
			return fmt.Errorf("the device flannel.1 has number %d, want %d", got, index)
		}
		return p.died()
	}
	said := func(want string) {
		h.eventually(fmt.Sprintf("status and metrics say %q", want), func() error {
			s := h.status()
			if got := strings.Join(s.Warnings, "; "); got != want && (want == "" || !strings.Contains(got, want)) {
				return fmt.Errorf("got warnings %q", s.Warnings)
			}
			metrics, err := h.get(healthURL + "/metrics")
			if line := fmt.Sprintf("\nvxtap_warnings %d\n", len(s.Warnings)); err == nil && !strings.Contains(metrics, line) {
				err = errors.New("the metrics do not have " + line)
			}
			return errors.Join(err, p.died())
		})
	}

	h.shell("ip link set flannel.1 name was7")
	began := time.Now()
	h.eventually("the TAP has its name again", hasName)
	if took := time.Since(began); took > time.Second {
		t.Errorf("it took %v, want a second", took)
	}
	said("")

	h.shell("ip link set flannel.1 name was7; ip link add flannel.1 type bridge")
	said("device flannel.1 was renamed to was7, and another device, of type bridge, has its name")
	h.shell("ip link del flannel.1")
	h.eventually("the TAP has its name again", hasName)
	said("")
	p.stop(h)
	h.nothingLeft()
}
