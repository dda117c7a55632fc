// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"crypto/tls"
	"crypto/x509"
	"errors"
	"time"
)

const noTLS = "it does not speak TLS: write http:// for it, or switch TLS on there"

// explainTLS says in words why a handshake ended, and whether waiting is in
// vain. The errors are those of crypto/tls on the client's side.
func (s *Store) explainTLS(e endpoint, err error) (why string, final bool) {
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
		if end, over := s.files.ended(time.Now()); over {
			return "it refuses our client certificate, which ended at " + end.UTC().Format(time.RFC3339) + " (" + err.Error() + "): replace the certificate and key files", true
		}
		return "it refuses our client certificate, or the lack of one (" + err.Error() + "): check the certificate and key files", true
	}
	return "TLS handshake: " + err.Error(), false
}
