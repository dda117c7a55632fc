// SPDX-License-Identifier: Apache-2.0

package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

const dockerSubnetEnv = "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.74.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n"

// The five golden cases of flannel's own test of the script, and other ways to
// write the same.
func TestDockerOpts(t *testing.T) {
	const (
		bip, masq, mtu = "DOCKER_OPT_BIP=\"--bip=10.1.74.1/24\"\n", "DOCKER_OPT_IPMASQ=\"--ip-masq=true\"\n", "DOCKER_OPT_MTU=\"--mtu=1472\"\n"
		all            = "=\" --bip=10.1.74.1/24 --ip-masq=true --mtu=1472\"\n"
	)
	tests := []struct{ name, args, env, want string }{
		{"default", "", "", bip + masq + mtu + "DOCKER_OPTS" + all},
		{"individual", "-i", "", bip + masq + mtu},
		{"combined", "-c", "", "DOCKER_OPTS" + all},
		{"another key", "-k CUSTOM_KEY", "", bip + masq + mtu + "CUSTOM_KEY" + all},
		{"no --ip-masq", "-m", "", bip + mtu + "DOCKER_OPTS=\" --bip=10.1.74.1/24 --mtu=1472\"\n"},
		{"two dashes", "--c --k=CUSTOM_KEY", "", "CUSTOM_KEY" + all},
		{"joined letters", "-icm", "", bip + mtu + "DOCKER_OPTS=\" --bip=10.1.74.1/24 --mtu=1472\"\n"},
		{"a letter joined with its value", "-ckCUSTOM_KEY", "", "CUSTOM_KEY" + all},
		{"joined letters and a value apart", "-ck CUSTOM_KEY", "", "CUSTOM_KEY" + all},
		{"a value that looks like letters", "-c -k ic", "", "ic" + all},
		{"the last of two counts", "-c -k A -k B", "", "B" + all},
		{"what is in the environment", "-c", "DOCKER_OPTS=-D", "DOCKER_OPTS=\"-D  --bip=10.1.74.1/24 --ip-masq=true --mtu=1472\"\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			from, to := filepath.Join(t.TempDir(), "subnet.env"), filepath.Join(t.TempDir(), "opts.env")
			if err := os.WriteFile(from, []byte(dockerSubnetEnv), 0o600); err != nil {
				t.Fatal(err)
			}
			args := slices.Concat([]string{"docker-opts", "-f", from, "-d", to}, strings.Fields(tt.args))
			status, stdout, stderr := runVxtap(t, strings.Fields(tt.env), args...)
			if status != exitOK || stdout != "" || stderr != "" {
				t.Fatalf("got status %d, %q and %q on standard error, want 0 and nothing", status, stdout, stderr)
			}
			if got, err := os.ReadFile(to); err != nil || string(got) != tt.want {
				t.Errorf("got error %v and\n%swant\n%s", err, got, tt.want)
			}
		})
	}
}

// A file that Docker reads is written whole or not at all.
func TestDockerOptsRefuses(t *testing.T) {
	tests := []struct{ name, env, want string }{
		{"a value that a shell would run", "FLANNEL_SUBNET=$(touch x)\n", `FLANNEL_SUBNET is "$(touch x)", which is no network`},
		{"ip-masq that is neither", dockerSubnetEnv + "FLANNEL_IPMASQ=1\n", `FLANNEL_IPMASQ is "1", neither true nor false`},
		{"no subnet file", "", "no such file or directory"},
		{"nothing in it", "\n", "there is neither FLANNEL_SUBNET nor FLANNEL_IPV6_SUBNET in it: it is no subnet file"},
		{"some other file", "root:x:0:0:root:/root:/bin/sh\n", "there is neither FLANNEL_SUBNET nor FLANNEL_IPV6_SUBNET in it: it is no subnet file"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			from, to := filepath.Join(t.TempDir(), "subnet.env"), filepath.Join(t.TempDir(), "opts.env")
			if tt.env != "" {
				if err := os.WriteFile(from, []byte(tt.env), 0o600); err != nil {
					t.Fatal(err)
				}
			}
			const before = "DOCKER_OPTS=\"\"\n"
			if err := os.WriteFile(to, []byte(before), 0o600); err != nil {
				t.Fatal(err)
			}
			// Where the daemon writes its subnet, from the same environment.
			status, stdout, stderr := runVxtap(t, []string{"FLANNELD_SUBNET_FILE=" + from}, "docker-opts", "-d", to)
			if status != exitError || stdout != "" || !strings.HasPrefix(stderr, "vxtap: read subnet file") || !strings.HasSuffix(stderr, tt.want+"\n") || strings.Count(stderr, "\n") != 1 {
				t.Errorf("got status %d, %q and %q on standard error, want %d and one line with %q", status, stdout, stderr, exitError, tt.want)
			}
			if got, err := os.ReadFile(to); err != nil || string(got) != before {
				t.Errorf("got error %v and %q, want the file as it was", err, got)
			}
		})
	}
}

// What the shell has opened stays the file that it is, and what was in it.
func TestDockerOptsToAnOpenFile(t *testing.T) {
	for _, to := range []string{"/dev/stdout", "/dev/fd/1", "/proc/self/fd/1"} {
		t.Run(to, func(t *testing.T) {
			dir := t.TempDir()
			from := filepath.Join(dir, "subnet.env")
			if err := os.WriteFile(from, []byte(dockerSubnetEnv), 0o600); err != nil {
				t.Fatal(err)
			}
			out, err := os.OpenFile(filepath.Join(dir, "out"), os.O_CREATE|os.O_RDWR|os.O_APPEND, 0o600)
			if err != nil {
				t.Fatal(err)
			}
			defer out.Close()
			if _, err := out.WriteString("before\n"); err != nil {
				t.Fatal(err)
			}
			cmd := exec.Command("/proc/self/exe", "docker-opts", "-i", "-f", from, "-d", to)
			cmd.Env, cmd.Stdout = append(os.Environ(), asVxtap+"=1"), out
			if err := cmd.Run(); err != nil {
				t.Fatal(err)
			}
			const want = "before\nDOCKER_OPT_BIP=\"--bip=10.1.74.1/24\"\nDOCKER_OPT_IPMASQ=\"--ip-masq=true\"\nDOCKER_OPT_MTU=\"--mtu=1472\"\n"
			got := make([]byte, 1024)
			n, err := out.ReadAt(got, 0) // through what was open before
			if string(got[:n]) != want {
				t.Errorf("got %q and error %v, want %q", got[:n], err, want)
			}
		})
	}
}

// Then Docker must not start: the unit that runs this has failed. Its file is
// there all the same, as the script leaves it.
func TestDockerOptsFindsARouteToOurOwnSubnet(t *testing.T) {
	h := newTestHost(t)
	to := filepath.Join(filepath.Dir(h.run), "opts.env")
	if err := os.WriteFile(h.subnetFile, []byte(dockerSubnetEnv), 0o600); err != nil {
		t.Fatal(err)
	}
	err := h.ns.Do(func() error {
		out, err := exec.Command("ip", "route", "add", "10.1.74.0/24", "via", "192.0.2.9").CombinedOutput()
		if err != nil {
			return fmt.Errorf("%w: %s", err, out)
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command("/proc/self/exe", "docker-opts", "-c", "-f", h.subnetFile, "-d", to)
	cmd.Env = append(os.Environ(), asVxtap+"=1")
	p := h.start(cmd)
	if got := p.wait(h, 5*time.Second); got != exitError {
		t.Errorf("got status %d, want %d", got, exitError)
	}
	want := "vxtap: " + to + " is written, but a route leads 10.1.74.0/24, this host's own subnet, away via 192.0.2.9: " +
		"if nobody needs it: ip route del 10.1.74.0/24 via 192.0.2.9"
	if got := p.failure(h); got != want {
		t.Errorf("got %q, want %q", got, want)
	}
	if got, err := os.ReadFile(to); err != nil || string(got) != "DOCKER_OPTS=\" --bip=10.1.74.1/24 --ip-masq=true --mtu=1472\"\n" {
		t.Errorf("got error %v and %q", err, got)
	}
}
