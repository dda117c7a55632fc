// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"context"
	"fmt"
	"net"
	"time"

	"golang.org/x/net/icmp"
	"golang.org/x/net/ipv4"
)

// Ping sends n ICMP echo requests one after another; each must be answered.
func Ping(ctx context.Context, from, to End, n int) error {
	var conn *icmp.PacketConn
	err := from.Namespace.Do(func() (err error) {
		conn, err = icmp.ListenPacket("ip4:icmp", from.Addr.String())
		return err
	})
	if err != nil {
		return fmt.Errorf("ping from %s: %w", from, err)
	}
	defer conn.Close()
	if deadline, ok := ctx.Deadline(); ok {
		_ = conn.SetDeadline(deadline)
	}
	for seq := 1; seq <= n; seq++ {
		if err := ping(conn, to, seq); err != nil {
			return fmt.Errorf("ping %s to %s: %w", from, to, err)
		}
	}
	return nil
}

func ping(conn *icmp.PacketConn, to End, seq int) error {
	// No other echo is under way between these namespaces, but an identifier
	// of our own costs nothing.
	id := int(time.Now().UnixNano() & 0xffff)
	request := icmp.Message{Type: ipv4.ICMPTypeEcho, Body: &icmp.Echo{ID: id, Seq: seq, Data: []byte("vxtap")}}
	b, err := request.Marshal(nil)
	if err != nil {
		return err
	}
	if _, err := conn.WriteTo(b, &net.IPAddr{IP: to.Addr.AsSlice()}); err != nil {
		return fmt.Errorf("send: %w", err)
	}
	for answer := make([]byte, 1500); ; {
		n, _, err := conn.ReadFrom(answer)
		if err != nil {
			return fmt.Errorf("no answer to request %d: %w", seq, err)
		}
		m, err := icmp.ParseMessage(ipv4.ICMPTypeEchoReply.Protocol(), answer[:n])
		if err != nil || m.Type != ipv4.ICMPTypeEchoReply {
			continue
		}
		if echo, ok := m.Body.(*icmp.Echo); ok && echo.ID == id && echo.Seq == seq {
			return nil
		}
	}
}
