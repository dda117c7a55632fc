// SPDX-License-Identifier: Apache-2.0

package etcd

// Redial gives all connections up, and has the next call make new ones. Whoever
// knows that they cannot be alive any more, since the host has lost the address
// that they come from, need not wait until that is noticed, which takes the
// kernel three seconds and a quiet watch thirteen. What is under way fails, as
// when a connection breaks: it is asked again. Anyone may call it.
func (s *Store) Redial() {
	s.turn <- struct{}{}
	defer func() { <-s.turn }()
	if s.client == nil {
		return
	}
	_ = s.client.Close() // it is given up in any case
	s.client = nil
}
