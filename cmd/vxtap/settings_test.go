// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"log/slog"
	"net/netip"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"vxtap/lease/etcd"
	"vxtap/tunnel"
	"vxtap/tunnel/host"
)

func TestSettings(t *testing.T) {
	defaults := func(change func(*settings)) settings {
		s := settings{
			etcd:        etcd.Config{Endpoints: []string{"http://127.0.0.1:4001", "http://127.0.0.1:2379"}, Prefix: "/coreos.com/network"},
			offload:     allOffloads(),
			queues:      defaultQueues(runtime.NumCPU()),
			txPath:      txAuto,
			routeMode:   routeAggregate,
			subnetFile:  "/run/flannel/subnet.env",
			leaseTTL:    24 * time.Hour,
			renewMargin: time.Hour,
			onLeaseLost: lostReacquire,
			rules:       ruleSettings{random: true, forward: true, every: 5 * time.Second},
			runDir:      "/run/vxtap",
			stateDir:    "/var/lib/vxtap",
		}
		change(&s)
		return s
	}
	tests := []struct {
		name string
		args []string
		env  []string
		want settings
	}{
		{"defaults", nil, nil, defaults(func(*settings) {})},
		{
			"everything", []string{
				"-etcd-endpoints=https://a:2379, https://b:2379/", "--etcd-prefix", "/net", "-etcd-cafile=ca", "-etcd-certfile=crt", "-etcd-keyfile=key",
				"-etcd-username=me", "-etcd-password= s3cret ", "-public-ip=192.0.2.7", "-iface=eth0", "-iface=eth1", "-iface-regex=^(a,b)", "-iface-can-reach=192.0.2.1",
				"-subnet-file=/s", "-subnet-lease-renew-margin=1439", "-lease-ttl=48h", "-on-lease-lost=exit", "-ip-masq", "-masq-exclude=10.0.0.0/8,192.0.2.9", "-masq-exclude=172.16.0.0/12",
				"-ip-masq-fully-random-disable", "-iptables-forward-rules=false", "-iptables-resync=9", "-ip-blackhole-route", "-run-dir=/r", "-state-dir=/var/lib/s", "-healthz-ip=::1", "-healthz-port=8080",
				"-offload=off", "-queues=3", "-tx-path=udp", "-route-mode=per-peer", "-source-check=log", "-inner-source-check=off", "-v=10", "-log-format=json",
			}, nil,
			settings{
				etcd: etcd.Config{
					Endpoints: []string{"https://a:2379", "https://b:2379"}, Prefix: "/net", CAFile: "ca", CertFile: "crt", KeyFile: "key",
					Username: "me", Password: " s3cret ",
				},
				uplink: host.Choice{
					Names: []string{"eth0", "eth1"}, Patterns: []*regexp.Regexp{regexp.MustCompile("^(a,b)")},
					CanReach: netip.MustParseAddr("192.0.2.1"), PublicIP: netip.MustParseAddr("192.0.2.7"),
				},
				publicIP: netip.MustParseAddr("192.0.2.7"), queues: 3, txPath: txUDP, routeMode: routePerPeer, checks: tunnel.Checks{Source: tunnel.Log, InnerSource: tunnel.Off},
				subnetFile: "/s", leaseTTL: 48 * time.Hour, onLeaseLost: lostExit, renewMargin: 1439 * time.Minute, runDir: "/r", stateDir: "/var/lib/s",
				rules: ruleSettings{
					ipMasq: true, every: 9 * time.Second, blackhole: true,
					exclude: []netip.Prefix{netip.MustParsePrefix("10.0.0.0/8"), netip.MustParsePrefix("192.0.2.9/32"), netip.MustParsePrefix("172.16.0.0/12")},
				},
				health: netip.MustParseAddrPort("[::1]:8080"), debug: true, logJSON: true,
				lacks: []string{"-queues=3: it is one, since -offload=off has no csum, and without it a TAP has one queue"},
			},
		},
		{"bare endpoints", []string{"-etcd-endpoints=10.0.0.1:2379,etcd:2379"}, nil, defaults(func(s *settings) {
			s.etcd.Endpoints = []string{"http://10.0.0.1:2379", "http://etcd:2379"}
		})},
		{"bare endpoints with certificates", []string{"-etcd-endpoints=etcd:2379", "-etcd-cafile=ca"}, nil, defaults(func(s *settings) {
			s.etcd.Endpoints, s.etcd.CAFile = []string{"https://etcd:2379"}, "ca"
		})},
		{"environment", nil, []string{"VXTAP_ETCD_PREFIX=/ours", "FLANNELD_SUBNET_FILE=/theirs", "VXTAP_IFACE=eth7"}, defaults(func(s *settings) {
			s.etcd.Prefix, s.subnetFile, s.uplink.Names = "/ours", "/theirs", []string{"eth7"}
		})},
		{"command line before environment", []string{"-etcd-prefix=/line"}, []string{"VXTAP_ETCD_PREFIX=/env", "FLANNELD_ETCD_PREFIX=/env"}, defaults(func(s *settings) {
			s.etcd.Prefix = "/line"
		})},
		{"our environment before flanneld's", nil, []string{"FLANNELD_ETCD_PREFIX=/theirs", "VXTAP_ETCD_PREFIX=/ours"}, defaults(func(s *settings) {
			s.etcd.Prefix = "/ours"
		})},
		{"empty variables do not count", nil, []string{"VXTAP_ETCD_PREFIX=", "FLANNELD_ETCD_PREFIX=/theirs", "FLANNELD_HEALTHZ_PORT="}, defaults(func(s *settings) {
			s.etcd.Prefix = "/theirs"
		})},
		{"nothing is remembered", []string{"-state-dir=none"}, nil, defaults(func(s *settings) { s.stateDir = "" })},
		{"nothing is remembered, in other words", []string{"-state-dir="}, nil, defaults(func(s *settings) { s.stateDir = "" })},
		{"empty interfaces do not count", []string{"-iface=", "-iface-regex=", "-iface-regex= "}, nil, defaults(func(*settings) {})},
		{"the version of an image is no flag", nil, []string{"VXTAP_VERSION=1.0"}, defaults(func(*settings) {})},
		{"flags without effect are named", []string{"-vmodule=x", "-kube-subnet-mgr=false"}, []string{"FLANNELD_PUBLIC_IPV6=fd00::1", "FLANNELD_KUBE_API_URL=http://k"}, defaults(func(s *settings) {
			s.publicIPv6 = netip.MustParseAddr("fd00::1")
			s.uplink.PublicIPv6 = s.publicIPv6
			s.idle = []string{"kube-api-url", "vmodule"}
		})},
	}
	compare := []cmp.Option{
		cmp.AllowUnexported(offloads{}, ruleSettings{}, settings{}),
		cmp.Comparer(func(a, b netip.Prefix) bool { return a == b }),
		cmp.Comparer(func(a, b netip.Addr) bool { return a == b }),
		cmp.Comparer(func(a, b netip.AddrPort) bool { return a == b }),
		cmp.Comparer(func(a, b *regexp.Regexp) bool { return a.String() == b.String() }),
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parse(t, tt.args, tt.env)
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, compare...); diff != "" {
				t.Errorf("settings (-want +got):\n%s", diff)
			}
		})
	}
}

func TestLogLevelAndFormat(t *testing.T) {
	tests := []struct {
		name string
		s    settings
		want string
	}{
		{"text without debug", settings{}, "level=INFO msg=b\n"},
		{"text with debug", settings{debug: true}, "level=DEBUG msg=a\nlevel=INFO msg=b\n"},
		{"JSON", settings{logJSON: true}, `"level":"INFO","msg":"b"}` + "\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			var b bytes.Buffer
			log := newLogger(&b, tt.s)
			log.Debug("a")
			log.Info("b")
			got := regexp.MustCompile(`(?m)^(time=\S+ |\{"time":"[^"]+",)`).ReplaceAllString(b.String(), "")
			if got != tt.want {
				t.Errorf("got %q, want %q", got, tt.want)
			}
		})
	}
}

// The password goes to etcd and nowhere else.
func TestAnnounceHasNoSecrets(t *testing.T) {
	s, err := parse(t, []string{"-etcd-username=me", "-ip-masq"}, []string{"VXTAP_ETCD_PASSWORD=hunter2"})
	if err != nil || s.etcd.Password != "hunter2" {
		t.Fatalf("got password %q and error %v", s.etcd.Password, err)
	}
	var b bytes.Buffer
	d := &daemon{settings: s, log: slog.New(slog.NewTextHandler(&b, nil))}
	d.announce()
	if got := b.String(); strings.Contains(got, "hunter2") || !strings.Contains(got, "vxtap starts") {
		t.Errorf("got log %q, want a line and no password", got)
	}
}

// What flanneld does and vxtap does not must be missed in the log, not in the
// traffic.
func TestAnnounceSaysWhatIsMissing(t *testing.T) {
	const idle, lacks, lo, stray = "without effect", "without its whole effect", "is the loopback", "variables=VXTAP_ETCD_PREFX"
	tests := []struct {
		name string
		args []string
		env  []string
		want []string // the others must not be there
	}{
		{"no flags", nil, nil, nil},
		{"rules", []string{"-ip-masq", "-iptables-resync=9", "-ip-blackhole-route"}, nil, nil},
		{"a flag that does nothing", []string{"-vmodule=x"}, nil, []string{idle}},
		{"fewer offloads than it looks", []string{"-offload=-csum"}, nil, []string{lacks}},
		{"fewer queues than asked for", []string{"-offload=csum", "-queues=4"}, nil, nil},
		{"a mistyped variable", nil, []string{"VXTAP_ETCD_PREFX=hunter2"}, []string{stray}},
		{"the loopback", []string{"-iface=127.0.0.1"}, nil, []string{lo}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := parse(t, tt.args, tt.env)
			if err != nil {
				t.Fatal(err)
			}
			var b bytes.Buffer
			d := &daemon{settings: s, log: slog.New(slog.NewTextHandler(&b, nil))}
			if slices.Contains(tt.want, lo) {
				d.home.Store(s.homeAt(host.Uplink{Addr: netip.MustParseAddr("127.0.0.1")}))
			}
			d.announce()
			if strings.Contains(b.String(), "hunter2") {
				t.Error("the log has the value of a variable, which may be a secret")
			}
			for _, line := range []string{idle, lacks, lo, stray} {
				want := 0
				if slices.Contains(tt.want, line) {
					want = 1
				}
				if got := strings.Count(b.String(), line); got != want {
					t.Errorf("got %d lines with %q, want %d:\n%s", got, line, want, &b)
				}
			}
		})
	}
}

func FuzzSettings(f *testing.F) {
	f.Add("-etcd-endpoints=http://a:1,b:2\n-public-ip=1.2.3.4\n--iface=eth0", "VXTAP_V=1")
	f.Add("-iface-regex=(((\n-subnet-lease-renew-margin=-1", "FLANNELD_HEALTHZ_PORT=99999999999999999999\nFLANNELD_IP_MASQ=x")
	f.Add("-etcd-endpoints=http://u:p@h:1,%zz,://,[::1]:2379", "")
	f.Fuzz(func(t *testing.T, args, env string) {
		s, err := parse(t, strings.Split(args, "\n"), strings.Split(env, "\n"))
		if err != nil {
			if l := oneLine(err.Error()); l == "" || strings.ContainsAny(l, "\n\r\x1b") {
				t.Errorf("error is not one line: %q", l)
			}
			return
		}
		for _, e := range s.etcd.Endpoints {
			if u, err := url.Parse(e); err != nil || u.User != nil {
				t.Errorf("endpoint %q does not parse or has a login", e)
			}
		}
	})
}
