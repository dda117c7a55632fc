// SPDX-License-Identifier: Apache-2.0

package traffic

import "testing"

func TestParseSNMP(t *testing.T) {
	got := parseSNMP([]byte("Ip: Forwarding DefaultTTL\nIp: 1 64\nTcp: MaxConn InCsumErrors\nTcp: -1 7\nUdp: InCsumErrors\n"))
	want := map[string]uint64{"Ip/Forwarding": 1, "Ip/DefaultTTL": 64, "Tcp/InCsumErrors": 7}
	if len(got) != len(want) {
		t.Errorf("got %v, want %v", got, want)
	}
	for name, v := range want {
		if got[name] != v {
			t.Errorf("%s is %d, want %d", name, got[name], v)
		}
	}
}
