// SPDX-License-Identifier: Apache-2.0

package main

import (
	"crypto/sha256"
	"encoding/hex"
	"net"
	"os"
	"strings"
	"time"

	"vxtap/encap/ether"
	"vxtap/lease"
)

// hostID is what a machine is known by in its own file of what was last known,
// when its address is another one: the machine's number and the hardware address
// of the outside interface. A machine that was copied has the number of the one
// that it was copied from, and several daemons on one machine have it too; the
// hardware address tells these apart. Without one it is "", and the machine is
// known by its address alone.
func hostID(device string) string {
	i, err := net.InterfaceByName(device)
	if err != nil || len(i.HardwareAddr) == 0 {
		return ""
	}
	machine, _ := os.ReadFile("/etc/machine-id") // the hardware address is worth something alone
	sum := sha256.Sum256([]byte(strings.TrimSpace(string(machine)) + " " + i.HardwareAddr.String()))
	return hex.EncodeToString(sum[:12])
}

// recallFormer looks for what this host last knew under another address: its own
// lease, by which it gets its subnet again, and its MAC.
func (d *daemon) recallFormer() {
	at := d.at()
	m, path, ok := d.registry.FormerMemory(d.stateDir, hostID(at.uplink.Name), at.vtep)
	if !ok {
		return
	}
	d.before, d.mac6, d.formerPath = m.Own, macOf6(m), path
	d.log.Info("this host had another address when it last ran: asking for its subnet", "before", m.Own.Attrs.PublicIP,
		"vtep", at.vtep, "subnet", m.Own.Subnet, "as_of", m.At.Format(time.RFC3339), "file", path)
}

// macOf6 is the MAC for IPv6 of the host that m is about; zero: none.
func macOf6(m lease.Memory) ether.MAC {
	if !m.Own.Attrs.IPv6MAC.IsZero() {
		return m.Own.Attrs.IPv6MAC
	}
	return m.IPv6MAC
}

// retire removes the file that there is under an address of before, once the one
// at path is written about own. A file that another daemon has written meanwhile,
// which has that address by now, stays: by its MAC it is known.
func (w *rememberer) retire(path string, own lease.Lease) {
	for _, old := range []string{w.path, w.d.formerPath} {
		if old == "" || old == path {
			continue
		}
		if m, err := lease.ReadMemory(old); err != nil || m.Own.Attrs.MAC == own.Attrs.MAC {
			_ = os.Remove(old) // at worst it stays, and is older
		}
	}
	w.path, w.d.formerPath = path, ""
}
