// SPDX-License-Identifier: Apache-2.0

package outage

import (
	"context"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"vxtap/cmd/vxlab/netns"
	"vxtap/test/bed"
)

const password = "s3cr3t-0f-the-0verlay"

// heard is everything that a daemon and its commands showed to anybody.
type heard struct{ from, text string }

// login is a host whose daemon logs in to etcd with a name and a password.
type login struct {
	t     *testing.T
	m     *members
	host  *netns.Namespace
	dir   string
	flags []string
	heard []heard
}

func startLogin(t *testing.T) *login {
	t.Helper()
	bed.NeedRoot(t)
	b := outside(t, "s", 1)
	l := &login{t: t, m: startMembers(t, b.Node("net"), 1), dir: t.TempDir()}
	l.m.network()
	l.m.must("role", "add", "node")
	l.m.must("role", "grant-permission", "node", "--prefix=true", "readwrite", bed.Prefix)
	for _, user := range []string{"root", "node"} {
		l.m.must("user", "add", user+":"+password)
		l.m.must("user", "grant-role", user, user)
	}
	l.m.must("auth", "enable")
	h, err := b.JoinBare(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	l.host = b.Node(h.Node)
	crt, key := l.m.ca.Sign(t, "node", time.Now().Add(time.Hour))
	l.flags = []string{
		"-etcd-endpoints=" + urls(1), "-etcd-prefix=" + bed.Prefix, "-etcd-cafile=" + l.m.ca.File, "-etcd-certfile=" + crt, "-etcd-keyfile=" + key,
	}
	return l
}

// daemon starts a daemon in the directory name of the host, with the password
// in its environment.
func (l *login) daemon(name, password string, more ...string) (*exec.Cmd, string) {
	l.t.Helper()
	dir := filepath.Join(l.dir, name)
	if err := os.MkdirAll(dir, 0o755); err != nil {
		l.t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(dir, "log"))
	if err != nil {
		l.t.Fatal(err)
	}
	defer log.Close()
	cmd := exec.Command(bed.Binary(l.t, "vxtap"), append(append([]string{
		"-iface=eth0", "-v=10", "-healthz-port=8473", "-run-dir=" + dir, "-state-dir=" + dir, "-subnet-file=" + filepath.Join(dir, "subnet.env"),
	}, l.flags...), more...)...)
	cmd.Env = append(os.Environ(), "VXTAP_ETCD_USERNAME=node", "VXTAP_ETCD_PASSWORD="+password)
	cmd.Stdout, cmd.Stderr = log, log
	if err := l.host.Start(cmd); err != nil {
		l.t.Fatal(err)
	}
	l.t.Cleanup(func() { _ = cmd.Process.Kill() })
	return cmd, dir
}

// hear runs a program on the host and keeps all that it prints, whatever its
// exit status.
func (l *login) hear(program string, args ...string) {
	l.t.Helper()
	ctx, cancel := context.WithTimeout(l.t.Context(), 20*time.Second)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, args...)
	cmd.Env = append(os.Environ(), "VXTAP_ETCD_USERNAME=node", "VXTAP_ETCD_PASSWORD="+password)
	var out strings.Builder
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := l.host.Start(cmd); err != nil {
		l.t.Fatal(err)
	}
	err := cmd.Wait()
	l.heard = append(l.heard, heard{fmt.Sprint(filepath.Base(program), " ", args, " ", err), out.String()})
}

// hearFiles keeps what is in every file below a directory.
func (l *login) hearFiles(dir string) {
	l.t.Helper()
	err := filepath.WalkDir(dir, func(path string, d fs.DirEntry, err error) error {
		if err != nil || !d.Type().IsRegular() {
			return err
		}
		text, err := os.ReadFile(path)
		l.heard = append(l.heard, heard{path, string(text)})
		return err
	})
	if err != nil {
		l.t.Fatal(err)
	}
}

// A password and a private key are shown to nobody: not in a log at its most
// talkative while all goes wrong that may, not by status, metrics and files,
// not in the list of processes, and not by commands that fail.
func TestSecretsStaySecret(t *testing.T) {
	t.Parallel()
	l := startLogin(t)
	vxtap := bed.Binary(t, "vxtap")
	good, dir := l.daemon("good", password)
	bed.Eventually(t, 10*time.Second, func() error {
		_, err := os.Stat(filepath.Join(dir, "subnet.env"))
		return err
	})
	look := func() {
		l.hear(vxtap, "status", "-run-dir", dir)
		l.hear(vxtap, "status", "-o", "json", "-run-dir", dir)
		for _, page := range []string{"metrics", "readyz", "healthz"} {
			l.hear("curl", "-s", "http://127.0.0.1:8473/"+page)
		}
	}
	look()
	for from, want := range map[string]string{
		"vxtap [status -run": "certificate ends in (59m|1h 0m)", "vxtap [status -o": `"certificate_ends": "20`, "curl": "vxtap_etcd_certificate_expiry_seconds 3[56]",
	} {
		if !slices.ContainsFunc(l.heard, func(h heard) bool {
			return strings.HasPrefix(h.from, from) && regexp.MustCompile(want).MatchString(h.text)
		}) {
			t.Errorf("%s does not say %s when the certificate ends: %v", from, want, l.heard)
		}
	}
	l.hear(vxtap, append([]string{"lease", "show", "-o", "json"}, l.flags...)...)
	l.hear(vxtap, append([]string{"config", "get"}, l.flags...)...)
	line, err := os.ReadFile(fmt.Sprintf("/proc/%d/cmdline", good.Process.Pid))
	if err != nil {
		t.Fatal(err)
	}
	l.heard = append(l.heard, heard{"the list of processes", string(line)})

	// The key goes bad on disk, etcd goes away, and comes back.
	key := filepath.Join(l.m.ca.Dir, "node.key")
	secret, err := os.ReadFile(key)
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(key, append([]byte("x"), secret[:len(secret)-40]...), 0o600); err != nil {
		t.Fatal(err)
	}
	l.says(dir, "earlier ones stay in use")
	l.m.kill(0)
	l.says(dir, "not watched at present")
	look()
	l.hear(vxtap, append([]string{"lease", "show"}, l.flags...)...)
	l.m.start(0)
	if err := os.WriteFile(key, secret, 0o600); err != nil {
		t.Fatal(err)
	}
	l.says(dir, "connected to etcd with the new certificates")

	_, wrong := l.daemon("wrong", password+"-wrong", "-healthz-port=0")
	l.says(wrong, `knows no user`)
	_, inside := l.daemon("inside", password, "-etcd-endpoints=https://root:"+password+"@192.168.77.2:2379", "-healthz-port=0")
	l.says(inside, "has a login in its URL")
	l.hearFiles(l.dir)
	l.assertSilent(string(secret))
}

// says waits until the log of the daemon in dir has text.
func (l *login) says(dir, text string) {
	l.t.Helper()
	bed.Eventually(l.t, 20*time.Second, func() error {
		log, err := os.ReadFile(filepath.Join(dir, "log"))
		if err == nil && !strings.Contains(string(log), text) {
			err = fmt.Errorf("the log does not say %q:\n%s", text, log)
		}
		return err
	})
}

// assertSilent looks for the password and for every line of the key in all
// that was heard.
func (l *login) assertSilent(key string) {
	l.t.Helper()
	secrets := []string{password}
	for line := range strings.Lines(key) {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "-----") {
			secrets = append(secrets, line[:min(len(line), 24)])
		}
	}
	if len(secrets) < 3 {
		l.t.Fatalf("got %d secrets, want the password and the lines of a key", len(secrets))
	}
	size := 0
	for _, h := range l.heard {
		size += len(h.text)
		for _, s := range secrets {
			if strings.Contains(h.text, s) {
				l.t.Errorf("%s shows a secret:\n%s", h.from, h.text)
			}
		}
	}
	l.t.Logf("%d sources, %d bytes, %d secrets", len(l.heard), size, len(secrets))
	if len(l.heard) < 15 || size < 10000 {
		l.t.Errorf("that is too little to be all")
	}
}
