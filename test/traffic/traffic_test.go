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

func TestParseSoftnet(t *testing.T) {
	got, err := parseSoftnet("0000a001 00000002 00000000\n0000b001 0000000a 00000000\n")
	if err != nil || got != 12 {
		t.Errorf("got %d, %v, want 12", got, err)
	}
	if _, err := parseSoftnet("0000a001\n"); err == nil {
		t.Error("a line without a second column is no error")
	}
}

func TestSpoilt(t *testing.T) {
	b := make([]byte, 40)
	number(b, 77)
	if spoilt(b, 40) {
		t.Error("what was just numbered counts as spoilt")
	}
	for i := range b {
		b[i]++
		if !spoilt(b, 40) {
			t.Errorf("another byte at %d is not noticed", i)
		}
		b[i]--
	}
	if !spoilt(b, 41) || !spoilt(b[:39], 40) {
		t.Error("a wrong length is not noticed")
	}
}
