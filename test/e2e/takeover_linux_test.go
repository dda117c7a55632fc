// SPDX-License-Identifier: Apache-2.0

package e2e

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"vxtap/test/bed"
)

// flanneldUnit is how operators run one.
const flanneldUnit = `[Service]
Type=notify
ExecStart=%s -etcd-endpoints=http://10.0.0.1:2379 -iface=eth0
StandardOutput=append:/run/flanneld.log
StandardError=append:/run/flanneld.log
[Install]
WantedBy=multi-user.target
`

// vxtap takes flanneld's place under systemd as docs/operations.md says, and
// flanneld vxtap's. The unit leaves the daemon so few rights that it cannot look
// into other processes: it sees a flanneld all the same.
func TestTakeoverUnderSystemd(t *testing.T) {
	bed.NeedRoot(t)
	flanneld := bed.FlanneldBinary(t)
	for _, command := range []string{"`VXTAP_TAKEOVER=true` in `/etc/default/vxtap`", "`systemctl disable --now flanneld`", "`systemctl enable --now vxtap`"} {
		if text, err := os.ReadFile("../../docs/operations.md"); err != nil || !strings.Contains(string(text), command) {
			t.Errorf("docs/operations.md does not say %s, error %v", command, err)
		}
	}
	m := boot(t)
	if _, err := os.Stat("/proc/sys/net/bridge/bridge-nf-call-iptables"); err != nil {
		m.sh(`etcdctl put /coreos.com/network/config '{"Network":"10.5.0.0/16","EnableNFTables":true,"Backend":{"Type":"vxlan"}}'`)
	}
	m.sh("install -m 755 bin/vxtap /usr/local/bin/; install -m 644 packaging/systemd/vxtap.service /etc/systemd/system/\n" +
		"cat >/etc/systemd/system/flanneld.service <<'E'\n" + fmt.Sprintf(flanneldUnit, flanneld) + "E\n" +
		"printf 'FLANNELD_ETCD_ENDPOINTS=http://10.0.0.1:2379\\nFLANNELD_IFACE=eth0\\nVXTAP_TAKEOVER=true\\n' >>/etc/default/vxtap\n" +
		"systemctl daemon-reload; systemctl enable --now flanneld")
	const host = "cat /run/flannel/subnet.env; ip -o link show flannel.1 | grep -o 'ether [^ ]*'"
	before := m.sh(host)

	m.sh("systemctl start --no-block vxtap")
	bed.Eventually(t, 15*time.Second, func() error {
		if log := m.sh("cat /run/vxtap.log || true"); !strings.Contains(log, "flanneld (pid ") {
			return errors.New("vxtap does not say that a flanneld runs:\n" + log)
		}
		return nil
	})
	m.sh("systemctl stop vxtap")
	if got := m.sh("systemctl is-active flanneld; " + host); got != "active\n"+before {
		t.Errorf("got %q, want flanneld as it was, %q", got, before)
	}

	m.sh("systemctl disable --now flanneld; systemctl enable --now vxtap")
	if got := m.sh(host); got != before {
		t.Errorf("got %q with vxtap, want %q", got, before)
	}
	if got := m.sh("ip -d -o link show flannel.1"); !strings.Contains(got, "tun type tap") {
		t.Errorf("vxtap has not taken over: %s", got)
	}

	m.sh("systemctl disable --now vxtap; systemctl enable --now flanneld")
	subnet, _, _ := strings.Cut(before, "ether ")
	if got := m.sh("cat /run/flannel/subnet.env"); got != strings.TrimSpace(subnet) {
		t.Errorf("got %q with flanneld again, want %q", got, subnet)
	}
}
