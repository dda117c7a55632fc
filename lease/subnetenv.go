// SPDX-License-Identifier: Apache-2.0

package lease

import (
	"bufio"
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"path/filepath"
	"strconv"
	"strings"
)

// SubnetEnv is the contents of subnet.env, the file that tells the container
// runtime and the CNI plugin what this host leased.
type SubnetEnv struct {
	Network netip.Prefix // FLANNEL_NETWORK; zero: the two IPv4 lines are left out
	// Subnet is the leased subnet, masked. The file has its first host address
	// instead, 10.5.72.1/24, which is the bridge's.
	Subnet      netip.Prefix
	IPv6Network netip.Prefix // zero: the two IPv6 lines are left out
	IPv6Subnet  netip.Prefix
	MTU         int // of the overlay device, in bytes
	IPMasq      bool
}

// String returns the file's contents, as flannel writes them to the byte
// (WriteSubnetFile in pkg/subnet/subnet.go).
func (e SubnetEnv) String() string {
	var b strings.Builder
	if e.Network.IsValid() {
		fmt.Fprintf(&b, "FLANNEL_NETWORK=%v\n", e.Network)
		fmt.Fprintf(&b, "FLANNEL_SUBNET=%v\n", firstHost(e.Subnet))
	}
	if e.IPv6Network.IsValid() {
		fmt.Fprintf(&b, "FLANNEL_IPV6_NETWORK=%v\n", e.IPv6Network)
		fmt.Fprintf(&b, "FLANNEL_IPV6_SUBNET=%v\n", firstHost(e.IPv6Subnet))
	}
	fmt.Fprintf(&b, "FLANNEL_MTU=%d\n", e.MTU)
	fmt.Fprintf(&b, "FLANNEL_IPMASQ=%t\n", e.IPMasq)
	return b.String()
}

func firstHost(p netip.Prefix) netip.Prefix {
	return netip.PrefixFrom(p.Addr().Next(), p.Bits())
}

// WriteFile writes the file at path: atomically where the platform can, so
// that a container runtime never reads half of it, mode 0644 whatever the
// umask, its directory made with mode 0755 if it is not there. A symbolic link
// to a file is followed and stays. What is no regular file is left alone and an
// error: a rename would put one in the place of /dev/null.
func (e SubnetEnv) WriteFile(path string) error {
	if err := writeWhole(path, e.String()); err != nil {
		return fmt.Errorf("write subnet file: %w", err)
	}
	return nil
}

// writeWhole does what SubnetEnv.WriteFile says.
func writeWhole(path, text string) error {
	path, err := followFile(path)
	if err != nil && !errors.Is(err, os.ErrNotExist) {
		return err
	}
	dir := filepath.Dir(path)
	if _, err := os.Stat(dir); errors.Is(err, os.ErrNotExist) {
		if err := os.MkdirAll(dir, 0o755); err != nil {
			return err
		}
		// A hardened unit's umask of 0077 would shut the runtime out.
		if err := os.Chmod(dir, 0o755); err != nil {
			return err
		}
	}
	return replaceFile(path, []byte(text))
}

// followFile returns the path of the regular file that path names or links to.
// If there is nothing at path it returns path and an error that matches
// fs.ErrNotExist; a link that leads nowhere is another error.
func followFile(path string) (string, error) {
	fi, err := os.Lstat(path)
	if err != nil {
		return path, err
	}
	target := path
	if fi.Mode()&os.ModeSymlink != 0 {
		if target, err = filepath.EvalSymlinks(path); err != nil {
			// Not wrapped: this is not the fs.ErrNotExist of a first start.
			return path, fmt.Errorf("%s is a symbolic link that cannot be followed: %s", path, err.Error())
		}
		if fi, err = os.Lstat(target); err != nil {
			return path, err
		}
	}
	return target, checkRegular(path, fi)
}

func checkRegular(path string, fi os.FileInfo) error {
	if !fi.Mode().IsRegular() {
		return fmt.Errorf("%s is no regular file (mode %v)", path, fi.Mode())
	}
	return nil
}

// maxSubnetEnv is far more than flannel ever writes.
const maxSubnetEnv = 64 << 10

// ReadSubnetEnv reads the file at path. Fields that do not parse are zero, and
// named in the error: what can be read is returned beside it.
func ReadSubnetEnv(path string) (SubnetEnv, error) {
	b, err := readRegular(path)
	if err != nil {
		return SubnetEnv{}, fmt.Errorf("read subnet file: %w", err)
	}
	e, err := ParseSubnetEnv(b)
	if err != nil {
		return e, fmt.Errorf("read subnet file %s: %w", path, err)
	}
	return e, nil
}

// readRegular reads a little more than maxSubnetEnv of the file at path. Opening
// a FIFO waits for a writer, and opening a device may do anything, so both are
// refused before; and once more after, for what was put there in between.
func readRegular(path string) ([]byte, error) {
	target, err := followFile(path)
	if err != nil {
		return nil, err
	}
	f, err := os.OpenFile(target, readFlags, 0)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	fi, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if err := checkRegular(path, fi); err != nil {
		return nil, err
	}
	return io.ReadAll(io.LimitReader(f, maxSubnetEnv+1))
}

// ParseSubnetEnv reads the contents of a subnet.env. It takes what a shell
// would, as far as such files go: comments, blank lines, "export", quotes,
// spaces around the equals sign; the last of several lines counts.
func ParseSubnetEnv(b []byte) (SubnetEnv, error) {
	r, err := readVars(b)
	if err != nil {
		return SubnetEnv{}, err
	}
	e := r.subnetEnv()
	return e, r.faults.err()
}

// envReader turns variables into checked values.
type envReader struct {
	vars   map[string]string
	faults faults
}

func readVars(b []byte) (*envReader, error) {
	if len(b) > maxSubnetEnv {
		return nil, fmt.Errorf("the file is larger than %d bytes", maxSubnetEnv)
	}
	vars := make(map[string]string)
	lines := bufio.NewScanner(bytes.NewReader(b))
	lines.Buffer(nil, maxSubnetEnv+1)
	for lines.Scan() {
		if key, value, ok := parseLine(lines.Text()); ok {
			vars[key] = value
		}
	}
	return &envReader{vars: vars}, nil
}

func (r *envReader) subnetEnv() SubnetEnv {
	return SubnetEnv{
		Network:     r.network("FLANNEL_NETWORK", true),
		Subnet:      r.network("FLANNEL_SUBNET", true),
		IPv6Network: r.network("FLANNEL_IPV6_NETWORK", false),
		IPv6Subnet:  r.network("FLANNEL_IPV6_SUBNET", false),
		MTU:         r.mtu("FLANNEL_MTU"),
		// The CNI plugin compares with "true" to the letter.
		IPMasq: r.vars["FLANNEL_IPMASQ"] == "true",
	}
}

// parseLine reads one line of shell assignments.
func parseLine(s string) (key, value string, ok bool) {
	s = strings.TrimSpace(s)
	if after, found := strings.CutPrefix(s, "export "); found {
		s = after
	}
	key, value, ok = strings.Cut(s, "=")
	key, value = strings.TrimSpace(key), strings.TrimSpace(value)
	if !ok || key == "" || key[0] == '#' {
		return "", "", false
	}
	if n := len(value); n >= 2 && (value[0] == '"' || value[0] == '\'') && value[n-1] == value[0] {
		return key, value[1 : n-1], true
	}
	value, _, _ = strings.Cut(value, " #")
	return key, strings.TrimSpace(value), true
}

// network reads the network called key and masks it.
func (r *envReader) network(key string, v4 bool) netip.Prefix {
	return r.address(key, v4).Masked()
}

// address reads an address with the length of its network. Newer flannels put
// several in one line, with commas; the first of the right family counts.
func (r *envReader) address(key string, v4 bool) netip.Prefix {
	s, ok := r.vars[key]
	if !ok {
		return netip.Prefix{}
	}
	for one := range strings.SplitSeq(s, ",") {
		p, err := netip.ParsePrefix(strings.TrimSpace(one))
		if err == nil && p.Addr().Is4() == v4 && !p.Addr().Is4In6() {
			return p
		}
	}
	r.faults = append(r.faults, fmt.Errorf("%s is %q, which is no network", key, clip(s)))
	return netip.Prefix{}
}

func (r *envReader) mtu(key string) int {
	s, ok := r.vars[key]
	if !ok {
		return 0
	}
	n, err := strconv.ParseUint(s, 10, 16)
	if err != nil {
		r.faults = append(r.faults, fmt.Errorf("%s is %q, which is no MTU", key, clip(s)))
		return 0
	}
	return int(n)
}
