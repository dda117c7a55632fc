// SPDX-License-Identifier: Apache-2.0

package netns

import (
	"context"
	"net"
	"net/netip"
)

// DialContext connects from inside the namespace. The address must be numeric:
// a name would be resolved by goroutines that are outside. Its signature fits
// http.Transport.
func (n *Namespace) DialContext(ctx context.Context, network, address string) (net.Conn, error) {
	if _, err := netip.ParseAddrPort(address); err != nil {
		return nil, &net.OpError{Op: "dial", Net: network, Err: err}
	}
	var conn net.Conn
	err := n.Do(func() (err error) {
		conn, err = (&net.Dialer{}).DialContext(ctx, network, address)
		return err
	})
	return conn, err
}

// Listen listens on a TCP address inside the namespace.
func (n *Namespace) Listen(ctx context.Context, address netip.AddrPort) (net.Listener, error) {
	var listener net.Listener
	err := n.Do(func() (err error) {
		listener, err = (&net.ListenConfig{}).Listen(ctx, "tcp", address.String())
		return err
	})
	return listener, err
}
