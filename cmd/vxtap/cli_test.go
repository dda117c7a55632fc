// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/urfave/cli/v2"
)

// runVxtap runs the program in this process.
func runVxtap(t *testing.T, env []string, args ...string) (status int, stdout, stderr string) {
	t.Helper()
	var out, errs bytes.Buffer
	status = run(t.Context(), append([]string{"vxtap"}, args...), env, &out, &errs)
	return status, out.String(), errs.String()
}

func TestUsageErrors(t *testing.T) {
	tests := []struct {
		name string
		args string
		env  string
		want string
	}{
		{name: "unknown flag", args: "-frobnicate", want: "unknown flag -frobnicate: vxtap -help lists the flags"},
		{name: "unknown flag, nearly right", args: "--etcd-endpoint=http://x:1", want: "unknown flag -etcd-endpoint: did you mean -etcd-endpoints?"},
		{name: "flag without its value", args: "-etcd-prefix", want: "-etcd-prefix needs a value: write -etcd-prefix=VALUE"},
		{name: "switch with a word", args: "-ip-masq=maybe", want: `-ip-masq: "maybe" is not true or false`},
		{name: "switch with its value apart", args: "-ip-masq false", want: `unexpected argument "false": to set a switch, write it with =, as -ip-masq=false`},
		{name: "unknown command", args: "statsu", want: `unknown command "statsu": did you mean status?`},
		{name: "unknown command, like none", args: "run", want: `unknown command "run": there are status, docker-opts, config, lease, cleanup, version, help`},
		{name: "argument after flags", args: "-v=1 10.5.0.0/16", want: `unknown command "10.5.0.0/16": there are status, docker-opts, config, lease, cleanup, version, help`},
		{name: "argument of a command", args: "status flannel.1", want: `unexpected argument "flannel.1": vxtap status takes flags only`},
		{name: "unknown flag of a command", args: "status -output=json", want: "unknown flag -output: vxtap -help lists the flags"},
		{name: "unknown format", args: "status -o yaml", want: `-o: "yaml" is not one of table, json`},
		{name: "daemon's flag before a command", args: "-run-dir /tmp status", want: "-run-dir is before the command: write vxtap status first, then its flags"},
		{name: "docker-opts with a name that is none", args: "docker-opts -k A-B", want: `-k: "A-B" is no name of a variable, as DOCKER_OPTS`},
		{name: "docker-opts with an unknown letter", args: "docker-opts -icx", want: "unknown flag -icx: vxtap -help lists the flags"},
		{name: "docker-opts with a letter that is like none", args: "docker-opts -x", want: "unknown flag -x: vxtap -help lists the flags"},
		{name: "a letter that is like none", args: "-x", want: "unknown flag -x: vxtap -help lists the flags"},
		{name: "help of what is no command", args: "help nix", want: `unknown command "nix": there are status, docker-opts, config, lease, cleanup, version, help`},
		{name: "help of what is nearly a command", args: "help leases", want: `unknown command "leases": did you mean lease?`},
		{name: "help of what is no command of several", args: "help lease nix", want: `unknown command "lease nix": there are show, release, reserve`},
		{name: "help of a command and more", args: "help status x", want: `unexpected argument "x": vxtap status has no commands`},
		{name: "docker-opts with a value that is missing", args: "docker-opts -if", want: "-f needs a value: write -f=VALUE"},
		{name: "docker-opts with an argument", args: "docker-opts -i x", want: `unexpected argument "x": vxtap docker-opts takes flags only`},
		{name: "daemon's flag before docker-opts", args: "-v 1 docker-opts", want: "-v is before the command: write vxtap docker-opts first, then its flags"},
		{name: "margin of zero", args: "-subnet-lease-renew-margin=0", want: `-subnet-lease-renew-margin: "0" is not a whole number from 1 to 1439`},
		{name: "margin of a day", args: "-subnet-lease-renew-margin=1440", want: `-subnet-lease-renew-margin: "1440" is not a whole number from 1 to 1439`},
		{name: "margin with a unit", args: "-subnet-lease-renew-margin=60m", want: `-subnet-lease-renew-margin: "60m" is not a whole number from 1 to 1439`},
		{name: "lease shorter than etcd can keep", args: "-lease-ttl=9s", want: `-lease-ttl: "9s" is not a time in whole seconds from 10s to 8760h, as 24h or 90m`},
		{name: "lease longer than a year", args: "-lease-ttl=8761h", want: `-lease-ttl: "8761h" is not a time in whole seconds from 10s to 8760h, as 24h or 90m`},
		{name: "lease of half a second more", args: "-lease-ttl=10.5s", want: `-lease-ttl: "10.5s" is not a time in whole seconds from 10s to 8760h, as 24h or 90m`},
		{name: "lease without a unit", args: "-lease-ttl=86400", want: `-lease-ttl: "86400" is not a time in whole seconds from 10s to 8760h, as 24h or 90m`},
		{name: "margin that is all of the lease", args: "-lease-ttl=30m -subnet-lease-renew-margin=30", want: `-subnet-lease-renew-margin: 30m0s before its end is no time to renew a lease of 30m0s: put fewer minutes, or a longer -lease-ttl`},
		{name: "margin from the environment that is more than the lease", args: "-lease-ttl=30m", env: "FLANNELD_SUBNET_LEASE_RENEW_MARGIN=60", want: `FLANNELD_SUBNET_LEASE_RENEW_MARGIN: 1h0m0s before its end is no time to renew a lease of 30m0s: put fewer minutes, or a longer -lease-ttl`},
		{name: "unknown answer to a lost lease", args: "-on-lease-lost=ignore", want: `-on-lease-lost: "ignore" is not one of reacquire, exit`},
		{name: "public address of the wrong family", args: "-public-ip=fd00::1", want: `-public-ip: "fd00::1" is not an IPv4 address, as 192.0.2.7`},
		{name: "public IPv6 address of the wrong family", args: "-public-ipv6=192.0.2.7", want: `-public-ipv6: "192.0.2.7" is not an IPv6 address, as 2001:db8::7`},
		{name: "public IPv6 address that nobody can reach", args: "-public-ipv6=::1", want: "-public-ipv6: ::1 is no address at which other hosts could reach this one"},
		{name: "public address that nobody can reach", args: "-public-ip=0.0.0.0", want: "-public-ip: 0.0.0.0 is no address at which other hosts could reach this one"},
		{name: "pattern that is none", args: "-iface-regex=eth[", want: "-iface-regex: error parsing regexp: missing closing ]: `[`"},
		{name: "unknown policy", args: "-source-check=lax", want: `-source-check: "lax" is not one of strict, log, off`},
		{name: "unknown offload mode", args: "-offload=on", want: `-offload: "on" is not one of auto, off, csum, tso, uso, udp-segment, udp-gro, coalesce`},
		{name: "unknown log format", args: "-log-format=xml", want: `-log-format: "xml" is not one of text, json`},
		{name: "log level that is no number", args: "-v=debug", want: `-v: "debug" is not a whole number of 0 or more`},
		{name: "port out of range", args: "-healthz-port=65536", want: `-healthz-port: "65536" is not a whole number from 0 to 65535`},
		{name: "health address that is none", args: "-healthz-port=1 -healthz-ip=localhost", want: `-healthz-ip: "localhost" is not an IP address, as 0.0.0.0`},
		{name: "number that has no effect", args: "-iptables-resync=often", want: `-iptables-resync: "often" is not a whole number of 0 or more`},
		{name: "endpoint that is no URL", args: "-etcd-endpoints=http://a:2379,ftp://b", want: "-etcd-endpoints: entry 2 is not a URL such as http://10.0.0.1:2379"},
		{name: "endpoint with a login", args: "-etcd-endpoints=http://root:hunter2@a:2379", want: "-etcd-endpoints: entry 1 has a login in its URL: use -etcd-username and -etcd-password"},
		{name: "endpoint with a login that does not parse", args: "-etcd-endpoints=http://root:hunter2@a:x", want: "-etcd-endpoints: entry 1 is not a URL such as http://10.0.0.1:2379"},
		{name: "no endpoint", args: "-etcd-endpoints=,", want: "-etcd-endpoints: has no URL: leave it out for the default"},
		{name: "certificate without key", args: "-etcd-certfile=a", want: "-etcd-certfile: a certificate and its key go together: give -etcd-certfile and -etcd-keyfile, or neither"},
		{name: "name without password", args: "-etcd-username=a", want: "-etcd-username: name and password go together: give -etcd-username and -etcd-password, or neither"},
		{name: "Kubernetes", args: "-kube-subnet-mgr", want: "-kube-subnet-mgr: leases come from etcd only, so far: leave it out and set -etcd-endpoints"},
		{name: "bad number in the environment", env: "VXTAP_HEALTHZ_PORT=http", want: `VXTAP_HEALTHZ_PORT: "http" is not a whole number from 0 to 65535`},
		{name: "bad switch in the environment", env: "FLANNELD_IP_MASQ=ja", want: `FLANNELD_IP_MASQ: "ja" is not true or false`},
		{name: "a mixed list of offloads", args: "-offload=csum,-tso", want: `-offload: "csum,-tso" has names with and without a minus sign: list what to use, or what not to use`},
		{name: "super-frames without checksums", args: "-offload=tso", want: `-offload: "tso" has super-frames without csum, which the kernel gives no one: write csum,tso`},
		{name: "a name that only status has", args: "-offload=csum,tso4", want: `-offload: "tso4" goes by the name tso, which is tso4, tso6 and ecn together`},
		{name: "another one, with a minus sign", args: "-offload=-uso6", want: `-offload: "uso6" goes by the name uso, which is uso4 and uso6 together`},
		{name: "all in a list", args: "-offload=auto,off", want: `-offload: auto stands alone: give auto, or off, or a list of csum, tso, uso, udp-segment, udp-gro, coalesce`},
		{name: "nothing in a list", args: "-offload=csum,,tso", want: `-offload: a name is missing between commas: there are csum, tso, uso, udp-segment, udp-gro, coalesce`},
		{name: "no offload", args: "-offload=", want: `-offload: needs a value: leave it out for the default`},
		{name: "no number", args: "-queues=", want: `-queues: needs a value: leave it out for the default`},
		{name: "no path", args: "-tx-path=", want: `-tx-path: needs a value: leave it out for the default`},
		{name: "no policy", args: "-source-check=", want: `-source-check: needs a value: leave it out for the default`},
		{name: "no queue", args: "-queues=0", want: `-queues: "0" is neither auto nor a whole number from 1 to 64`},
		{name: "a path for super-frames without any", args: "-tx-path=uplink -offload=off", want: `-tx-path: uplink is for super-frames, and -offload=off has none: leave -offload out, or write -offload=csum,tso`},
		{name: "unknown path", args: "-tx-path=fast", want: `-tx-path: "fast" is not one of auto, udp, uplink`},
		{name: "two faults", args: "-offload=on -v=x", want: `-offload: "on" is not one of auto, off, csum, tso, uso, udp-segment, udp-gro, coalesce; -v: "x" is not a whole number of 0 or more`},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, stdout, stderr := runVxtap(t, strings.Fields(tt.env), strings.Fields(tt.args)...)
			if want := "vxtap: " + tt.want + "\n"; stderr != want {
				t.Errorf("got %q on standard error, want %q", stderr, want)
			}
			if status != exitUsage || stdout != "" {
				t.Errorf("got status %d and %q on standard output, want %d and nothing", status, stdout, exitUsage)
			}
		})
	}
}

func TestHelpAndVersion(t *testing.T) {
	tests := []struct {
		name           string
		args           string
		stdout, stderr string // how they begin; "": empty
	}{
		{"help", "-help", "vxtap makes this host", ""},
		{"help with two dashes", "--help", "vxtap makes this host", ""},
		{"short help", "-h", "vxtap makes this host", ""},
		{"help command", "help", "vxtap makes this host", ""},
		{"help of a command", "status -help", "vxtap status shows", ""},
		{"help by the help command", "help status", "vxtap status shows", ""},
		{"help of several commands", "help lease", "vxtap lease looks after", ""},
		{"help of a command of several", "help lease release", "vxtap lease release deletes", ""},
		{"help of a command that has none of its own", "help version", "vxtap makes this host", ""},
		{"help of docker-opts", "docker-opts -h", "vxtap docker-opts makes", ""},
		{"version where flanneld prints it", "--version", "", "vxtap "},
		{"version command", "version", "vxtap ", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, stdout, stderr := runVxtap(t, nil, strings.Fields(tt.args)...)
			if status != exitOK {
				t.Errorf("got status %d, want 0", status)
			}
			if !strings.HasPrefix(stdout, tt.stdout) || (tt.stdout == "" && stdout != "") {
				t.Errorf("got %q on standard output, want %q", stdout, tt.stdout)
			}
			if !strings.HasPrefix(stderr, tt.stderr) || (tt.stderr == "" && stderr != "") {
				t.Errorf("got %q on standard error, want %q", stderr, tt.stderr)
			}
		})
	}
}

func TestHelpNamesEveryFlag(t *testing.T) {
	_, help, _ := runVxtap(t, nil, "-help")
	for _, name := range flagNames(daemonFlags()) {
		if !strings.Contains(help, "\n  -"+name+" ") && !strings.Contains(help, "\n  -"+name+"\n") {
			t.Errorf("help does not name -%s", name)
		}
	}
	for line := range strings.Lines(help) {
		if len(line) > helpWidth+1 {
			t.Errorf("line is longer than %d: %q", helpWidth, line)
		}
	}
}

// flanneldFlags are those of flannel v0.28.9, main.go, with their defaults.
var flanneldFlags = map[string]string{
	"etcd-endpoints": "http://127.0.0.1:4001,http://127.0.0.1:2379", "etcd-prefix": "/coreos.com/network",
	"etcd-keyfile": "", "etcd-certfile": "", "etcd-cafile": "", "etcd-username": "", "etcd-password": "",
	"kube-subnet-mgr": "false", "kube-api-url": "", "kube-annotation-prefix": "flannel.alpha.coreos.com", "kubeconfig-file": "",
	"net-config-path": "/etc/kube-flannel/net-conf.json", "set-node-network-unavailable": "true",
	"iface": "[]", "iface-regex": "[]", "iface-can-reach": "", "subnet-file": "/run/flannel/subnet.env",
	"public-ip": "", "public-ipv6": "", "subnet-lease-renew-margin": "60",
	"ip-masq": "false", "ip-masq-fully-random-disable": "false", "ip-blackhole-route": "false",
	"iptables-resync": "5", "iptables-forward-rules": "true",
	"healthz-ip": "0.0.0.0", "healthz-port": "0", "version": "false",
	"v": "0", "vmodule": "", "log_backtrace_at": "",
}

func TestFlanneldsFlags(t *testing.T) {
	got := make(map[string]string)
	for _, f := range daemonFlags() {
		name := f.Names()[0]
		if _, ok := flanneldFlags[name]; !ok {
			continue
		}
		switch f := f.(type) {
		case *cli.StringFlag:
			got[name] = f.Value
		case *cli.StringSliceFlag:
			got[name] = "[]"
		case *cli.BoolFlag:
			got[name] = "false"
			if f.Value {
				got[name] = "true"
			}
		}
	}
	if diff := cmp.Diff(flanneldFlags, got); diff != "" {
		t.Errorf("flags and defaults (-flanneld +vxtap):\n%s", diff)
	}
}

func TestNearest(t *testing.T) {
	names := []string{"iface", "iface-regex", "etcd-prefix", "v"}
	tests := []struct{ name, in, want string }{
		{"a letter missing", "ifac", "iface"},
		{"two letters swapped", "iafce", "iface"},
		{"far from all", "public", ""},
		{"empty", "", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got, _ := nearest(tt.in, names); got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

func TestOneLine(t *testing.T) {
	got := oneLine("a: b\n\nc\x1b[2J\rd\n")
	if want := "a: b; c?[2J?d"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}

// parse runs only the part of the program that makes settings of arguments.
func parse(t *testing.T, args, env []string) (settings, error) {
	t.Helper()
	var s settings
	var out bytes.Buffer
	app := newApp(nil, env, &out, &out)
	app.Commands = nil
	app.Action = func(c *cli.Context) (err error) {
		s, err = readSettings(c, env)
		return err
	}
	err := app.RunContext(context.Background(), slices.Concat([]string{"vxtap"}, args))
	return s, err
}

// Whoever reads a log of JSON gets the last line in it too.
func TestLastWordsHaveTheFormOfTheLog(t *testing.T) {
	inJSON := []string{"VXTAP_LOG_FORMAT=json"}
	for _, tt := range []struct {
		name string
		env  []string
		args []string
		want string
		text bool
	}{
		{"a value", nil, []string{"-log-format=json", "-queues=0"}, "-queues", false},
		{"a value, by the environment", inJSON, []string{"-queues=0"}, "-queues", false},
		{"an unknown flag", nil, []string{"-log-format=json", "-frobnicate"}, "unknown flag -frobnicate", false},
		{"an unknown flag, by the environment", inJSON, []string{"-frobnicate"}, "unknown flag -frobnicate", false},
		{"a flag without its value", nil, []string{"-log-format=json", "-etcd-prefix"}, "needs a value", false},
		{"a word too many", inJSON, []string{"nix"}, "unknown command", false},
		{"another flag than the variable", inJSON, []string{"-log-format=text", "-frobnicate"}, "unknown flag -frobnicate", true},
		{"a format that is not read any more", nil, []string{"-frobnicate", "-log-format=json"}, "unknown flag -frobnicate", true},
		{"a command, which has no log", inJSON, []string{"status", "-frobnicate"}, "unknown flag -frobnicate", true},
	} {
		t.Run(tt.name, func(t *testing.T) {
			status, _, stderr := runVxtap(t, tt.env, tt.args...)
			switch {
			case !tt.text:
				wantLastWords(t, stderr, tt.want)
			case !strings.HasPrefix(stderr, "vxtap: "+tt.want):
				t.Errorf("got %q, want a line of text that says %q", stderr, tt.want)
			}
			if status != exitUsage || strings.Count(stderr, "\n") != 1 {
				t.Errorf("got status %d and %q, want %d and one line", status, stderr, exitUsage)
			}
		})
	}
}

// What cleanup leaves has to be known to who wants none of it.
func TestHelpOfCleanupSaysWhatStays(t *testing.T) {
	status, stdout, _ := runVxtap(t, nil, "cleanup", "-help")
	for _, part := range []string{"/var/lib/vxtap (-state-dir)", "the subnet file", "stay", "vxtap lease release", "removes the directory by hand"} {
		if status != exitOK || !strings.Contains(stdout, part) {
			t.Errorf("got status %d and %q, want it to say %q", status, stdout, part)
		}
	}
}

// wantLastWords checks that the last line of printed is an error in JSON.
func wantLastWords(t *testing.T, printed, say string) {
	t.Helper()
	lines := strings.Split(strings.TrimSpace(printed), "\n")
	var last struct{ Level, Msg, Error string }
	if err := json.Unmarshal([]byte(lines[len(lines)-1]), &last); err != nil || last.Level != "ERROR" || !strings.Contains(last.Error, say) {
		t.Errorf("got %q, %v, want an error in JSON that says %q", printed, err, say)
	}
}
