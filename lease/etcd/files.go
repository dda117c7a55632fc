// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"sync"
	"time"
)

// files are the CA, the client certificate and its key on disk, and what of
// them is in use. They are replaced while the daemon runs, by people and by
// programs, one after the other and not always in one step: what does not fit
// together is not used, and what was used before stays.
type files struct {
	ca, cert, key string // paths; "" where there is none
	log           *slog.Logger

	mu         sync.Mutex
	seen       [sha256.Size]byte // of what was looked at last, good or not
	config     *tls.Config
	ends       time.Time // of the client certificate; zero without one
	generation int       // grows with each set of files that is put to use
	fault      string    // of what was looked at last, "" if that is in use
}

// openFiles reads the files of c, which must be good.
func openFiles(c Config, log *slog.Logger) (*files, error) {
	f := &files{ca: c.CAFile, cert: c.CertFile, key: c.KeyFile, log: log}
	switch {
	case f.cert == "" && f.key != "":
		return nil, fmt.Errorf("key file %s is given without its certificate: give both or neither", f.key)
	case f.cert != "" && f.key == "":
		return nil, fmt.Errorf("certificate file %s is given without its key: give both or neither", f.cert)
	}
	p := f.read()
	f.seen = p.digest()
	return f, f.use(p)
}

// current reads the files again if they have changed, and returns what to
// shake hands with, and the number of the set that it comes from.
func (f *files) current() (*tls.Config, int) {
	f.mu.Lock()
	defer f.mu.Unlock()
	p := f.read()
	digest := p.digest()
	if digest == f.seen {
		return f.config, f.generation
	}
	f.seen = digest
	f.fault = ""
	if err := f.use(p); err != nil {
		f.fault = err.Error()
		f.log.Warn("certificate files for etcd have changed and are of no use; the earlier ones stay in use", "error", err)
		return f.config, f.generation
	}
	f.log.Info("certificate files for etcd have changed, and are in use for new connections")
	return f.config, f.generation
}

// set is current for whoever wants to know which files those are: their number,
// and when their client certificate ends.
func (f *files) set() (generation int, ends time.Time) {
	_, _ = f.current()
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.generation, f.ends
}

// ended returns when the client certificate ended, or false.
func (f *files) ended(now time.Time) (time.Time, bool) {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ends, !f.ends.IsZero() && now.After(f.ends)
}

// use puts what was read to use, or returns why that cannot be.
func (f *files) use(p parts) error {
	cfg := &tls.Config{MinVersion: tls.VersionTLS12}
	var ends time.Time
	if f.ca != "" {
		if p.caErr != nil {
			return fmt.Errorf("CA file: %w", p.caErr)
		}
		cfg.RootCAs = x509.NewCertPool()
		if !cfg.RootCAs.AppendCertsFromPEM(p.ca) {
			return fmt.Errorf("CA file %s has no certificate in PEM form", f.ca)
		}
	}
	if f.cert != "" {
		pair, err := f.pair(p)
		if err != nil {
			return err
		}
		// Shown whatever CAs the server names: its refusal says more than an
		// empty answer of ours.
		cfg.GetClientCertificate = func(*tls.CertificateRequestInfo) (*tls.Certificate, error) { return pair, nil }
		ends = pair.Leaf.NotAfter
	}
	f.config, f.ends = cfg, ends
	f.generation++
	return nil
}

func (f *files) pair(p parts) (*tls.Certificate, error) {
	if p.certErr != nil {
		return nil, fmt.Errorf("certificate file: %w", p.certErr)
	}
	if p.keyErr != nil {
		return nil, fmt.Errorf("key file: %w", p.keyErr)
	}
	pair, err := tls.X509KeyPair(p.cert, p.key)
	if err == nil && pair.Leaf == nil {
		err = errors.New("there is no certificate in it")
	}
	if err != nil {
		return nil, fmt.Errorf("certificate file %s and key file %s: %w", f.cert, f.key, err)
	}
	return &pair, nil
}

// parts are the three files at one moment. The key is a secret: parts are not
// kept, and never shown.
type parts struct {
	ca, cert, key          []byte
	caErr, certErr, keyErr error
}

func (f *files) read() parts {
	var p parts
	p.ca, p.caErr = readFile(f.ca)
	p.cert, p.certErr = readFile(f.cert)
	p.key, p.keyErr = readFile(f.key)
	return p
}

func readFile(path string) ([]byte, error) {
	if path == "" {
		return nil, nil
	}
	return os.ReadFile(path)
}

// digest tells one set of files from another, faults included.
func (p parts) digest() [sha256.Size]byte {
	h := sha256.New()
	for _, b := range [][]byte{p.ca, p.cert, p.key} {
		part := sha256.Sum256(b)
		h.Write(part[:])
	}
	fmt.Fprint(h, p.caErr, p.certErr, p.keyErr)
	return [sha256.Size]byte(h.Sum(nil))
}
