// SPDX-License-Identifier: Apache-2.0

package main

import (
	"errors"
	"fmt"
	"regexp"
	"strings"

	"github.com/urfave/cli/v2"

	"vxtap/lease"
	"vxtap/tunnel/host"
)

const dockerOptsHelp = `vxtap docker-opts makes of the subnet file the options that the Docker daemon is
started with, as flannel's mk-docker-opts.sh does: the address of its bridge, its
MTU, and whether it masquerades. Options that stand in the environment, in
DOCKER_OPT_* or in the combined variable, are kept.

  vxtap docker-opts
  vxtap docker-opts -k DOCKER_NETWORK_OPTIONS -d /run/flannel/docker

It ends with status 1 if something is wrong with the subnet file, and, when its
own file is written, if a route leads this host's subnet to some gateway.
`

// dockerOptsFlags are the script's, with its defaults.
func dockerOptsFlags() []cli.Flag {
	return []cli.Flag{
		textFlag("f", defaultSubnetFile, "`FILE` to read: the daemon's -subnet-file"),
		textFlag("d", "/run/docker_opts.env", "`FILE` to write"),
		boolFlag("i", false, "write each option as a variable of its own, as DOCKER_OPT_MTU"),
		boolFlag("c", false, "write all options as one variable; without -i and -c, both"),
		textFlag("k", "DOCKER_OPTS", "`NAME` of that one variable"),
		boolFlag("m", false, "leave --ip-masq out, which old Dockers do not know"),
	}
}

// dockerOptsCommand is vxtap docker-opts.
func dockerOptsCommand(c *cli.Context, env []string) error {
	if err := errors.Join(flagsBefore(c), noArguments(c)); err != nil {
		return err
	}
	key := c.String("k")
	if !regexp.MustCompile(`^[A-Za-z_][A-Za-z0-9_]*$`).MatchString(key) {
		return usagef("-k: %q is no name of a variable, as DOCKER_OPTS", key)
	}
	from := c.String("f")
	if _, v := fromEnvironment(env, "subnet-file"); v != "" && !c.IsSet("f") {
		from = v
	}
	o := lease.DockerOptions{Individual: c.Bool("i"), Combined: c.Bool("c"), Key: key, NoIPMasq: c.Bool("m"), Env: env}
	text, subnet, err := o.ReadFile(from)
	if err != nil {
		return err
	}
	if err := lease.WriteDockerOptions(c.String("d"), text); err != nil {
		return err
	}
	if !subnet.Subnet.IsValid() {
		return nil
	}
	if err := host.CheckSubnetRoute(subnet.Subnet); err != nil {
		return fmt.Errorf("%s is written, but %w", c.String("d"), err)
	}
	return nil
}

// splitLetters writes the arguments of vxtap docker-opts as package flag has
// them: the script's users may join letters, as -ic, and a letter with its
// value, as -kNAME (getopts, POSIX 2024).
func splitLetters(args []string) []string {
	if len(args) < 2 || args[1] != "docker-opts" {
		return args
	}
	var all []string
	for i, value := 0, false; i < len(args); i++ {
		if i < 2 || value {
			all, value = append(all, args[i]), false
			continue
		}
		letters := splitArgument(args[i])
		last := letters[len(letters)-1]
		all, value = append(all, letters...), last == "-f" || last == "-d" || last == "-k"
	}
	return all
}

// splitArgument returns arg alone unless all of its letters are known.
func splitArgument(arg string) []string {
	letters, ok := strings.CutPrefix(arg, "-")
	var all []string
	for i, letter := range letters {
		switch {
		case strings.ContainsRune("icm", letter):
			all = append(all, "-"+string(letter))
		case !strings.ContainsRune("fdk", letter) || !ok:
			return []string{arg}
		case i+1 == len(letters):
			return append(all, "-"+string(letter))
		case letters[i+1] == '=':
			return append(all, "-"+letters[i:])
		default:
			return append(all, "-"+string(letter)+"="+letters[i+1:])
		}
	}
	if len(all) == 0 || !ok {
		return []string{arg}
	}
	return all
}
