// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"encoding/json"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"vxtap/lease/leasetest"
)

// writeConfig returns the path of a file with text.
func writeConfig(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "net.json")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

func TestConfigCheck(t *testing.T) {
	tests := []struct {
		name, config string
		status       int
		want         []string // lines, or parts of one
	}{
		{"defaults are filled in", netConfig, exitOK, []string{
			"Network                10.5.0.0/16\n", "SubnetLen              24                       (default)\n", "SubnetMin              10.5.1.0                 (default)\n",
			"Backend.Type           vxlan\n", "Backend.Port           8472                     (default)\n", "Backend.MTU            the outside interface's  (default)\n",
			"There is room for 255 hosts.\n",
		}},
		{"an unknown field is shown", `{"network": "10.5.0.0/16", "Foo": 1, "Backend": {"type": "vxlan"}}`, exitOK, []string{"note: network config: field \"Foo\" is unknown and ignored\n"}},
		{"no Backend, where flanneld runs udp", `{"Network": "10.5.0.0/16"}`, exitError, []string{"fault: network config: there is no Backend: flanneld would run its udp backend", "has a fault: no host would start with it\n"}},
		{"several faults, a line each", `{"Network": "10.5.0.0", "SubnetLen": "x", "Backend": {"Type": "udp"}, "Bar": 2}`, exitError, []string{
			"fault: network config: Network \"10.5.0.0\" is no network: put one as 10.5.0.0/16\n", "fault: network config: SubnetLen is \"x\": ", "fault: Backend: Type is \"udp\": ",
			"note: network config: field \"Bar\"", "has 3 faults",
		}},
		{"SubnetMin above SubnetMax, which flanneld starts with", `{"Network": "10.5.0.0/16", "SubnetMin": "10.5.9.0", "SubnetMax": "10.5.8.0", "Backend": {"Type": "vxlan"}}`, exitError, []string{"is above SubnetMax"}},
		{"escapes in a field's name", `{"Network": "10.5.0.0/16", "a\u001b[2J": 1, "Backend": {"Type": "vxlan"}}`, exitOK, []string{`field "a\x1b[2J" is unknown`}},
		{"nothing in it", "\n", exitError, []string{"it is empty"}},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			status, stdout, stderr := runVxtap(t, nil, "config", "check", writeConfig(t, tt.config))
			if status != tt.status || (stderr == "") != (status == exitOK) || strings.Count(stderr, "\n") > 1 {
				t.Errorf("got status %d and %q, want %d", status, stderr, tt.status)
			}
			for _, want := range tt.want {
				if !strings.Contains(stdout+stderr, want) {
					t.Errorf("got\n%s%s\nwant %q", stdout, stderr, want)
				}
			}
		})
	}
}

func TestConfigCheckReadsStandardInput(t *testing.T) {
	var out, errs bytes.Buffer
	app := newApp(nil, nil, &out, &errs)
	app.Reader = strings.NewReader(netConfig)
	if err := app.RunContext(t.Context(), []string{"vxtap", "config", "check", "-"}); err != nil || !strings.Contains(out.String(), "10.5.255.0") {
		t.Errorf("got %v and %q", err, out.String())
	}
	app.Reader = strings.NewReader("{}")
	if err := app.RunContext(t.Context(), []string{"vxtap", "config", "check", "-"}); err == nil || !strings.Contains(err.Error(), "the config on standard input has") {
		t.Errorf("got %v, want it to name standard input", err)
	}
}

func TestConfigCheckRefusesAFileThatIsNone(t *testing.T) {
	tests := []struct{ name, path, want string }{
		{"it is not there", "/nowhere/net.json", "vxtap: read network config: open /nowhere/net.json: no such file or directory\n"},
		{"it is a directory", t.TempDir(), "is a directory\n"},
		{"it does not end", "/dev/zero", "is longer than 65536 bytes, which no network config is\n"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if status, _, stderr := runVxtap(t, nil, "config", "check", tt.path); status != exitError || !strings.HasSuffix(stderr, tt.want) {
				t.Errorf("got status %d and %q, want %q", status, stderr, tt.want)
			}
		})
	}
}

func TestConfigGet(t *testing.T) {
	n := newTestNetwork(t, "")
	n.run("config get", exitError, "there is no network config: /kubernetes/network/config does not exist")
	n.put("config", `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "MTU": 1400}}`)
	n.run("config get", exitOK, "/kubernetes/network/config, revision ", `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "MTU": 1400}}`, "Backend.MTU            1400\n")

	n.put("config", "{\"Network\": \"10.5.0.0\",\n \"evil\u009b2J\": 1}")
	n.run("config get", exitError, "\n   \"evil?2J\": 1}\n", "fault: network config: Network \"10.5.0.0\" is no network", "has 2 faults: no host would start with it")
	var got StoredConfigStatus
	if err := json.Unmarshal([]byte(n.run("config get -o json", exitError)), &got); err != nil {
		t.Fatal(err)
	}
	if got.Key != testPrefix+"/config" || got.Value != n.value("config") || len(got.Faults) == 0 || len(got.Settings) != 0 {
		t.Errorf("got %+v", got)
	}
}

func TestConfigPut(t *testing.T) {
	n := newTestNetwork(t, "")
	first := writeConfig(t, netConfig+"\n")
	n.run("config put -dry-run "+first, exitOK, "There is no config yet", "Nothing is written, because of -dry-run.")
	if got := n.value("config"); got != "" {
		t.Errorf("-dry-run wrote %q", got)
	}
	n.run("config put "+first, exitOK, testPrefix+"/config is written, revision ")
	if got := n.value("config"); got != netConfig {
		t.Errorf("got %q, want %q", got, netConfig)
	}
	n.run("config put "+first, exitOK, "is this already, to the byte: nothing is written.")

	n.lease(1)
	n.put("subnets/10.5.77.0-24", leasetest.Value(t, 2))
	n.run("config put "+writeConfig(t, `{"Network": "10.5.0.0/16", "Backend": {"Type": "vxlan", "MTU": 1400, "VNI": 7}}`)+" -dry-run", exitOK,
		"Backend.VNI  1", "do not reach each other", "Backend.MTU  the outside interface's  1400", "hosts of vxtap follow at once; flanneld when restarted", "What vxtap follows at once interrupts nothing", "All keep their subnets: 2 hosts.")
	n.run("config put -dry-run "+writeConfig(t, `{"Network": "10.5.0.0/16", "SubnetMin": "10.5.70.0", "SubnetMax": "10.5.70.0", "Backend": {"Type": "vxlan"}}`), exitOK,
		"2 of 2 hosts must take another subnet", "10.5.1.0/24              192.168.0.1  it is not between SubnetMin 10.5.70.0 and SubnetMax 10.5.70.0", "10.5.77.0/24 (reserved)  192.168.0.2",
		"There is room for 1 host only, and 2 have a lease")

	n.run("config put "+writeConfig(t, `{"Network": "10.5.0.0/16"}`), exitError, "there is no Backend", "no host would start with it")
	if got := n.value("config"); got != netConfig {
		t.Errorf("a config that no host starts with was written: %q", got)
	}
	n.put("config", `{"Network": 1}`)
	n.run("config put "+first, exitOK, "The config in etcd now is one that no host starts with", "is written")
}

// A host keeps its IPv4 subnet when IPv6 goes, and so do its containers.
func TestConfigPutWithoutIPv6(t *testing.T) {
	n := newTestNetwork(t, `{"Network": "10.5.0.0/16", "EnableIPv6": true, "IPv6Network": "fd00:5::/48", "Backend": {"Type": "vxlan"}}`)
	n.put("subnets/10.5.7.0-24&fd00:5:0:7::-64", `{"PublicIP":"192.168.0.7","PublicIPv6":"fd77::7","BackendType":"vxlan","BackendData":{"VNI":1,"VtepMAC":"02:00:00:00:00:07"},"BackendV6Data":{"VNI":1,"VtepMAC":"02:00:00:00:00:08"}}`)
	got := n.run("config put -dry-run "+writeConfig(t, netConfig), exitOK,
		"1 of 1 host must give up the IPv6 subnet when restarted; the IPv4 one stays:", "10.5.7.0/24,fd00:5:0:7::/64 (reserved)  192.168.0.7  it has an IPv6 half")
	for _, wrong := range []string{"must take another subnet", "do not reach each other", "All keep"} {
		if strings.Contains(got, wrong) {
			t.Errorf("got\n%s\nwant it not to say %q", got, wrong)
		}
	}
}

// Between reading and writing somebody may be faster, and between the
// operator's reading and writing too.
func TestConfigPutOverwritesNobody(t *testing.T) {
	n := newTestNetwork(t, netConfig)
	path := writeConfig(t, `{"Network": "10.6.0.0/16", "Backend": {"Type": "vxlan"}}`)
	n.run("config put -if-revision=1 "+path, exitError, "somebody has changed it, and nothing was written")
	if got := n.value("config"); got != netConfig {
		t.Errorf("got %q", got)
	}
	p, _ := leasetest.Get(t, n.store, "config")
	n.run("config put "+path+" -if-revision "+strconv.FormatInt(p.Revision, 10), exitOK, "is written")
}

func FuzzEscapeJSON(f *testing.F) {
	f.Add("plain \x1b[2J \u009b \u202e \U000e0001 \xff")
	f.Fuzz(func(t *testing.T, s string) {
		var b bytes.Buffer
		if err := writeSafeJSON(&b, map[string]string{"s": s}); err != nil {
			t.Fatal(err)
		}
		for line := range strings.Lines(b.String()) {
			if l := strings.TrimSuffix(line, "\n"); printable(l) != l {
				t.Errorf("got %q", l)
			}
		}
		var back map[string]string
		if err := json.Unmarshal(b.Bytes(), &back); err != nil || back["s"] != strings.ToValidUTF8(s, "\ufffd") && back["s"] != replaceInvalid(s) {
			t.Errorf("got %q, %v, want %q", back["s"], err, s)
		}
	})
}

// replaceInvalid does as encoding/json does: one U+FFFD for each bad byte.
func replaceInvalid(s string) string { return string([]rune(s)) }
