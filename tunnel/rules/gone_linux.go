// SPDX-License-Identifier: Apache-2.0

package rules

import (
	"net"
	"strings"
)

// isGone reports whether name is an uplink device's that is not on the host. Its
// rule goes with it: the daemon that had it has another VNI by now. One that is to
// have it again sets the rule again.
func (p Plan) isGone(name string) bool {
	if p.Uplinks == "" || !strings.HasPrefix(name, p.Uplinks) || strings.Trim(name[len(p.Uplinks):], "0123456789") != "" {
		return false
	}
	_, err := net.InterfaceByName(name)
	return err != nil
}

// leftIPTables reports whether line is our rule for an uplink device that is gone.
func (p Plan) leftIPTables(line string) bool {
	_, rest, _ := strings.Cut(line, " -i ")
	name, _, _ := strings.Cut(rest, " ")
	for _, c := range p.chains() {
		if line == (rule{device: name}).iptables(c) {
			return p.isGone(name)
		}
	}
	return false
}

// leftNFT reports whether text is our rule for an uplink device that is gone.
func (p Plan) leftNFT(text string) bool {
	before, _, _ := strings.Cut(nftText(nftDevice(p.Uplinks)), p.Uplinks)
	rest, ok := strings.CutPrefix(text, before)
	if !ok {
		return false
	}
	name, _, _ := strings.Cut(rest, "\x00")
	return len(name) < ifNameSize && text == nftText(rule{device: name}.nft()) && p.isGone(name)
}
