// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"strings"
	"testing"
)

func TestSettingsSayWhatIsDefault(t *testing.T) {
	r := ReadConfig([]byte(`{"Network": "10.5.0.0/16", "SubnetMax": "10.5.9.0", "Backend": {"Type": "vxlan", "Port": 4789}}`))
	var lines []string
	for _, s := range r.Settings() {
		line := s.Name + "=" + s.Value
		if s.Default {
			line += "*"
		}
		lines = append(lines, line)
	}
	want := "EnableIPv4=true* EnableIPv6=false* EnableNFTables=false* Network=10.5.0.0/16 SubnetLen=24* SubnetMin=10.5.1.0* SubnetMax=10.5.9.0 " +
		"Backend.Type=vxlan Backend.VNI=1* Backend.Port=4789 Backend.MTU=the outside interface's* Backend.GBP=false* Backend.Learning=false* Backend.DirectRouting=false*"
	if got := strings.Join(lines, " "); got != want {
		t.Errorf("got\n%s\nwant\n%s", got, want)
	}
}

func TestChanges(t *testing.T) {
	const before = `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan"}}`
	tests := []struct {
		name  string
		after string
		want  []Change
	}{
		{"the same in other words", `{"network": "10.5.0.1/16", "SubnetLen": 24, "Backend": {"Type": "VXLAN", "VNI": 1, "Port": 8472}}`, nil},
		{"MTU and DirectRouting", `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "MTU": 1400, "DirectRouting": true}}`, []Change{
			{"Backend.MTU", "the outside interface's", "1400", effectLive},
			{"Backend.DirectRouting", "false", "true", effectLive},
		}},
		{"a VNI that parts the hosts", `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "VNI": 2}}`, []Change{
			{"Backend.VNI", "1", "2", effectTogether},
		}},
		{"smaller subnets", `{"Network": "10.5.0.0/16", "SubnetLen": 25, "SubnetMin": "10.5.1.0", "SubnetMax": "10.5.255.0", "Backend": {"Type": "vxlan"}}`, []Change{
			{"SubnetLen", "24", "25", effectLease},
		}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if d := diff(mustConfig(t, before).Changes(mustConfig(t, tt.after)), tt.want); d != "" {
				t.Errorf("(-want +got)\n%s", d)
			}
		})
	}
	six := mustConfig(t, `{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "fd00::/48", "Backend": {"Type": "vxlan"}}`)
	if got := six.Changes(mustConfig(t, before)); len(got) != 5 || got[1] != (Change{"IPv6Network", "fd00::/48", "", effectDual}) {
		t.Errorf("got %v, want EnableIPv6 and four settings that are gone", got)
	}
}

func TestMoves(t *testing.T) {
	at := func(subnet, six, publicIP string) Lease {
		l := Lease{Subnet: pfx(subnet), Attrs: Attrs{PublicIP: ip(publicIP)}}
		if six != "" {
			l.IPv6Subnet = pfx(six)
		}
		return l
	}
	tests := []struct {
		name   string
		lease  Lease
		config string
		want   string // "": it stays
	}{
		{"it fits", at("10.5.7.0/24", "", "192.0.2.1"), usual, ""},
		{"another network", at("10.6.7.0/24", "", "192.0.2.1"), usual, "outside the Network 10.5.0.0/16"},
		{"another length", at("10.5.7.0/25", "", "192.0.2.1"), usual, "a /25, and SubnetLen is 24"},
		{"the first subnet, which is not used", at("10.5.0.0/24", "", "192.0.2.1"), usual, "not between SubnetMin 10.5.1.0"},
		{"above SubnetMax", at("10.5.7.0/24", "", "192.0.2.1"), `{"Network": "10.5.0.0/16", "SubnetMax": "10.5.6.0", "Backend": {"Type": "vxlan"}}`, "SubnetMax 10.5.6.0"},
		{"the host itself is inside", at("10.5.7.0/24", "", "10.5.9.9"), usual, "cannot take part"},
		{"IPv6 is off now", at("10.5.7.0/24", "fd00::/64", "192.0.2.1"), usual, "has an IPv6 half"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got := Snapshot{Leases: []Lease{tt.lease}}.Moves(mustConfig(t, tt.config))
			if (len(got) == 1) != (tt.want != "") || (len(got) == 1 && !strings.Contains(got[0].Why, tt.want)) {
				t.Errorf("got %v, want %q", got, tt.want)
			}
			if len(got) == 1 && got[0].KeepsIPv4 != tt.lease.IPv6Subnet.IsValid() {
				t.Errorf("got KeepsIPv4 %v, want it for a lease whose IPv6 half is all that does not fit", got[0].KeepsIPv4)
			}
		})
	}
}

func TestRoom(t *testing.T) {
	tests := []struct {
		name, config string
		want         int
	}{
		{"a /16 without its first subnet", usual, 255},
		{"one subnet", `{"Network": "10.5.0.0/28", "SubnetMin": "10.5.0.8", "SubnetMax": "10.5.0.8", "Backend": {"Type": "vxlan"}}`, 1},
		{"half of a large network", `{"Network": "10.0.0.0/8", "SubnetLen": 30, "SubnetMin": "10.128.0.0", "Backend": {"Type": "vxlan"}}`, 1 << 21},
		{"IPv6 is the narrower one", `{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "fd00:5::/48", "IPv6SubnetMax": "fd00:5:0:9::", "Backend": {"Type": "vxlan"}}`, 9},
		{"IPv6 has more", usualDual, 255},
		{"IPv6 subnets shorter than 64", `{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "fd00:5::/124", "IPv6SubnetLen": 126, "Backend": {"Type": "vxlan"}}`, 3},
		{"more IPv6 subnets than a number holds", `{"EnableIPv6": true, "Network": "10.5.0.0/16", "IPv6Network": "fd00::/8", "IPv6SubnetLen": 124, "Backend": {"Type": "vxlan"}}`, 255},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			c := mustConfig(t, tt.config)
			if got := c.Room(); got != tt.want {
				t.Errorf("got %d, want %d", got, tt.want)
			}
			least := len(c.ipv4().free(nil, tt.want+1))
			if c.EnableIPv6 {
				least = min(least, len(c.ipv6().free(nil, tt.want+1)))
			}
			if least != tt.want {
				t.Errorf("%d hosts can lease, want %d", least, tt.want)
			}
		})
	}
}
