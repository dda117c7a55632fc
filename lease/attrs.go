// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/netip"

	"vxtap/encap/ether"
	"vxtap/encap/vxlan"
)

// Attrs is the value of a lease: where its host is reached.
type Attrs struct {
	PublicIP    netip.Addr // VTEP, IPv4
	PublicIPv6  netip.Addr // VTEP of the IPv6 overlay; the zero Addr where there is none
	BackendType string     // "vxlan"; "" for flannel's udp backend
	VNI         vxlan.VNI  // 0 where an old flannel left it out; flannel never compares it
	MAC         ether.MAC  // inner destination of every frame to the host
	IPv6VNI     vxlan.VNI
	IPv6MAC     ether.MAC // of its second device; zero where there is none
}

// Addresses names the VTEP of each half that there is, for people: with a comma
// between them, and IPv4 first.
func (a Attrs) Addresses() string {
	if !a.PublicIPv6.IsValid() {
		return a.PublicIP.String()
	}
	return a.PublicIP.String() + "," + a.PublicIPv6.String()
}

// wireAttrs is the JSON of a lease value, and wireVTEP that of its backend
// data: LeaseAttrs in flannel's pkg/lease/lease.go and vxlanLeaseAttrs in
// pkg/backend/vxlan/vxlan_network.go. Order and spelling are what other
// people's tools compare, so both are fixed by a test to the byte.
type (
	wireAttrs struct {
		PublicIP      string          `json:"PublicIP"`
		PublicIPv6    *string         `json:"PublicIPv6"`
		BackendType   string          `json:"BackendType,omitempty"`
		BackendData   json.RawMessage `json:"BackendData,omitempty"`
		BackendV6Data json.RawMessage `json:"BackendV6Data,omitempty"`
	}
	wireVTEP struct {
		VNI     vxlan.VNI `json:"VNI"`
		VtepMAC string    `json:"VtepMAC"`
	}
)

// MarshalJSON writes a as flannel writes it, to the byte.
func (a Attrs) MarshalJSON() ([]byte, error) {
	w := wireAttrs{PublicIP: a.PublicIP.String(), BackendType: a.BackendType}
	if a.PublicIPv6.IsValid() {
		s := a.PublicIPv6.String()
		w.PublicIPv6 = &s
	}
	if a.BackendType != backendVXLAN {
		return json.Marshal(w)
	}
	var err error
	if w.BackendData, err = json.Marshal(wireVTEP{a.VNI, a.MAC.String()}); err != nil {
		return nil, err
	}
	if !a.IPv6MAC.IsZero() {
		if w.BackendV6Data, err = json.Marshal(wireVTEP{a.IPv6VNI, a.IPv6MAC.String()}); err != nil {
			return nil, err
		}
	}
	return json.Marshal(w)
}

// ParseAttrs reads the value of a lease. Unknown fields are ignored, as
// flannel's newer ones are by older versions. A lease of another backend than
// vxlan is no fault; only its BackendType and PublicIP are read, and not
// checked. With an error the PublicIP is returned all the same where it could
// be read: whose lease it is matters even when its rest is broken.
//
// A broken IPv6 half is left out and does not cost the peer its IPv4 half.
func ParseAttrs(b []byte) (Attrs, error) {
	a, _, err := parseAttrs(b)
	return a, err
}

// parseAttrs is ParseAttrs that also says why the IPv6 half was left out; nil if
// it is good, or not there.
func parseAttrs(b []byte) (a Attrs, ipv6, err error) {
	if len(b) > MaxValue {
		return Attrs{}, nil, fmt.Errorf("the value is longer than %d bytes, and no lease is", MaxValue)
	}
	var w wireAttrs
	if err := json.Unmarshal(b, &w); err != nil {
		return Attrs{}, nil, errors.New("the value is not the JSON of a lease")
	}
	if w.BackendType != backendVXLAN {
		// null and {} are JSON too, and no lease of any backend.
		if w.PublicIP == "" && w.BackendType == "" {
			return Attrs{}, nil, errors.New("the value names neither a PublicIP nor a BackendType")
		}
		ip, _ := netip.ParseAddr(w.PublicIP)
		return Attrs{BackendType: clip(w.BackendType), PublicIP: ip}, nil, nil
	}
	a = Attrs{BackendType: backendVXLAN}
	if a.PublicIP, err = parseVTEP(w.PublicIP); err != nil {
		return a, nil, fmt.Errorf("PublicIP %w", err)
	}
	if a.VNI, a.MAC, err = parseBackendData(w.BackendData); err != nil {
		return a, nil, fmt.Errorf("BackendData %w", err)
	}
	if w.PublicIPv6 != nil {
		ipv6 = a.readIPv6(w)
	}
	return a, ipv6, nil
}

// readIPv6 reads the IPv6 half of the value as far as it is good.
func (a *Attrs) readIPv6(w wireAttrs) error {
	ip, err := parseVTEPv6(*w.PublicIPv6)
	if err != nil {
		return fmt.Errorf("PublicIPv6 %w", err)
	}
	a.PublicIPv6 = ip
	vni, mac, err := parseBackendData(w.BackendV6Data)
	if err != nil {
		return fmt.Errorf("BackendV6Data %w", err)
	}
	a.IPv6VNI, a.IPv6MAC = vni, mac
	return nil
}

// parseVTEP reads an IPv4 address to which a datagram to one host can go.
// IPv4-mapped IPv6 spellings are refused: they pass a check made in one family
// and arrive in the other.
func parseVTEP(s string) (netip.Addr, error) {
	ip, err := netip.ParseAddr(s)
	switch {
	case err != nil || !ip.Is4():
		return netip.Addr{}, fmt.Errorf("%q is no IPv4 address", clip(s))
	case ip.IsUnspecified() || ip.IsLoopback() || ip.IsMulticast() || ip == netip.AddrFrom4([4]byte{255, 255, 255, 255}):
		return ip, fmt.Errorf("%v is no address of one host on a network", ip)
	}
	return ip, nil
}

// v4InV6 are the IPv4-compatible IPv6 addresses.
var v4InV6 = netip.PrefixFrom(netip.IPv6Unspecified(), 96)

// parseVTEPv6 is parseVTEP for IPv6. IPv4-compatible addresses, ::a.b.c.d, are
// refused with the IPv4-mapped ones: no host has had them since RFC 4291, section
// 2.5.5.1, and a kernel with automatic tunnels sends what is for them to a.b.c.d.
func parseVTEPv6(s string) (netip.Addr, error) {
	ip, err := netip.ParseAddr(s)
	switch {
	case err != nil || !ip.Is6() || ip.Is4In6() || ip.Zone() != "":
		return netip.Addr{}, fmt.Errorf("%q is no IPv6 address", clip(s))
	case ip.IsUnspecified() || ip.IsLoopback() || ip.IsMulticast():
		return ip, fmt.Errorf("%v is no address of one host on a network", ip)
	case v4InV6.Contains(ip):
		return netip.Addr{}, fmt.Errorf("%v is an IPv4 address written as an IPv6 one, and no host's", ip)
	}
	return ip, nil
}

// parseBackendData reads VNI and VTEP MAC. flannel before 2019 wrote no VNI.
func parseBackendData(b []byte) (vxlan.VNI, ether.MAC, error) {
	var w wireVTEP
	if err := json.Unmarshal(b, &w); err != nil {
		return 0, ether.MAC{}, errors.New("is not the JSON of a VTEP")
	}
	if w.VNI > vxlan.MaxVNI {
		return 0, ether.MAC{}, fmt.Errorf("has VNI %d, which does not fit 24 bits", w.VNI)
	}
	m, err := ether.ParseMAC(w.VtepMAC)
	if err != nil {
		return 0, ether.MAC{}, fmt.Errorf("has VtepMAC %q, which is no MAC address", clip(w.VtepMAC))
	}
	if m.IsZero() || m.IsMulticast() {
		return 0, ether.MAC{}, fmt.Errorf("has VtepMAC %v, which no single station can have", m)
	}
	return w.VNI, m, nil
}
