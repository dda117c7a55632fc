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

// What flannel's own test of mk-docker-opts.sh starts from, and what the script
// makes of it.
const (
	dockerEnv      = "FLANNEL_NETWORK=10.1.0.0/16\nFLANNEL_SUBNET=10.1.74.1/24\nFLANNEL_MTU=1472\nFLANNEL_IPMASQ=false\n"
	dockerBIP      = `DOCKER_OPT_BIP="--bip=10.1.74.1/24"` + "\n"
	dockerIPMasq   = `DOCKER_OPT_IPMASQ="--ip-masq=true"` + "\n"
	dockerMTU      = `DOCKER_OPT_MTU="--mtu=1472"` + "\n"
	dockerCombined = `=" --bip=10.1.74.1/24 --ip-masq=true --mtu=1472"` + "\n"
)

func TestDockerOptionsByteExact(t *testing.T) {
	const individual = dockerBIP + dockerIPMasq + dockerMTU
	type options = DockerOptions
	tests := []struct {
		name string
		o    options
		env  string // "": dockerEnv
		want string
	}{
		{"both, the default", options{}, "", individual + "DOCKER_OPTS" + dockerCombined},
		{"both, asked for", options{Individual: true, Combined: true}, "", individual + "DOCKER_OPTS" + dockerCombined},
		{"individual", options{Individual: true}, "", individual},
		{"combined", options{Combined: true}, "", "DOCKER_OPTS" + dockerCombined},
		{"another key", options{Key: "CUSTOM_KEY"}, "", individual + "CUSTOM_KEY" + dockerCombined},
		{"another key, combined", options{Combined: true, Key: "CUSTOM_KEY"}, "", "CUSTOM_KEY" + dockerCombined},
		{"another key, individual", options{Individual: true, Key: "CUSTOM_KEY"}, "", individual},
		{"no --ip-masq", options{NoIPMasq: true}, "", dockerBIP + dockerMTU + `DOCKER_OPTS=" --bip=10.1.74.1/24 --mtu=1472"` + "\n"},
		{"no --ip-masq, individual", options{NoIPMasq: true, Individual: true}, "", dockerBIP + dockerMTU},
		{"no --ip-masq, combined, another key", options{NoIPMasq: true, Combined: true, Key: "K"}, "", `K=" --bip=10.1.74.1/24 --mtu=1472"` + "\n"},
		{
			"flannel masquerades", options{}, goldenEnvDual,
			"DOCKER_OPT_BIP=\"--bip=10.5.72.1/24\"\nDOCKER_OPT_IPMASQ=\"--ip-masq=false\"\nDOCKER_OPT_MTU=\"--mtu=1450\"\n" +
				"DOCKER_OPTS=\" --bip=10.5.72.1/24 --ip-masq=false --mtu=1450\"\n",
		},
		{"IPv6 alone has no bridge for Docker", options{Combined: true}, goldenEnvV6, "DOCKER_OPTS=\" --ip-masq=true --mtu=1430\"\n"},
		{"a bridge that is not the first address", options{Combined: true}, "FLANNEL_SUBNET=10.1.74.5/24\n", "DOCKER_OPTS=\" --bip=10.1.74.5/24\"\n"},
		{"an empty file", options{}, "#\n", "DOCKER_OPTS=\"\"\n"},
		{"nobody asks for a broken --ip-masq", options{NoIPMasq: true, Combined: true}, "FLANNEL_IPMASQ=maybe\n", "DOCKER_OPTS=\"\"\n"},
		{
			"options of the environment", options{Env: []string{"DOCKER_OPTS=-D", "DOCKER_OPT_MTU=--mtu=9", "DOCKER_OPT_ICC=x", "DOCKER_OPT_ICC=--icc=false", "PATH=/bin"}}, "",
			dockerBIP + "DOCKER_OPT_ICC=\"--icc=false\"\n" + dockerIPMasq + dockerMTU +
				"DOCKER_OPTS=\"-D  --bip=10.1.74.1/24 --icc=false --ip-masq=true --mtu=1472\"\n",
		},
		{"options of the environment under another key", options{Combined: true, Key: "K", Env: []string{"DOCKER_OPTS=-D"}}, "", "K" + dockerCombined},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if tt.env == "" {
				tt.env = dockerEnv
			}
			got, _, err := tt.o.Text([]byte(tt.env))
			if err != nil {
				t.Fatal(err)
			}
			if got != tt.want {
				t.Errorf("got\n%swant\n%s", got, tt.want)
			}
		})
	}
}

// The script is a shell's, and runs what it reads.
func TestDockerOptionsRefuse(t *testing.T) {
	tests := []struct {
		name, env string
		inherited string
		want      string
	}{
		{"a subnet that is a command", "FLANNEL_SUBNET=$(reboot)\n", "", `FLANNEL_SUBNET is "$(reboot)", which is no network`},
		{"an MTU with another option behind it", "FLANNEL_MTU=1450 --insecure-registry=x\n", "", `FLANNEL_MTU is "1450 --insecure-registry=x", which is no MTU`},
		{"ip-masq in capitals", dockerEnv + "FLANNEL_IPMASQ=TRUE\n", "", `FLANNEL_IPMASQ is "TRUE", neither true nor false`},
		{"two faults", "FLANNEL_SUBNET=x\nFLANNEL_IPMASQ=y\n", "", `FLANNEL_SUBNET is "x", which is no network; FLANNEL_IPMASQ is "y", neither true nor false`},
		{"megabytes", strings.Repeat("#", 1<<20), "", "the file is larger than 65536 bytes"},
		{"a quotation mark in the environment", dockerEnv, `DOCKER_OPTS=--label="a"`, "DOCKER_OPTS, in the environment, has a quotation mark or a control character"},
		{"a line break in the environment", dockerEnv, "DOCKER_OPT_X=a\nb", "DOCKER_OPT_X, in the environment, has a quotation mark or a control character"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, _, err := DockerOptions{Env: []string{tt.inherited}}.Text([]byte(tt.env))
			if err == nil || err.Error() != tt.want || got != "" {
				t.Errorf("got %q and error %v, want error %q", got, err, tt.want)
			}
		})
	}
}

func TestDockerOptionsFile(t *testing.T) {
	if runtime.GOOS == "windows" {
		t.Skip("Windows has no mode bits to look at")
	}
	dir := t.TempDir()
	from, to := filepath.Join(dir, "subnet.env"), filepath.Join(dir, "docker", "opts.env")
	if _, _, err := (DockerOptions{}).ReadFile(from); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("got error %v, want fs.ErrNotExist", err)
	}
	if err := os.WriteFile(from, []byte(dockerEnv), 0o600); err != nil {
		t.Fatal(err)
	}
	text, e, err := DockerOptions{Combined: true}.ReadFile(from)
	if err != nil || e.Subnet != pfx("10.1.74.0/24") {
		t.Fatalf("got subnet %v and error %v", e.Subnet, err)
	}
	if err := WriteDockerOptions(to, text); err != nil {
		t.Fatal(err)
	}
	assertMode(t, to, 0o644)
	if b, err := os.ReadFile(to); err != nil || string(b) != "DOCKER_OPTS"+dockerCombined {
		t.Errorf("got %q and error %v", b, err)
	}
	if err := WriteDockerOptions(dir, text); err == nil || !strings.Contains(err.Error(), "no regular file") {
		t.Errorf("got error %v, want a directory to be left alone", err)
	}
}

func FuzzDockerOptions(f *testing.F) {
	for _, s := range []string{dockerEnv, goldenEnv, goldenEnvDual, goldenEnvV6, "FLANNEL_SUBNET=10.5.1.1/24,\nFLANNEL_MTU=00\nFLANNEL_IPMASQ='true'"} {
		f.Add([]byte(s))
	}
	f.Fuzz(func(t *testing.T, b []byte) {
		got, _, err := DockerOptions{}.Text(b)
		if (err == nil) != (got != "") {
			t.Fatalf("got %q and error %v", got, err)
		}
		for line := range strings.Lines(got) {
			// One assignment, and nothing that a shell would run.
			name, value, ok := strings.Cut(strings.TrimSuffix(line, "\n"), "=")
			if !ok || !strings.HasPrefix(name, "DOCKER_OPT") || strings.Count(value, `"`) != 2 || strings.ContainsAny(value, "$`\\;'") {
				t.Errorf("got line %q", line)
			}
		}
	})
}
