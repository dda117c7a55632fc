// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"vxtap/lease"
	"vxtap/lease/leasetest"
)

// What stands only in the log is seen by nobody who watches metrics.
func TestStatusWarnsOfEtcd(t *testing.T) {
	const refused = "etcd refuses the new certificates"
	for _, tt := range []struct {
		name, certificates string
		conflict           bool
		want               []string // parts of the warnings, in order
	}{
		{"all is well", "", false, nil},
		{"certificates that etcd refuses", refused, false, []string{refused}},
		{"another daemon under our key", "", true, []string{"somebody with our PublicIP 192.168.0.1 publishes MAC 02:00:00:00:00:99"}},
		{"both", refused, true, []string{refused, "somebody with our PublicIP"}},
	} {
		t.Run(tt.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				store := leasetest.New()
				defer store.Close()
				store.Force("config", netConfig, 0)
				r := lease.New(store, lease.Options{})
				l := leasetest.Acquire(t, r, 1)
				leasetest.Keep(t, r, l)
				if tt.conflict {
					store.Force(l.Key, strings.Replace(leasetest.Value(t, 1), "02:00:00:00:00:01", "02:00:00:00:00:99", 1), l.Grant)
				}
				time.Sleep(time.Second)
				synctest.Wait()
				d := &daemon{registry: r, certificateWarning: func() string { return tt.certificates }}
				d.home.Store(&home{})
				d.phase.Store(phaseReady)
				got := d.status(time.Now()).Warnings
				if !slices.EqualFunc(got, tt.want, strings.Contains) {
					t.Errorf("got %q, want %q", got, tt.want)
				}
			})
		})
	}
}
