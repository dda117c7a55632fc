// SPDX-License-Identifier: Apache-2.0

package guide

import (
	"bufio"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"
)

// A machine of this test has no systemd and no SSH. What the guide wants of the
// two is little: units are read from where systemd reads them and their program
// is started as they say, and files go to another machine.

// hostsVariable names the file in which scp finds the other machines.
const hostsVariable = "GUIDE_HOSTS"

// standins are the programs whose place this one takes, by name.
func standins() map[string]func([]string) error {
	return map[string]func([]string) error{"systemctl": systemctl, "scp": scp}
}

// scp copies FILE to root@ADDRESS:PATH. A file that is there is written to, and
// keeps its owner and mode.
func scp(args []string) error {
	if len(args) != 2 {
		return errors.New("usage: scp FILE root@ADDRESS:PATH")
	}
	addr, path, ok := strings.Cut(strings.TrimPrefix(args[1], "root@"), ":")
	if !ok {
		return fmt.Errorf("%s is on no other machine", args[1])
	}
	hosts, err := os.ReadFile(os.Getenv(hostsVariable))
	if err != nil {
		return err
	}
	for line := range strings.Lines(string(hosts)) {
		fields := strings.Fields(line)
		if len(fields) != 2 || fields[0] != addr {
			continue
		}
		info, err := os.Stat(args[0])
		if err != nil {
			return err
		}
		text, err := os.ReadFile(args[0])
		if err != nil {
			return err
		}
		return os.WriteFile(filepath.Join("/proc", fields[1], "root", path), text, info.Mode().Perm())
	}
	return fmt.Errorf("no machine has the address %s", addr)
}

func logOf(service string) string { return "/run/" + service + ".log" }
func pidOf(service string) string { return "/run/" + service + ".pid" }

func systemctl(args []string) error {
	switch {
	case len(args) == 1 && args[0] == "daemon-reload", len(args) == 2 && args[0] == "enable":
		return nil // units are read anew each time, and there is no boot
	case len(args) == 2 && args[0] == "stop":
		return stop(args[1])
	case len(args) == 2 && args[0] == "start":
		if _, err := os.Stat(pidOf(args[1])); err == nil {
			return fmt.Errorf("%s runs already", args[1])
		}
		u, err := readUnit(args[1])
		if err != nil {
			return err
		}
		return u.start()
	}
	return fmt.Errorf("systemctl %q is not known here", args)
}

// unit is the part of a unit that counts here.
type unit struct {
	name, exec, user string
	env              []string
	dirs             []string
}

// readUnit reads a service and its drop-ins (systemd.unit(5)).
func readUnit(name string) (*unit, error) {
	u := &unit{name: name}
	file := "/etc/systemd/system/" + name + ".service"
	if _, err := os.Stat(file); err != nil {
		file = "/lib/systemd/system/" + name + ".service"
	}
	drops, err := filepath.Glob("/etc/systemd/system/" + name + ".service.d/*.conf")
	if err != nil {
		return nil, err
	}
	host, err := os.Hostname()
	if err != nil {
		return nil, err
	}
	specifiers := strings.NewReplacer("%H", host, "%p", name, "%%", "%")
	for _, f := range append([]string{file}, drops...) {
		text, err := os.ReadFile(f)
		if err != nil {
			return nil, err
		}
		for line := range strings.Lines(strings.ReplaceAll(string(text), "\\\n", " ")) {
			key, value, ok := strings.Cut(strings.TrimSpace(line), "=")
			if ok && !strings.HasPrefix(key, "#") {
				if err := u.set(key, specifiers.Replace(value)); err != nil {
					return nil, err
				}
			}
		}
	}
	return u, nil
}

func (u *unit) set(key, value string) error {
	switch key {
	case "ExecStart":
		u.exec = value
	case "User":
		u.user = value
	case "Environment":
		u.env = append(u.env, value)
	case "EnvironmentFile":
		text, err := os.ReadFile(strings.TrimPrefix(value, "-"))
		if errors.Is(err, os.ErrNotExist) {
			return nil
		}
		u.env = append(u.env, strings.Split(strings.TrimSpace(string(text)), "\n")...)
		return err
	case "RuntimeDirectory", "StateDirectory":
		for d := range strings.FieldsSeq(value) {
			u.dirs = append(u.dirs, map[string]string{"RuntimeDirectory": "/run/", "StateDirectory": "/var/lib/"}[key]+d)
		}
	}
	return nil
}

// start starts the program and returns when it says that it is ready.
func (u *unit) start() error {
	for _, d := range u.dirs {
		if err := os.MkdirAll(d, 0o755); err != nil {
			return err
		}
	}
	env := append([]string{"PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"}, u.env...)
	words := strings.Fields(os.Expand(u.exec, func(name string) (value string) {
		for _, kv := range u.env {
			if k, v, _ := strings.Cut(kv, "="); k == name {
				value = v
			}
		}
		return value
	}))
	if len(words) == 0 {
		return fmt.Errorf("%s has no ExecStart", u.name)
	}
	socket := "/run/" + u.name + ".notify"
	notify, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: socket, Net: "unixgram"})
	if err != nil {
		return err
	}
	defer func() {
		notify.Close()
		_ = os.Remove(socket) // for the next start
	}()
	log, err := os.Create(logOf(u.name))
	if err != nil {
		return err
	}
	defer log.Close()
	cmd := exec.Command(words[0], words[1:]...)
	cmd.Env, cmd.Dir = append(env, "NOTIFY_SOCKET="+socket), "/"
	cmd.Stdout, cmd.Stderr = log, log
	cmd.SysProcAttr = &syscall.SysProcAttr{Setsid: true}
	if u.user != "" {
		if cmd.SysProcAttr.Credential, err = credential(u.user); err != nil {
			return err
		}
	}
	if err := errors.Join(os.Chmod(socket, 0o777), cmd.Start()); err != nil {
		return err
	}
	if err := os.WriteFile(pidOf(u.name), []byte(strconv.Itoa(cmd.Process.Pid)), 0o600); err != nil {
		return err
	}
	ended := make(chan error, 1)
	go func() {
		ended <- cmd.Wait()
		notify.Close()
	}()
	return u.await(notify, ended)
}

// stop ends a service and returns when it is gone.
func stop(service string) error {
	text, err := os.ReadFile(pidOf(service))
	if err != nil {
		return err
	}
	pid, err := strconv.Atoi(string(text))
	if err != nil {
		return err
	}
	if err := syscall.Kill(pid, syscall.SIGTERM); err != nil {
		return err
	}
	for range 500 {
		// Nobody may be there to take the status of what has ended (Z).
		stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", pid))
		if err != nil || strings.Contains(string(stat), ") Z ") {
			return os.Remove(pidOf(service))
		}
		time.Sleep(10 * time.Millisecond)
	}
	return fmt.Errorf("%s does not end", service)
}

func (u *unit) await(notify *net.UnixConn, ended <-chan error) error {
	if err := notify.SetReadDeadline(time.Now().Add(50 * time.Second)); err != nil {
		return err
	}
	b := make([]byte, 4096)
	for {
		n, err := notify.Read(b)
		if err != nil {
			select {
			case end := <-ended:
				return fmt.Errorf("%s ended: %w: %s", u.name, end, lastLine(logOf(u.name)))
			default:
				return fmt.Errorf("%s does not get ready: %w: %s", u.name, err, lastLine(logOf(u.name)))
			}
		}
		for line := range strings.Lines(string(b[:n])) {
			if strings.TrimSpace(line) == "READY=1" {
				return nil
			}
		}
	}
}

func lastLine(file string) (last string) {
	f, err := os.Open(file)
	if err != nil {
		return ""
	}
	defer f.Close()
	for s := bufio.NewScanner(f); s.Scan(); {
		last = s.Text()
	}
	return last
}

func credential(name string) (*syscall.Credential, error) {
	who, err := user.Lookup(name)
	if err != nil {
		return nil, err
	}
	uid, errU := strconv.ParseUint(who.Uid, 10, 32)
	gid, errG := strconv.ParseUint(who.Gid, 10, 32)
	return &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}, errors.Join(errU, errG)
}
