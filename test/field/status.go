// SPDX-License-Identifier: Apache-2.0

package field

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/netip"
	"time"
)

// Status is what is read here of a daemon's status: docs/status.md.
type Status struct {
	State  string       `json:"state"`
	Subnet netip.Prefix `json:"subnet"`
	MAC    string       `json:"mac"`
	Lease  struct {
		State   string     `json:"state"`
		Key     string     `json:"key"`
		Expires *time.Time `json:"expires"`
	} `json:"lease"`
	Peers []Peer `json:"peers"`
	IPv6  *IPv6  `json:"ipv6"` // nil: the network has none
}

// IPv6 is the same of the other device.
type IPv6 struct {
	Subnet netip.Prefix `json:"subnet"` // the zero Prefix: the host has none
	Peers  []Peer       `json:"peers"`
}

// Peer is one peer of a Status.
type Peer struct {
	Subnet netip.Prefix `json:"subnet"`
	VTEP   netip.Addr   `json:"vtep"`
	MAC    string       `json:"mac"`
}

// StateReady is the State of a daemon that forwards and holds its lease.
const StateReady = "ready"

// readStatus asks a daemon at the other end of conn.
func readStatus(conn io.ReadWriter) (s Status, err error) {
	if _, err := io.WriteString(conn, "GET /v1/status HTTP/1.0\r\nHost: vxtap\r\n\r\n"); err != nil {
		return s, err
	}
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	if err != nil {
		return s, err
	}
	defer resp.Body.Close()
	if resp.StatusCode != http.StatusOK {
		return s, fmt.Errorf("status: %s", resp.Status)
	}
	return s, json.NewDecoder(resp.Body).Decode(&s)
}
