// SPDX-License-Identifier: Apache-2.0

package leasetest_test

import (
	"testing"
	"testing/synctest"

	"go.uber.org/goleak"

	"vxtap/lease/leasetest"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(m) }

// The cases that a real etcd passes in lease/etcd, on the store in memory.
func TestCases(t *testing.T) {
	for _, c := range leasetest.Cases() {
		t.Run(c.Name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				s := leasetest.New()
				t.Cleanup(s.Close)
				c.Body(t, leasetest.Fixture{
					Store:      s,
					Compact:    func(*testing.T) { s.Compact() },
					Disconnect: func(*testing.T) { s.Disconnect() },
					Connect:    func(*testing.T) { s.Connect() },
				})
			})
		})
	}
}
