// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"os"

	"go.etcd.io/etcd/client/pkg/v3/transport"
)

// clientTLS makes the TLS configuration of the client: mutual, with a CA alone
// (flannel forgets the CA then), or with the system's roots. etcd's TLSInfo
// reads the client certificate anew at each handshake, so that it can be
// rotated without a restart.
func clientTLS(c Config) (*tls.Config, error) {
	if err := checkCA(c.CAFile); err != nil {
		return nil, err
	}
	if err := checkCert(c.CertFile, c.KeyFile); err != nil {
		return nil, err
	}
	info := transport.TLSInfo{TrustedCAFile: c.CAFile, CertFile: c.CertFile, KeyFile: c.KeyFile}
	cfg, err := info.ClientConfig()
	if err != nil {
		return nil, fmt.Errorf("certificates: %w", err)
	}
	cfg.MinVersion = max(cfg.MinVersion, tls.VersionTLS12)
	return cfg, nil
}

// checkCA reads the CA file for a plainer error than the library's, which also
// takes a file without any certificate for a CA that signed nothing.
func checkCA(file string) error {
	if file == "" {
		return nil
	}
	b, err := os.ReadFile(file)
	if err != nil {
		return fmt.Errorf("CA file: %w", err)
	}
	if !x509.NewCertPool().AppendCertsFromPEM(b) {
		return fmt.Errorf("CA file %s has no certificate in PEM form", file)
	}
	return nil
}

func checkCert(certFile, keyFile string) error {
	switch {
	case certFile == "" && keyFile == "":
		return nil
	case certFile == "":
		return fmt.Errorf("key file %s is given without its certificate: give both or neither", keyFile)
	case keyFile == "":
		return fmt.Errorf("certificate file %s is given without its key: give both or neither", certFile)
	}
	cert, err := os.ReadFile(certFile)
	if err != nil {
		return fmt.Errorf("certificate file: %w", err)
	}
	key, err := os.ReadFile(keyFile)
	if err != nil {
		return fmt.Errorf("key file: %w", err)
	}
	if _, err := tls.X509KeyPair(cert, key); err != nil {
		return fmt.Errorf("certificate file %s and key file %s: %w", certFile, keyFile, err)
	}
	return nil
}

const noTLS = "it does not speak TLS: write http:// for it, or switch TLS on there"

// explainTLS says in words why a handshake ended, and whether waiting is in
// vain. The errors are those of crypto/tls on the client's side.
func explainTLS(e endpoint, err error) (why string, final bool) {
	var (
		unknown x509.UnknownAuthorityError
		name    x509.HostnameError
		invalid x509.CertificateInvalidError
		record  tls.RecordHeaderError
	)
	switch {
	case errors.As(err, &unknown):
		return "its certificate is signed by an unknown authority (" + unknown.Error() + "): check the CA file", true
	case errors.As(err, &name):
		return "its certificate is not for " + e.host + " (" + name.Error() + "): check the endpoint's name, or the certificate's", true
	case errors.As(err, &invalid) && invalid.Reason == x509.Expired:
		return "its certificate has expired or is not valid yet (" + invalid.Error() + "): check the certificate and this host's clock", true
	case errors.As(err, &invalid):
		return "its certificate is not valid (" + invalid.Error() + ")", true
	case errors.As(err, &record):
		return noTLS, true
	case isAlert(err):
		return "it refuses our client certificate, or the lack of one (" + err.Error() + "): check the certificate and key files", true
	}
	return "TLS handshake: " + err.Error(), false
}
