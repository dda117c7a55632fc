// SPDX-License-Identifier: Apache-2.0

package traffic

import (
	"context"
	"errors"
)

// sizes are UDP payloads around all edges: one byte, what just fits an overlay
// of that MTU, what must be fragmented inside it. None is larger than a UDP
// datagram may be.
func sizes(mtu int) []int {
	all := []int{1, 2, 100, min(1000, mtu-28), mtu - 29, mtu - 28, mtu - 27, mtu, 2 * mtu, 8900}
	for i := range all {
		all[i] = min(all[i], 65507)
	}
	return all
}

// runs are what one UDP_SEGMENT send may be, in an overlay of that MTU: full
// and small segments, many and two, always below 64 KiB in sum.
func runs(mtu int) []Burst {
	full := mtu - 28
	all := []Burst{{100, 60}, {1, 64}, {min(1201, full), 2}}
	if n := min(4, 65000/full); n > 1 {
		all = append(all, Burst{full, n})
	}
	return append(all, Burst{min(1200, full), 40})
}

// BothWays sends everything that this package knows from a to b and from b to
// a, through an overlay of that MTU: pings, datagrams, runs that the kernel
// cuts, and a stream of n bytes. Nothing may be lost or spoilt on the way.
func BothWays(ctx context.Context, a, b End, mtu int, n int64) error {
	var errs []error
	var checks []func() error
	for _, end := range []End{a, b} {
		check, err := Unharmed(end.Namespace)
		if err != nil {
			return err
		}
		checks = append(checks, check)
	}
	for _, p := range [][2]End{{a, b}, {b, a}} {
		errs = append(errs, oneWay(ctx, p[0], p[1], mtu, n))
	}
	for _, check := range checks {
		errs = append(errs, check())
	}
	return errors.Join(errs...)
}

func oneWay(ctx context.Context, from, to End, mtu int, n int64) error {
	if to.Addr.Is6() {
		mtu -= 20 // the edges are those of IPv4, whose header is so much shorter
	}
	errs := []error{Ping(ctx, from, to, 3), Datagrams(ctx, from, to, sizes(mtu)...)}
	for _, r := range runs(mtu) {
		errs = append(errs, Segments(ctx, from, to, r.Size, r.Count))
	}
	_, err := Stream(ctx, from, to, n)
	return errors.Join(append(errs, err)...)
}
