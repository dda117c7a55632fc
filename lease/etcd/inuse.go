// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"sync/atomic"
	"time"
)

// inUse is what is to be told of the certificates, which the files alone do not
// say: those that are in use are the ones that etcd has answered to.
type inUse struct {
	ends    atomic.Pointer[time.Time] // of the session's client certificate; nil: no session yet
	refused atomic.Pointer[string]    // why etcd does not take the files as they are; nil: it does, or nobody knows
}

// CertificateEnds returns when the client certificate that is in use ends; zero
// without one. Until etcd was called for the first time that is the one that it
// will be called with. It may be called at any time.
func (s *Store) CertificateEnds() time.Time {
	if s.files == nil {
		return time.Time{}
	}
	if ends := s.certificate.ends.Load(); ends != nil {
		return *ends
	}
	ends, _ := s.files.ended(time.Time{})
	return ends
}

// CertificateWarning says, in a sentence, that the certificate files are others
// than those in use, and why; "" if they are the same. It may be called at any
// time.
func (s *Store) CertificateWarning() string {
	if s.files == nil {
		return ""
	}
	s.files.mu.Lock()
	fault := s.files.fault
	s.files.mu.Unlock()
	if fault != "" {
		return "certificate files for etcd have changed and are of no use: the earlier ones are in use, and vxtap would not start again: " + fault
	}
	if why := s.certificate.refused.Load(); why != nil {
		return "etcd refuses the new certificates, and this host loses etcd when its connection breaks or vxtap starts again: put others there, or the earlier ones: " + *why
	}
	return ""
}
