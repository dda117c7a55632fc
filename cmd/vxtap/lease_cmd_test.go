// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"net/netip"
	"path/filepath"
	"strings"
	"testing"

	"vxtap/lease"
	"vxtap/lease/leasetest"
	"vxtap/test/ports"
)

func TestLeaseShow(t *testing.T) {
	n := newTestNetwork(t, netConfig)
	n.run("lease show", exitOK, "No leases.")
	n.lease(1)
	n.put("subnets/10.5.77.0-24", `{"PublicIP":"192.168.0.2"}`)
	n.put("subnets/10.5.78.0-24&fd00::-64", `{"PublicIP":"192.168.0.3","PublicIPv6":"fd01::3","BackendType":"host-\u001b[2Jgw"}`)
	n.put("subnets/10.9.0.0-24", leasetest.Value(t, 4))
	n.put("subnets/evil\x1b[2J\u009bkey", "{")
	n.run("lease show", exitOK,
		"SUBNET                   HOST         MAC                VNI  BACKEND        ENDS\n",
		"10.5.1.0/24              192.168.0.1  02:00:00:00:00:01    1  vxlan          in 23h 59m\n",
		"10.5.77.0/24             192.168.0.2  -                    -  not taken yet  reserved\n",
		"10.5.78.0/24, fd00::/64  192.168.0.3  -                    -  host-?[2Jgw    reserved\n",
		`subnets/evil\x1b[2J\u009bkey`, "subnet 10.9.0.0/24 is outside the network 10.5.0.0/16")
	var l LeaseList
	if err := json.Unmarshal([]byte(n.run("lease show -o json", exitOK)), &l); err != nil {
		t.Fatal(err)
	}
	if len(l.Leases) != 4 || len(l.Rejected) != 2 || l.Prefix != testPrefix || l.Revision == 0 || l.Note != "" {
		t.Fatalf("got %+v", l)
	}
	if e := l.Leases[0]; e.Reserved || e.Left < 86000 || e.Expires == nil || e.MAC != "02:00:00:00:00:01" || e.VNI != 1 || e.Key != "subnets/10.5.1.0-24" {
		t.Errorf("got %+v", e)
	}
	if e := l.Leases[1]; !e.Reserved || e.Expires != nil || e.MAC != "" {
		t.Errorf("got %+v", e)
	}
	n.put("subnets/10.5.79.0-24&fd00:0:0:1::-64", `{"PublicIP":"192.168.0.5","PublicIPv6":"fd01::5","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:05"},"BackendV6Data":{"VNI":1,"VtepMAC":"02:00:00:00:06:05"}}`)
	n.run("lease show", exitOK, "10.5.79.0/24, fd00:0:0:1::/64  192.168.0.5, fd01::5  02:00:00:00:00:05, 02:00:00:00:06:05    1  vxlan          reserved\n")
	n.put("config", "{")
	n.run("lease show", exitOK, "Note: without a network config that can be used it is not known which leases lie outside")
}

func TestLeaseRelease(t *testing.T) {
	n := newTestNetwork(t, netConfig)
	l := n.lease(1)
	n.put("subnets/10.5.77.0-24", `{"PublicIP":"192.168.0.2"}`)
	n.put("subnets/10.5.78.0-24", leasetest.Value(t, 3))
	n.put("subnets/10.5.79.0-24", "{")
	n.put("subnets/10.5.80.0-24", leasetest.Value(t, 5))
	n.put("subnets/10.5.81.0-24", leasetest.Value(t, 6))
	n.put("subnets/10.5.82.0-24", leasetest.Value(t, 7))
	// What a host behind NAT has of its own lease on the disk.
	file, state := filepath.Join(t.TempDir(), "subnet.env"), t.TempDir()
	if err := (lease.SubnetEnv{Network: netip.MustParsePrefix("10.5.0.0/16"), Subnet: netip.MustParsePrefix("10.5.82.0/24"), MTU: 1400}).WriteFile(file); err != nil {
		t.Fatal(err)
	}
	n.stateFile(state, 6)
	nowhere := t.TempDir()
	dirs := " -run-dir=" + nowhere
	for _, flag := range []string{"subnet-file", "state-dir"} {
		n.env = append(n.env, "VXTAP_"+strings.ToUpper(strings.ReplaceAll(flag, "-", "_"))+"="+filepath.Join(nowhere, flag))
	}
	tests := []struct {
		name, args string
		status     int
		want       string
		gone       string // key that must be gone; with another status it must be there
	}{
		{"a subnet that nobody has", "10.5.99.0/24", exitError, "there is no lease of 10.5.99.0/24 below /kubernetes/network/subnets", ""},
		{"a host that may be alive", l.Subnet.String(), exitError, "192.168.0.1 may be alive, and would be cut off; its lease ends by itself in 23h 59m", l.Key},
		{"a host that may be alive, by force", l.Subnet.String() + " -force", exitOK, "10.5.1.0/24 of 192.168.0.1 is released.", l.Key},
		{"a reservation that its host has taken", "10.5.78.0/24", exitError, "it is reserved for 192.168.0.3, and that host may use it", "subnets/10.5.78.0-24"},
		{"a reservation that nobody has taken", "10.5.77.0-24", exitOK, "10.5.77.0/24 of 192.168.0.2 is released.", "subnets/10.5.77.0-24"},
		{"a value that makes no sense", "subnets/10.5.79.0-24", exitError, "it makes no sense (the value is not the JSON of a lease)", "subnets/10.5.79.0-24"},
		{"a value that makes no sense, by force", "-force 10.5.79.0/24", exitOK, "10.5.79.0/24 of nobody is released.", "subnets/10.5.79.0-24"},
		{"this host has none", "own", exitError, "no lease below /kubernetes/network/subnets has an address of this host: behind NAT give -public-ip", ""},
		{"another host's, by an address that is mistyped", "own -public-ip=192.168.0.5" + dirs, exitError, "nothing on this host says that 192.168.0.5 is its address", "subnets/10.5.80.0-24"},
		{"another host's, by its subnet and the same address", "10.5.80.0/24 -public-ip=192.168.0.5" + dirs, exitError, "nothing on this host says that 192.168.0.5 is its address", "subnets/10.5.80.0-24"},
		{"another host's, with a subnet file of ours", "own -public-ip=192.168.0.5 -subnet-file=" + file + dirs, exitError, "nothing on this host says", "subnets/10.5.80.0-24"},
		{"another host's, with a state file of ours", "own -public-ip=192.168.0.5 -state-dir=" + state + dirs, exitError, "nothing on this host says", "subnets/10.5.80.0-24"},
		{"this host's, behind NAT, by its state file", "own -public-ip=192.168.0.6 -state-dir=" + state + dirs, exitOK, "10.5.81.0/24 of 192.168.0.6 is released.", "subnets/10.5.81.0-24"},
		{"this host's, behind NAT, by its subnet file", "own -public-ip=192.168.0.7 -subnet-file=" + file + dirs, exitOK, "10.5.82.0/24 of 192.168.0.7 is released.", "subnets/10.5.82.0-24"},
		{"another host's, by force", "own -force -public-ip=192.168.0.5" + dirs, exitOK, "10.5.80.0/24 of 192.168.0.5 is released.", "subnets/10.5.80.0-24"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := &testNetwork{t, n.store, n.flag, n.env}
			n.run("lease release "+tt.args, tt.status, tt.want)
			if gone := n.value(tt.gone) == ""; tt.gone != "" && gone != (tt.status == exitOK) {
				t.Errorf("%s is gone: %v", tt.gone, gone)
			}
		})
	}
}

// stateFile writes into dir what a daemon of that host remembers.
func (n *testNetwork) stateFile(dir string, host int) {
	n.Helper()
	r := lease.New(n.store, lease.Options{})
	if _, err := r.Config(n.Context()); err != nil {
		n.Fatal(err)
	}
	own := leasetest.Acquire(n, r, host)
	m := r.Memory(own, lease.Snapshot{Leases: []lease.Lease{own}})
	if err := m.WriteFile(filepath.Join(dir, r.MemoryName(own.Attrs.PublicIP))); err != nil {
		n.Fatal(err)
	}
}

// A daemon that runs would take the lease again three seconds later.
func TestLeaseReleaseAsksTheDaemon(t *testing.T) {
	n := newTestNetwork(t, netConfig)
	l := n.lease(1)
	dir := runDir(t)
	serveAdmin(t, dir, "flannel.1", `{"pid": 4711, "lease": {"key": "`+l.Key+`"}, "etcd": {"prefix": "`+testPrefix+`/"}}`)
	n.run("lease release own -public-ip=192.168.0.1 -run-dir="+dir, exitError, "the vxtap that runs here, pid 4711, holds it")
	if n.value(l.Key) == "" {
		t.Error("it was deleted all the same")
	}
	n.env = append(n.env, "VXTAP_RUN_DIR="+dir)
	n.run("lease release own -public-ip=192.168.0.1", exitError, "pid 4711")
	n.run("lease release own -public-ip=192.168.0.1 -force", exitOK, "is released")
}

func TestLeaseReserve(t *testing.T) {
	n := newTestNetwork(t, "")
	n.run("lease reserve 10.5.77.0/24 -public-ip=192.168.0.1", exitError, "there is no network to reserve a subnet of: /kubernetes/network/config does not exist")
	n.put("config", netConfig)
	l := n.lease(1)
	tests := []struct {
		name, args string
		status     int
		want       []string
	}{
		{"a free subnet", "10.5.77.0/24 -public-ip=192.168.0.2", exitOK, []string{"10.5.77.0/24 is reserved for 192.168.0.2, which takes it at its next start."}},
		{"the same again, by its key", "-public-ip=192.168.0.2 10.5.77.0-24", exitOK, []string{"10.5.77.0/24 is reserved for 192.168.0.2 already."}},
		{"for somebody else", "10.5.77.0/24 -public-ip 192.168.0.3", exitError, []string{"taken by the key subnets/10.5.77.0-24, a reservation of 192.168.0.2: release that first"}},
		{"a second one", "10.5.78.0/24 -public-ip=192.168.0.2", exitError, []string{"192.168.0.2 has the reservation 10.5.77.0/24 already"}},
		{"outside the network", "10.6.0.0/24 -public-ip=192.168.0.4", exitError, []string{"10.6.0.0/24 cannot be reserved: it is outside the Network 10.5.0.0/16"}},
		{"for a host inside the overlay", "10.5.78.0/24 -public-ip=10.5.3.3", exitError, []string{"it cannot take part at all"}},
		{"for no host", "10.5.78.0/24 -public-ip=224.0.0.1", exitError, []string{"no address of one host"}},
		{"another one than the host has", "10.5.80.0/24 -public-ip=192.168.0.1", exitOK, []string{"10.5.80.0/24 is reserved for 192.168.0.1", "Until then it has 10.5.1.0/24"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			n := &testNetwork{t, n.store, n.flag, n.env}
			n.run("lease reserve "+tt.args, tt.status, tt.want...)
		})
	}
	if again := n.lease(1); again.Subnet.String() != "10.5.80.0/24" || !again.Reserved() {
		t.Errorf("got %+v, want the reservation", again)
	}
	n.run("lease release 10.5.80.0/24 -force", exitOK)
	n.run("lease reserve "+l.Subnet.String()+" -public-ip=192.168.0.1", exitOK, "which 192.168.0.1 holds, is reserved for it from now on")
}

func TestOperatorUsageErrors(t *testing.T) {
	tests := []struct{ name, args, want string }{
		{"no command", "lease", "vxtap lease needs a command: there are show, release, reserve"},
		{"unknown command", "config delete", `unknown command "config delete": there are check, get, put`},
		{"unknown command, nearly right", "lease shwo", `unknown command "shwo": did you mean lease show?`},
		{"no file", "config check", "FILE is missing: write vxtap config check FILE"},
		{"no lease to release", "lease release", "SUBNET or own is missing: write vxtap lease release SUBNET or own"},
		{"two files", "config put a b", `unexpected argument "b": write vxtap config put FILE`},
		{"an argument too many", "lease show all", `unexpected argument "all": vxtap lease show takes flags only`},
		{"unknown flag", "config get -output=json", "unknown flag -output: vxtap -help lists the flags"},
		{"unknown flag behind the file", "config put net.json -dryrun", "unknown flag -dryrun: did you mean -dry-run?"},
		{"a flag behind the file without its value", "lease reserve 10.5.3.0/24 -public-ip", "-public-ip needs a value: write -public-ip=VALUE"},
		{"a switch behind the file with a word", "config put net.json -dry-run=maybe", `-dry-run: "maybe" is not true or false`},
		{"daemon's flag before the command", "-etcd-prefix=/x lease show", "-etcd-prefix is before the command: write vxtap lease show first, then its flags"},
		{"unknown format", "lease show -o yaml", `-o: "yaml" is not one of table, json`},
		{"a revision that is none", "config put -if-revision=x net.json", `-if-revision: "x" is not a whole number of 0 or more`},
		{"a subnet that is none", "lease reserve 10.5.3.0 -public-ip=192.0.2.7", `"10.5.3.0" is no subnet, as 10.5.3.0/24`},
		{"an address for a subnet", "lease reserve 10.5.3.1/24 -public-ip=192.0.2.7", "10.5.3.1/24 is an address in a subnet: write 10.5.3.0/24"},
		{"an IPv6 subnet", "lease reserve fd00::/64 -public-ip=192.0.2.7", `"fd00::/64" is no IPv4 subnet, as 10.5.3.0/24`},
		{"half of two subnets", "lease reserve 10.5.3.0/24, -public-ip=192.0.2.7", `"" is no IPv6 subnet, as fd00:5:0:3::/64`},
		{"an address for an IPv6 subnet", "lease reserve 10.5.3.0/24,fd00::1/64 -public-ip=192.0.2.7", "fd00::1/64 is an address in a subnet: write fd00::/64"},
		{"no host", "lease reserve 10.5.3.0/24", "-public-ip is missing: say which host the subnet is for, as -public-ip=192.0.2.7"},
		{"a host that is none", "lease reserve 10.5.3.0/24 -public-ip=h1", `-public-ip: "h1" is not an IPv4 address, as 192.0.2.7`},
		{"etcd flags are checked", "lease show -etcd-certfile=a", "-etcd-certfile: a certificate and its key go together: give -etcd-certfile and -etcd-keyfile, or neither"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, stdout, stderr := runVxtap(t, nil, strings.Fields(tt.args)...)
			if want := "vxtap: " + tt.want + "\n"; stderr != want || status != exitUsage || stdout != "" {
				t.Errorf("got status %d, %q and %q, want %d, %q and nothing", status, stderr, stdout, exitUsage, want)
			}
		})
	}
}

func TestOperatorHelp(t *testing.T) {
	for _, name := range []string{"config", "config check", "config get", "config put", "lease", "lease show", "lease release", "lease reserve"} {
		t.Run(name, func(t *testing.T) {
			status, stdout, stderr := runVxtap(t, nil, append(strings.Fields(name), "-help")...)
			if status != exitOK || stderr != "" || !strings.HasPrefix(stdout, "vxtap "+name+" ") {
				t.Errorf("got status %d, %q and %q", status, stdout, stderr)
			}
			if reads := !strings.Contains("config check lease", name); reads && !strings.Contains(stdout, "-etcd-endpoints URLS") {
				t.Errorf("the flags are missing:\n%s", stdout)
			}
			for line := range strings.Lines(stdout) {
				if len(line) > helpWidth+1 {
					t.Errorf("line is longer than %d: %q", helpWidth, line)
				}
			}
		})
	}
}

// An etcd that is not there is said within seconds, not waited for.
func TestOperatorWithoutEtcd(t *testing.T) {
	status, _, stderr := runVxtap(t, nil, "lease", "show", "-etcd-endpoints=http://"+ports.Keep(t))
	if status != exitError || !strings.Contains(stderr, "connection refused") || strings.Count(stderr, "\n") != 1 {
		t.Errorf("got status %d and %q", status, stderr)
	}
}
