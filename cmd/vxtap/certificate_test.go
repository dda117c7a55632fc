// SPDX-License-Identifier: Apache-2.0

package main

import (
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

func TestCertificateExpiry(t *testing.T) {
	for _, tt := range []struct {
		name  string
		left  time.Duration
		line  string
		value string
	}{
		{"a year", 365 * 24 * time.Hour, "certificate ends in 365d 0h", "3.1536e+07"},
		{"over", -90 * time.Second, "certificate ended 1m 30s ago", "-90"},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := certificateLine(tt.left); got != tt.line {
				t.Errorf("got %q, want %q", got, tt.line)
			}
			c := newStatusCollector(func(now time.Time) Status {
				end := now.Add(tt.left)
				return Status{Etcd: EtcdStatus{CertificateEnds: &end}}
			})
			want := "# HELP vxtap_etcd_certificate_expiry_seconds Seconds until the client certificate for etcd ends; negative after that.\n" +
				"# TYPE vxtap_etcd_certificate_expiry_seconds gauge\nvxtap_etcd_certificate_expiry_seconds " + tt.value + "\n"
			if err := testutil.CollectAndCompare(c, strings.NewReader(want), metricCertExpiry); err != nil {
				t.Error(err)
			}
		})
	}
	none := newStatusCollector(func(time.Time) Status { return Status{} })
	if n := testutil.CollectAndCount(none, metricCertExpiry); n != 0 {
		t.Errorf("without a certificate got %d of %s, want none", n, metricCertExpiry)
	}
}
