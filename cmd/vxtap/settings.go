// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"math"
	"net/netip"
	"net/url"
	"regexp"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/urfave/cli/v2"

	"vxtap/lease/etcd"
	"vxtap/tunnel"
	"vxtap/tunnel/host"
)

// defaultRunDir is where daemon and command line meet.
const defaultRunDir = "/run/vxtap"

// defaultStateDir is where what was last known outlives a reboot.
const defaultStateDir = "/var/lib/vxtap"

// defaultSubnetFile is where flannel's CNI plugin, and Docker's options, look
// for the subnet.
const defaultSubnetFile = "/run/flannel/subnet.env"

// settings are the daemon's flags, checked.
type settings struct {
	etcd        etcd.Config // Password is a secret: nothing logs or shows settings whole
	uplink      host.Choice
	publicIP    netip.Addr // zero: the uplink's
	publicIPv6  netip.Addr // zero: the uplink's
	takeover    bool
	offload     offloads
	queues      int    // of the TAP, and receiving sockets
	txPath      string // txAuto, txUDP or txUplink
	checks      tunnel.Checks
	subnetFile  string
	leaseTTL    time.Duration
	renewMargin time.Duration
	onLeaseLost string // lostReacquire or lostExit
	rules       ruleSettings
	routeMode   string // routeAggregate or routePerPeer
	runDir      string
	stateDir    string         // "": nothing is remembered
	health      netip.AddrPort // zero: do not serve
	debug       bool
	logJSON     bool
	idle        []string // flags that were given and have no effect so far
	lacks       []string // what of a flag has no effect because of another
	strays      []string // variables that are named as ours are and stand for no flag
}

// readSettings checks the flags of c and, for those that were not given, the
// environment. All faults are in the error; each names the flag or the
// variable that is to be mended.
func readSettings(c *cli.Context, env []string) (settings, error) {
	r := &reader{c: c, origin: make(map[string]string)}
	r.takeEnvironment(env, c.App.Flags)
	if c.Bool("kube-subnet-mgr") {
		r.fault("kube-subnet-mgr", "leases come from etcd only, so far: leave it out and set -etcd-endpoints")
	}
	s := settings{
		etcd:        r.etcd(),
		takeover:    c.Bool("takeover"),
		offload:     r.offloads(),
		queues:      r.queues(),
		txPath:      r.choice("tx-path", txAuto, txUDP, txUplink),
		checks:      tunnel.Checks{Source: r.policy("source-check"), InnerSource: r.policy("inner-source-check")},
		subnetFile:  r.notEmpty("subnet-file"),
		onLeaseLost: r.choice("on-lease-lost", lostReacquire, lostExit),
		rules:       r.rules(),
		routeMode:   r.choice("route-mode", routeAggregate, routePerPeer),
		publicIP:    r.publicIP(),
		publicIPv6:  r.publicIPv6(),
		runDir:      r.notEmpty("run-dir"),
		stateDir:    r.stateDir(),
		health:      r.health(),
		debug:       r.number("v", 0, math.MaxInt32) > 0,
		logJSON:     r.choice("log-format", "text", "json") == "json",
		idle:        r.idle(),
		strays:      strays(env, c.App.Flags),
	}
	if text := r.text("offload"); len(r.faults) == 0 {
		if s.txPath == txUplink && !s.offload.tso && !s.offload.uso {
			r.fault("tx-path", "uplink is for super-frames, and -offload=%s has none: leave -offload out, or write -offload=csum,tso", text)
		}
		asked, _ := strconv.Atoi(r.text("queues")) // 0 for auto
		s.lacks = s.offload.lacks(text, asked)
	}
	s.leaseTTL, s.renewMargin = r.leaseTimes()
	s.uplink = r.uplink(s.publicIP)
	s.uplink.PublicIPv6 = s.publicIPv6
	return s, errors.Join(r.faults...)
}

// reader turns text into values and keeps the faults.
type reader struct {
	c      *cli.Context
	origin map[string]string // of a flag that came from the environment: the variable
	faults []error
}

// takeEnvironment sets those of flags that are not on the command line.
func (r *reader) takeEnvironment(env []string, flags []cli.Flag) {
	for _, f := range flags {
		name := f.Names()[0]
		if name == "version" || r.c.IsSet(name) {
			continue // VXTAP_VERSION is something that container images like to set
		}
		variable, v := fromEnvironment(env, name)
		if v == "" {
			continue
		}
		r.origin[name] = variable
		if err := r.c.Set(name, v); err != nil {
			r.fault(name, "%q is not true or false", v) // only switches refuse a text
		}
	}
}

// fromEnvironment returns the variable that stands for a flag, and its value:
// VXTAP_*, else FLANNELD_*. A variable that is empty does not count, as in
// flanneld: unit files set empty ones to mean "the default".
func fromEnvironment(env []string, flag string) (variable, value string) {
	suffix := variableSuffix(flag)
	for _, variable := range []string{"VXTAP_" + suffix, "FLANNELD_" + suffix} {
		// The last of several wins, as it does for os/exec.
		for _, e := range slices.Backward(env) {
			if v, ok := strings.CutPrefix(e, variable+"="); ok && v != "" {
				return variable, v
			}
		}
	}
	return "", ""
}

// variableSuffix is the name of a flag as variables have it.
func variableSuffix(flag string) string { return strings.ToUpper(strings.ReplaceAll(flag, "-", "_")) }

// fault notes what is wrong with a flag, under the name by which it was given.
func (r *reader) fault(name, format string, args ...any) {
	from := "-" + name
	if v, ok := r.origin[name]; ok {
		from = v
	}
	r.faults = append(r.faults, fmt.Errorf(from+": "+format, args...))
}

func (r *reader) text(name string) string { return strings.TrimSpace(r.c.String(name)) }

func (r *reader) notEmpty(name string) string {
	v := r.text(name)
	if v == "" {
		r.fault(name, "needs a value: leave it out for the default")
	}
	return v
}

// stateDir takes the empty text too, which on a command line can only mean none.
func (r *reader) stateDir() string {
	v := r.text("state-dir")
	if v == "none" {
		return ""
	}
	return v
}

func (r *reader) number(name string, low, high int) int {
	v := r.text(name)
	n, err := strconv.Atoi(v)
	if err != nil || n < low || n > high {
		if high == math.MaxInt32 {
			r.fault(name, "%q is not a whole number of %d or more", v, low)
		} else {
			r.fault(name, "%q is not a whole number from %d to %d", v, low, high)
		}
		return low
	}
	return n
}

// choice reads one of the given words.
func (r *reader) choice(name string, words ...string) string {
	v := r.notEmpty(name)
	if v != "" && !slices.Contains(words, v) {
		r.fault(name, "%q is not one of %s", v, strings.Join(words, ", "))
	}
	return v
}

// Bounds of a lease's time to live. A third of it is the time between two
// renewals, of which one may fail; etcd itself grants no less than two seconds
// with its usual timing.
const (
	minLeaseTTL = 10 * time.Second
	maxLeaseTTL = 8760 * time.Hour // a year
)

// leaseTimes reads the time to live of the lease and the margin before its end.
// flannel's margin of an hour is for its day; with a shorter time it gives way,
// unless it was asked for.
func (r *reader) leaseTimes() (ttl, margin time.Duration) {
	margin = time.Duration(r.number("subnet-lease-renew-margin", 1, 1439)) * time.Minute
	v := r.text("lease-ttl")
	ttl, err := time.ParseDuration(v)
	if err != nil || ttl < minLeaseTTL || ttl > maxLeaseTTL || ttl%time.Second != 0 {
		r.fault("lease-ttl", "%q is not a time in whole seconds from %v to %vh, as 24h or 90m", v, minLeaseTTL, maxLeaseTTL.Hours())
		return 24 * time.Hour, margin
	}
	if margin >= ttl && r.c.IsSet("subnet-lease-renew-margin") {
		r.fault("subnet-lease-renew-margin", "%v before its end is no time to renew a lease of %v: put fewer minutes, or a longer -lease-ttl", margin, ttl)
	}
	return ttl, margin
}

func (r *reader) offloads() offloads {
	v := r.notEmpty("offload")
	if v == "" {
		return offloads{}
	}
	o, err := parseOffloads(v)
	if err != nil {
		r.fault("offload", "%w", err)
	}
	return o
}

func (r *reader) queues() int {
	v := r.notEmpty("queues")
	if v == "auto" || v == "" {
		return defaultQueues(runtime.NumCPU())
	}
	n, err := strconv.Atoi(v)
	if err != nil || n < 1 || n > maxQueues {
		r.fault("queues", "%q is neither auto nor a whole number from 1 to %d", v, maxQueues)
	}
	return n
}

func (r *reader) policy(name string) tunnel.Policy {
	v := r.notEmpty(name)
	if v == "" {
		return tunnel.Strict
	}
	p, err := tunnel.ParsePolicy(v)
	if err != nil {
		r.fault(name, "%w", err)
	}
	return p
}

// ipv4 reads an address, the zero one where the flag is empty.
func (r *reader) ipv4(name string) netip.Addr {
	v := r.text(name)
	if v == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(v)
	if err != nil || !a.Is4() {
		r.fault(name, "%q is not an IPv4 address, as 192.0.2.7", v)
		return netip.Addr{}
	}
	return a
}

func (r *reader) publicIP() netip.Addr {
	a := r.ipv4("public-ip")
	if a.IsValid() && (a.IsUnspecified() || a.IsMulticast() || a.IsLoopback() || a == netip.AddrFrom4([4]byte{255, 255, 255, 255})) {
		r.fault("public-ip", "%s is no address at which other hosts could reach this one", a)
	}
	return a
}

func (r *reader) publicIPv6() netip.Addr {
	v := r.text("public-ipv6")
	if v == "" {
		return netip.Addr{}
	}
	a, err := netip.ParseAddr(v)
	switch {
	case err != nil || !a.Is6() || a.Is4In6() || a.Zone() != "":
		r.fault("public-ipv6", "%q is not an IPv6 address, as 2001:db8::7", v)
		return netip.Addr{}
	case a.IsUnspecified() || a.IsMulticast() || a.IsLoopback():
		r.fault("public-ipv6", "%s is no address at which other hosts could reach this one", a)
	}
	return a
}

func (r *reader) uplink(publicIP netip.Addr) host.Choice {
	c := host.Choice{CanReach: r.ipv4("iface-can-reach"), PublicIP: publicIP}
	for _, v := range r.c.StringSlice("iface") {
		if v = strings.TrimSpace(v); v != "" {
			c.Names = append(c.Names, v)
		}
	}
	for _, v := range r.c.StringSlice("iface-regex") {
		if strings.TrimSpace(v) == "" {
			continue // the pattern would match everything, the loopback first
		}
		p, err := regexp.Compile(v)
		if err != nil {
			r.fault("iface-regex", "%w", err)
			continue
		}
		c.Patterns = append(c.Patterns, p)
	}
	return c
}

func (r *reader) health() netip.AddrPort {
	port := r.number("healthz-port", 0, 65535)
	v := r.text("healthz-ip")
	a, err := netip.ParseAddr(v)
	if err != nil {
		r.fault("healthz-ip", "%q is not an IP address, as 0.0.0.0", v)
	}
	if port == 0 {
		return netip.AddrPort{}
	}
	return netip.AddrPortFrom(a, uint16(port))
}

func (r *reader) etcd() etcd.Config {
	c := etcd.Config{
		Prefix:   r.notEmpty("etcd-prefix"),
		CAFile:   r.text("etcd-cafile"),
		CertFile: r.text("etcd-certfile"),
		KeyFile:  r.text("etcd-keyfile"),
		Username: r.c.String("etcd-username"),
		Password: r.c.String("etcd-password"),
	}
	// flanneld goes on without the certificate, or without the login, where
	// one half is missing. That is never what was meant.
	if (c.CertFile == "") != (c.KeyFile == "") {
		r.fault("etcd-certfile", "a certificate and its key go together: give -etcd-certfile and -etcd-keyfile, or neither")
	}
	if (c.Username == "") != (c.Password == "") {
		r.fault("etcd-username", "name and password go together: give -etcd-username and -etcd-password, or neither")
	}
	c.Endpoints = r.endpoints(c.CAFile != "" || c.CertFile != "")
	return c
}

// endpoints reads the list of URLs. Like flanneld's client it takes a bare
// host:port, which is https where there are certificates.
func (r *reader) endpoints(tls bool) []string {
	const name = "etcd-endpoints"
	scheme := "http"
	if tls {
		scheme = "https"
	}
	if strings.Trim(r.c.String(name), ", ") == "" {
		r.fault(name, "has no URL: leave it out for the default")
		return nil
	}
	var all []string
	for i, v := range strings.Split(r.c.String(name), ",") {
		v = strings.TrimSpace(v)
		if v == "" {
			continue
		}
		if !strings.Contains(v, "://") {
			v = scheme + "://" + v
		}
		u, err := url.Parse(v)
		switch {
		case err == nil && u.User != nil:
			// Refused before anything can print it.
			r.fault(name, "entry %d has a login in its URL: use -etcd-username and -etcd-password", i+1)
		case err != nil || u.Hostname() == "" || (u.Scheme != "http" && u.Scheme != "https"):
			r.fault(name, "entry %d is not a URL such as http://10.0.0.1:2379", i+1)
		default:
			all = append(all, strings.TrimSuffix(v, "/"))
		}
	}
	return all
}

// idle returns the flags that were given and do nothing yet.
func (r *reader) idle() []string {
	var names []string
	for _, f := range idleFlags() {
		name := f.Names()[0]
		if r.c.IsSet(name) && name != "kube-subnet-mgr" {
			names = append(names, name)
		}
	}
	return names
}
