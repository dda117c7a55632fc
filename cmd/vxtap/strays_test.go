// SPDX-License-Identifier: Apache-2.0

package main

import (
	"slices"
	"testing"
)

func TestMistypedVariablesAreNamed(t *testing.T) {
	tests := []struct {
		name string
		env  []string
		want []string
	}{
		{"of no flag, some twice", []string{"VXTAP_ETCD_PREFX=/x", "VXTAP_V=0", "VXTAP_ETCD_PASSWRD=hunter2", "VXTAP_ETCD_PREFX=/y", "VXTAP_=1"}, []string{"VXTAP_", "VXTAP_ETCD_PASSWRD", "VXTAP_ETCD_PREFX"}},
		{"empty, or not ours", []string{"VXTAP_EMPTY=", "VXTAP_NOTHING", "FLANNELD_NONSENSE=1", "HOME=/", "XVXTAP_V=1"}, nil},
		{"what images set", []string{"VXTAP_VERSION=1.0"}, nil},
		{"what Kubernetes sets", []string{"VXTAP_SERVICE_HOST=10.0.0.1", "VXTAP_SERVICE_PORT_HTTP=1", "VXTAP_PORT=tcp://10.0.0.1:80", "VXTAP_PORT_80_TCP_ADDR=10.0.0.1"}, nil},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := parse(t, nil, tt.env)
			if err != nil || !slices.Equal(s.strays, tt.want) {
				t.Errorf("got %q and error %v, want %q", s.strays, err, tt.want)
			}
		})
	}
}
