// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"testing"
)

const goldenEnv = `FLANNEL_NETWORK=10.5.0.0/16
FLANNEL_SUBNET=10.5.72.1/24
FLANNEL_MTU=1450
FLANNEL_IPMASQ=false
`

const goldenEnvDual = `FLANNEL_NETWORK=10.5.0.0/16
FLANNEL_SUBNET=10.5.72.1/24
FLANNEL_IPV6_NETWORK=2001:cafe:42::/56
FLANNEL_IPV6_SUBNET=2001:cafe:42::1/64
FLANNEL_MTU=1450
FLANNEL_IPMASQ=true
`

// flannel, pkg/subnet/subnet.go: the IPv4 lines are there only if EnableIPv4.
const goldenEnvV6 = `FLANNEL_IPV6_NETWORK=2001:cafe:42::/56
FLANNEL_IPV6_SUBNET=2001:cafe:42:3::1/64
FLANNEL_MTU=1430
FLANNEL_IPMASQ=false
`

func TestSubnetEnvByteExact(t *testing.T) {
	e := SubnetEnv{Network: pfx("10.5.0.0/16"), Subnet: pfx("10.5.72.0/24"), MTU: 1450}
	dual := e
	dual.IPv6Network, dual.IPv6Subnet, dual.IPMasq = pfx("2001:cafe:42::/56"), pfx("2001:cafe:42::/64"), true
	v6 := SubnetEnv{IPv6Network: pfx("2001:cafe:42::/56"), IPv6Subnet: pfx("2001:cafe:42:3::/64"), MTU: 1430}
	for _, tt := range []struct {
		name string
		e    SubnetEnv
		want string
	}{{"IPv4", e, goldenEnv}, {"dual stack", dual, goldenEnvDual}, {"IPv6", v6, goldenEnvV6}} {
		t.Run(tt.name, func(t *testing.T) {
			if got := tt.e.String(); got != tt.want {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
			back, err := ParseSubnetEnv([]byte(tt.want))
			if err != nil {
				t.Fatal(err)
			}
			if back != tt.e {
				t.Errorf("got %+v, want %+v", back, tt.e)
			}
		})
	}
}

func TestParseSubnetEnvTolerates(t *testing.T) {
	in := "# written by hand\r\n\r\nexport FLANNEL_NETWORK = \"10.5.0.0/16,10.6.0.0/16\"\r\n" +
		"FLANNEL_SUBNET='10.5.1.1/24'\nFLANNEL_SUBNET=10.5.72.9/24 # the last one counts\nFLANNEL_MTU=8951\nOTHER\nFLANNEL_IPMASQ=TRUE\n"
	e, err := ParseSubnetEnv([]byte(in))
	if err != nil {
		t.Fatal(err)
	}
	want := SubnetEnv{Network: pfx("10.5.0.0/16"), Subnet: pfx("10.5.72.0/24"), MTU: 8951}
	if e != want {
		t.Errorf("got %+v, want %+v", e, want)
	}
}

func TestParseSubnetEnvRefuses(t *testing.T) {
	tests := []struct{ name, in, want string }{
		{"a subnet that is none", "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=$(reboot)\n", "FLANNEL_SUBNET"},
		{"a subnet of the other family", "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_SUBNET=fd00::1/64\n", "FLANNEL_SUBNET"},
		{"an MTU below zero", "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_MTU=-1\n", "FLANNEL_MTU"},
		{"an MTU out of range", "FLANNEL_NETWORK=10.5.0.0/16\nFLANNEL_MTU=99999\n", "FLANNEL_MTU"},
		{"megabytes", strings.Repeat("#", 1<<20), "larger than"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			e, err := ParseSubnetEnv([]byte(tt.in))
			if err == nil || !strings.Contains(err.Error(), tt.want) {
				t.Fatalf("got %v, want an error that names %s", err, tt.want)
			}
			if strings.Contains(tt.in, "10.5.0.0/16") && e.Network != pfx("10.5.0.0/16") {
				t.Errorf("got Network %v, want what could be read", e.Network)
			}
			if e.Subnet.IsValid() || e.MTU != 0 {
				t.Errorf("got %+v, want the broken fields zero", e)
			}
		})
	}
}

func TestSubnetEnvFile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no mode bits to look at")
	}
	path := filepath.Join(t.TempDir(), "run", "flannel", "subnet.env")
	if _, err := ReadSubnetEnv(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got %v, want fs.ErrNotExist", err)
	}
	e := SubnetEnv{Network: pfx("10.5.0.0/16"), Subnet: pfx("10.5.72.0/24"), MTU: 1450}
	for _, mode := range []fs.FileMode{0, 0o600} { // fresh, and over one that others cannot read
		if mode != 0 {
			if err := os.Chmod(path, mode); err != nil {
				t.Fatal(err)
			}
		}
		if err := e.WriteFile(path); err != nil {
			t.Fatal(err)
		}
		assertMode(t, path, 0o644)
	}
	assertMode(t, filepath.Dir(path), 0o755)
	b, err := os.ReadFile(path)
	if err != nil || string(b) != goldenEnv {
		t.Errorf("got %q, %v, want %q", b, err, goldenEnv)
	}
	back, err := ReadSubnetEnv(path)
	if err != nil || back != e {
		t.Errorf("got %+v, %v, want %+v", back, err, e)
	}
	left, err := os.ReadDir(filepath.Dir(path))
	if err != nil || len(left) != 1 {
		t.Errorf("got %v, %v, want the one file and no temporary one", left, err)
	}
}

func assertMode(t *testing.T, path string, want fs.FileMode) {
	t.Helper()
	fi, err := os.Stat(path)
	if err != nil {
		t.Fatal(err)
	}
	if fi.Mode().Perm() != want {
		t.Errorf("%s: got mode %v, want %v", path, fi.Mode().Perm(), want)
	}
}

func FuzzReadSubnetEnv(f *testing.F) {
	f.Add([]byte(goldenEnv))
	f.Add([]byte(goldenEnvDual))
	f.Add([]byte(goldenEnvV6))
	f.Add([]byte("export FLANNEL_SUBNET=\"10.5.1.1/24\" # x\n="))
	f.Fuzz(func(t *testing.T, b []byte) {
		e, err := ParseSubnetEnv(b)
		if e.Subnet.IsValid() && (e.Subnet != e.Subnet.Masked() || !e.Subnet.Addr().Is4()) {
			t.Errorf("got Subnet %v", e.Subnet)
		}
		if err != nil || e.Network.IsValid() != e.Subnet.IsValid() || e.Subnet.Bits() > 30 ||
			e.IPv6Network.IsValid() != e.IPv6Subnet.IsValid() || e.IPv6Subnet.Bits() > 126 {
			return
		}
		if back, err := ParseSubnetEnv([]byte(e.String())); err != nil || back != e {
			t.Errorf("%+v reads back as %+v, %v", e, back, err)
		}
	})
}
