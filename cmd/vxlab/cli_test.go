// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"errors"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"vxtap/cmd/vxlab/lab"
)

func TestAWrongCommandLineIsOneLineAndStatus2(t *testing.T) {
	for _, tt := range []struct{ name, args, want string }{
		{"unknown command", "fly", `unknown command "fly": there are demo, up, ls, exec, start, down, version`},
		{"unknown flag", "-x", "unknown flag -x: vxlab -help lists the flags"},
		{"a flag in the wrong place", "-name x ls", "-name belongs behind the command, as in vxlab demo -name=VALUE"},
		{"another flag in the wrong place", "--size=3 demo", "-size belongs behind the command, as in vxlab demo -size=VALUE"},
		{"a name that is none, ls", "ls -name a/b", `"a/b" cannot be the name of a lab`},
		{"start without a node", "start", "no node is given: write vxlab start NODE, as in vxlab start h1"},
		{"start of no node", "start x", `"x" is no node`},
		{"start of a container", "start c3", "c3 is a container, in which no daemon runs: vxlab start h3 starts"},
		{"start with a command", "start h1 vxtap", `unexpected argument "vxtap": vxlab start takes one node`},
		{"start with an unknown flag", "start -f h1", "unknown flag -f: write vxlab start NODE, as in vxlab start h1"},
		{"unknown flag of a command", "demo -x", "unknown flag -x: vxlab demo -help lists the flags"},
		{"a flag without its value", "up -n", "-n needs a value: write -n=VALUE"},
		{"a number that is none", "up -n many", `invalid value "many" for flag -n`},
		{"no hosts", "up -n 0", "-n: 0 is not a positive number"},
		{"a demo without a pair", "demo -n 1", "-n: the demo needs two hosts"},
		{"too many hosts", "up -n 245", "245 hosts: the underlay 192.168.77.0/24 has room for 1 to 244"},
		{"no MTU", "up -mtu 0", "-mtu: 0 is not a positive number"},
		{"an MTU that is too small", "demo -mtu 575", "underlay MTU 575 is not within 576 and 65535"},
		{"a subnet that is no subnet", "up -subnet-len 31", "subnet length 31"},
		{"a network that is none", "up -network 10.0.0.0", `-network: "10.0.0.0" is not a network`},
		{"an underlay that is none", "up -underlay x", `-underlay: "x" is not a network`},
		{"networks that overlap", "up -network 192.168.0.0/16", "overlap"},
		{"a VNI of 25 bits", "up -vni 16777216", "-vni: 16777216 does not fit 24 bits"},
		{"a port of 17 bits", "up -port 65536", "-port: 65536 is no UDP port"},
		{"nothing to send", "demo -size 0", "-size: 0 MB is not between"},
		{"a name that is none", "up -name a/b", `"a/b" cannot be the name of a lab`},
		{"a name that is none, down", "down -name ..", `".." cannot be the name of a lab`},
		{"a name in the wrong place", "up mine", `unexpected argument "mine": vxlab up takes flags only, as -name=mine`},
		{"an argument too many", "ls all", `unexpected argument "all": vxlab ls takes flags only`},
		{"one and all", "down -all -name x", "-name and -all exclude each other"},
		{"a format that is none", "ls -o yaml", `-o: "yaml" is not one of table, json`},
		{"exec without a node", "exec", "no node is given"},
		{"exec without a node, but a command", "exec -- ls", "unknown flag --"},
		{"exec in no node", "exec h0 -- ls", `"h0" is no node`},
		{"exec with a flag of the command", "exec h1 -l", "unknown flag -l"},
		{"exec with half a flag", "exec -name", "-name needs a value"},
		{"the server without flags", "etcd-server", "-client: "},
	} {
		t.Run(tt.name, func(t *testing.T) {
			var stdout, stderr bytes.Buffer
			code := run(t.Context(), append([]string{"vxlab"}, strings.Fields(tt.args)...), nil, &stdout, &stderr)
			got := stderr.String()
			if code != exitUsage || !strings.HasPrefix(got, "vxlab: ") || !strings.Contains(got, tt.want) || strings.Count(got, "\n") != 1 {
				t.Errorf("got status %d, stderr %q, want %q", code, got, tt.want)
			}
			if stdout.Len() > 0 {
				t.Errorf("stdout: got %q, want nothing", stdout.String())
			}
		})
	}
}

func TestHelpAndVersion(t *testing.T) {
	for args, want := range map[string]string{
		"": "COMMANDS:", "-h": "COMMANDS:", "--help": "COMMANDS:", "help": "COMMANDS:", "demo -h": "--size MB",
		"up --help": "--vxtap-arg", "exec -h": "NODE [-- COMMAND", "exec h1 -help": "NODE [-- COMMAND", "version": "vxlab ",
	} {
		var stdout, stderr bytes.Buffer
		code := run(t.Context(), append([]string{"vxlab"}, strings.Fields(args)...), nil, &stdout, &stderr)
		if code != exitOK || !strings.Contains(stdout.String(), want) || stderr.Len() > 0 {
			t.Errorf("vxlab %s: got status %d, stdout %q, stderr %q", args, code, stdout.String(), stderr.String())
		}
		if strings.Contains(stdout.String(), lab.EtcdCommand) {
			t.Errorf("vxlab %s shows the hidden command", args)
		}
	}
}

func TestParseNode(t *testing.T) {
	for _, tt := range []struct {
		args string
		want nodeArgs
	}{
		{"h1", nodeArgs{node: "h1"}},
		{"h1 --", nodeArgs{node: "h1", argv: []string{}}},
		{"h1 -- ls -l --", nodeArgs{node: "h1", argv: []string{"ls", "-l", "--"}}},
		{"h1 ls -l", nodeArgs{node: "h1", argv: []string{"ls", "-l"}}},
		{"-name=b c2 -- -name x", nodeArgs{name: "b", node: "c2", argv: []string{"-name", "x"}}},
		{"--name b c2 true", nodeArgs{name: "b", node: "c2", argv: []string{"true"}}},
		{"net -name b -- true", nodeArgs{name: "b", node: "net", argv: []string{"true"}}},
		{"h1 -h", nodeArgs{node: "h1", help: true}},
	} {
		t.Run(tt.args, func(t *testing.T) {
			got, err := parseNode("exec", strings.Fields(tt.args))
			if err != nil {
				t.Fatal(err)
			}
			if diff := cmp.Diff(tt.want, got, cmp.AllowUnexported(nodeArgs{})); diff != "" {
				t.Error(diff)
			}
		})
	}
	if got := shell([]string{"X=1", "SHELL=/bin/zsh"}); got != "/bin/zsh" {
		t.Errorf("got %q", got)
	}
	if got := shell([]string{"SHELL="}); got != "/bin/sh" {
		t.Errorf("got %q", got)
	}
}

func TestOneLine(t *testing.T) {
	err := errors.Join(errors.New("one"), errors.New("two\r\n\x1b[31mthree"))
	if got, want := oneLine(err.Error()), "one; two; ?[31mthree"; got != want {
		t.Errorf("got %q, want %q", got, want)
	}
}
