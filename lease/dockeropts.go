// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"errors"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"unicode"
)

// DockerOptions makes of a subnet.env the options that the Docker daemon is
// started with: what flannel's mk-docker-opts.sh does. The zero value is that
// script without options.
type DockerOptions struct {
	Individual bool   // write a variable for each option, as DOCKER_OPT_MTU
	Combined   bool   // write one with all of them; neither means both
	Key        string // name of that one, which the caller has checked; "": DOCKER_OPTS
	NoIPMasq   bool   // leave --ip-masq out
	// Env is the environment, as "NAME=value" entries. An option that stands in
	// it as DOCKER_OPT_* is written as well, ours before it, and what Key has
	// already comes first in the combined variable.
	Env []string
}

// optionName is what a variable with an option of Docker's is called.
var optionName = regexp.MustCompile(`^DOCKER_OPT_[A-Za-z0-9_]*$`)

// ReadFile reads the subnet.env at path, and returns what is in it beside the
// text that DockerOptions makes of it. Unlike the script it takes no subnet.env
// that is not there for an empty one, nor any other file for a subnet.env: Docker
// would start on a network of its own, and nobody would know why.
func (o DockerOptions) ReadFile(path string) (text string, e SubnetEnv, err error) {
	b, err := readRegular(path, maxSubnetEnv)
	if err != nil {
		return "", e, fmt.Errorf("read subnet file: %w", err)
	}
	text, e, err = o.Text(b)
	if err == nil && !e.Subnet.IsValid() && !e.IPv6Subnet.IsValid() {
		err = errNoSubnetEnv
	}
	if err != nil {
		return "", e, fmt.Errorf("read subnet file %s: %w", path, err)
	}
	return text, e, nil
}

// Every daemon that writes such a file writes a subnet into it.
var errNoSubnetEnv = errors.New("there is neither FLANNEL_SUBNET nor FLANNEL_IPV6_SUBNET in it: it is no subnet file")

// WriteDockerOptions writes text to path, as SubnetEnv.WriteFile does. What names an
// open file of ours, as /dev/stdout, gets it appended: to replace the file behind it
// would take away what the shell has opened.
func WriteDockerOptions(path, text string) error {
	write := writeWhole
	if namesDescriptor(path) {
		write = appendText
	}
	if err := write(path, text); err != nil {
		return fmt.Errorf("write Docker's options: %w", err)
	}
	return nil
}

// namesDescriptor reports whether path, or what it links to, is one of the open
// files of a process: /dev/stdout, /dev/fd/1, /proc/self/fd/1 (proc(5), proc_pid_fd).
func namesDescriptor(path string) bool {
	for range 8 { // links; the last one is the descriptor itself
		dir, err := filepath.EvalSymlinks(filepath.Dir(path))
		if err != nil {
			return false
		}
		if strings.HasPrefix(dir, "/proc/") && filepath.Base(dir) == "fd" {
			return true
		}
		to, err := os.Readlink(path)
		if err != nil {
			return false
		}
		if !filepath.IsAbs(to) {
			to = filepath.Join(dir, to)
		}
		path = to
	}
	return false
}

func appendText(path, text string) error {
	f, err := os.OpenFile(path, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(text)
	return errors.Join(err, f.Close())
}

// Text returns what the script writes for a subnet.env with these contents, to
// the byte (flannel, dist/mk-docker-opts.sh). The script runs its input as a
// shell does; here a value that is not what it should be is an error.
func (o DockerOptions) Text(subnetEnv []byte) (string, SubnetEnv, error) {
	r, err := readVars(subnetEnv)
	if err != nil {
		return "", SubnetEnv{}, err
	}
	e := r.subnetEnv()
	options := o.options(r, e)
	key := o.Key
	if key == "" {
		key = "DOCKER_OPTS"
	}
	combined := o.fromEnv(r, key)
	if err := r.faults.err(); err != nil {
		return "", e, err
	}
	if combined != "" {
		combined += " "
	}
	var b strings.Builder
	for _, name := range slices.Sorted(maps.Keys(options)) {
		if o.Individual || !o.Combined {
			fmt.Fprintf(&b, "%s=\"%s\"\n", name, options[name])
		}
		combined += " " + options[name]
	}
	if o.Combined || !o.Individual {
		fmt.Fprintf(&b, "%s=\"%s\"\n", key, combined)
	}
	return b.String(), e, nil
}

// options returns the variables with one option each. What r has is in e as far
// as it is sound.
func (o DockerOptions) options(r *envReader, e SubnetEnv) map[string]string {
	options := make(map[string]string)
	for _, entry := range o.Env {
		if name, _, _ := strings.Cut(entry, "="); optionName.MatchString(name) {
			options[name] = o.fromEnv(r, name)
		}
	}
	if e.Subnet.IsValid() { // masked, and the bridge's address need not be the first
		options["DOCKER_OPT_BIP"] = "--bip=" + r.address("FLANNEL_SUBNET", true).String()
	}
	if mtu := r.vars["FLANNEL_MTU"]; mtu != "" {
		options["DOCKER_OPT_MTU"] = "--mtu=" + mtu
	}
	if masq := r.vars["FLANNEL_IPMASQ"]; masq != "" && !o.NoIPMasq {
		if masq != "true" && masq != "false" {
			r.faults = append(r.faults, fmt.Errorf("FLANNEL_IPMASQ is %q, neither true nor false", clip(masq)))
		}
		// Who masquerades: flannel, or else Docker.
		options["DOCKER_OPT_IPMASQ"] = fmt.Sprintf("--ip-masq=%t", masq == "false")
	}
	return options
}

// fromEnv returns a variable of the environment: of several entries the last,
// as for os/exec. The script writes a quotation mark as it stands, and the file
// means something else then.
func (o DockerOptions) fromEnv(r *envReader, name string) string {
	for _, entry := range slices.Backward(o.Env) {
		value, ok := strings.CutPrefix(entry, name+"=")
		if !ok {
			continue
		}
		if strings.ContainsRune(value, '"') || strings.ContainsFunc(value, unicode.IsControl) {
			r.faults = append(r.faults, fmt.Errorf("%s, in the environment, has a quotation mark or a control character", name))
		}
		return value
	}
	return ""
}
