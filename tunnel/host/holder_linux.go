// SPDX-License-Identifier: Apache-2.0

package host

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/netip"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

// DeviceHolder finds the process that holds the TAP device name, and returns it as
// "name (pid 42)". Such a
// process has the name in the fdinfo of its descriptor (tun_chr_show_fdinfo,
// since Linux 3.18). Only processes of this network namespace are looked at:
// others have devices of the same name.
func DeviceHolder(name string) (process string, ok bool) {
	here, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return "", false
	}
	want := []byte("iff:\t" + name + "\n")
	return findProcess(func(pid, fd string) bool {
		link, err := os.Readlink(filepath.Join("/proc", pid, "fd", fd))
		if err != nil || link != tunPath {
			return false
		}
		if there, err := os.Readlink(filepath.Join("/proc", pid, "ns/net")); err != nil || there != here {
			return false
		}
		info, err := os.ReadFile(filepath.Join("/proc", pid, "fdinfo", fd))
		return err == nil && bytes.Contains(info, want)
	})
}

// portHolder finds the process whose UDP socket is in the way of addr.
func portHolder(addr netip.AddrPort) (string, bool) {
	var inodes []string
	for _, file := range []string{"udp", "udp6"} {
		// Not /proc/net, which shows the namespace of the process's first
		// thread, not of this one.
		f, err := os.Open(filepath.Join("/proc/thread-self/net", file))
		if err != nil {
			continue
		}
		for _, s := range parseSockets(f) {
			if s.inTheWayOf(addr, file == "udp6") {
				inodes = append(inodes, fmt.Sprintf("socket:[%d]", s.inode))
			}
		}
		f.Close()
	}
	if len(inodes) == 0 {
		return "", false
	}
	return findProcess(func(pid, fd string) bool {
		link, err := os.Readlink(filepath.Join("/proc", pid, "fd", fd))
		return err == nil && slices.Contains(inodes, link)
	})
}

// findProcess returns the first process with a descriptor for which is reports
// true, as "name (pid 42)". Processes that end meanwhile, or that may not be
// looked at, are passed over.
func findProcess(is func(pid, fd string) bool) (string, bool) {
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return "", false
	}
	for _, p := range processes {
		if _, err := strconv.Atoi(p.Name()); err != nil {
			continue
		}
		fds, err := os.ReadDir(filepath.Join("/proc", p.Name(), "fd"))
		if err != nil {
			continue
		}
		for _, fd := range fds {
			if is(p.Name(), fd.Name()) {
				return describe(p.Name()), true
			}
		}
	}
	return "", false
}

// ProcessNamed finds another process of this network namespace by the name of
// its program, and returns it as "name (pid 42)". A process that may not be looked
// into, as where systemd leaves us few rights, counts as one of this namespace:
// its name is there for everybody, its namespaces are not (proc(5)).
func ProcessNamed(name string) (process string, ok bool) {
	return processWhere(func(comm string) bool { return comm == name })
}

// Flanneld is ProcessNamed for a flanneld, whatever comes behind: flannel's
// releases are called flanneld-amd64, people put the version there, and the kernel
// cuts a name after 15 bytes (TASK_COMM_LEN). A flannel inside another program, as
// in k3s, is not found.
func Flanneld() (process string, ok bool) {
	return processWhere(func(comm string) bool { return strings.HasPrefix(comm, "flanneld") })
}

// processWhere is ProcessNamed for names that is reports true for.
func processWhere(is func(comm string) bool) (process string, ok bool) {
	here, err := os.Readlink("/proc/thread-self/ns/net")
	if err != nil {
		return "", false
	}
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return "", false
	}
	for _, p := range processes {
		pid, err := strconv.Atoi(p.Name())
		if err != nil || pid == os.Getpid() {
			continue
		}
		if comm, err := os.ReadFile(filepath.Join("/proc", p.Name(), "comm")); err != nil || !is(strings.TrimSpace(string(comm))) {
			continue
		}
		there, err := os.Readlink(filepath.Join("/proc", p.Name(), "ns/net"))
		if there == here || errors.Is(err, fs.ErrPermission) {
			return describe(p.Name()), true
		}
	}
	return "", false
}

func describe(pid string) string {
	comm, err := os.ReadFile(filepath.Join("/proc", pid, "comm"))
	if err != nil {
		return "pid " + pid
	}
	// A process can give itself any name.
	name := strconv.QuoteToASCII(strings.TrimSpace(string(comm)))
	return fmt.Sprintf("%s (pid %s)", name[1:len(name)-1], pid)
}

// socket is one line of /proc/net/udp or udp6.
type socket struct {
	local netip.AddrPort
	inode uint64
}

// inTheWayOf reports whether s, which may be of IPv6, keeps another socket from
// being bound to addr. One of IPv6 that is bound to no address is in the way of
// IPv4 as well, unless it is for IPv6 alone, which its line does not say.
func (s socket) inTheWayOf(addr netip.AddrPort, six bool) bool {
	if s.local.Port() != addr.Port() {
		return false
	}
	a := s.local.Addr().Unmap()
	if addr.Addr().Is6() && (!six || a.Is4()) {
		return false
	}
	return a.IsUnspecified() || addr.Addr().IsUnspecified() || a == addr.Addr().WithZone("")
}

// parseSockets reads the table of /proc/net/udp or udp6 and leaves out what
// does not look like it should.
func parseSockets(r io.Reader) []socket {
	var all []socket
	lines := bufio.NewScanner(r)
	for lines.Scan() {
		// sl local_address rem_address st tx:rx tr:tm retrnsmt uid timeout inode ...
		fields := strings.Fields(lines.Text())
		if len(fields) < 10 {
			continue
		}
		local, ok := parseSocketAddr(fields[1])
		if !ok {
			continue
		}
		inode, err := strconv.ParseUint(fields[9], 10, 64)
		if err != nil {
			continue
		}
		all = append(all, socket{local: local, inode: inode})
	}
	return all
}

// parseSocketAddr reads "0100007F:1F90": the address as 32-bit words of the
// host's byte order, the port in hex.
func parseSocketAddr(s string) (netip.AddrPort, bool) {
	host, port, ok := strings.Cut(s, ":")
	if !ok {
		return netip.AddrPort{}, false
	}
	b, err := hex.DecodeString(host)
	if err != nil || (len(b) != 4 && len(b) != 16) {
		return netip.AddrPort{}, false
	}
	p, err := strconv.ParseUint(port, 16, 16)
	if err != nil {
		return netip.AddrPort{}, false
	}
	for w := range slices.Chunk(b, 4) {
		binary.BigEndian.PutUint32(w, binary.NativeEndian.Uint32(w))
	}
	addr, _ := netip.AddrFromSlice(b)
	return netip.AddrPortFrom(addr, uint16(p)), true
}
