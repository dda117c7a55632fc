// SPDX-License-Identifier: Apache-2.0

package etcd

import (
	"crypto/sha256"
	"encoding/hex"
	"strings"
)

// maxKey is the longest key, below the prefix, that is handed over as it is; a
// subnet's has 75 bytes. A stranger's may have a megabyte, and is remembered as long
// as it is there.
const maxKey = 512

// keptHead and keptTail are what is left of a longer one. People know it again by its
// head. The tail is where flannel looks for subnets.
const (
	keptHead = 160
	keptTail = 160
)

// keyOf returns a key as it is handed over: without the prefix, and a long one with a
// sum in the place of its middle, so that two keys stay two.
func (s *Store) keyOf(key []byte) string {
	k := strings.TrimPrefix(string(key), s.base)
	if len(k) <= maxKey {
		return k
	}
	sum := sha256.Sum256([]byte(k))
	return k[:keptHead] + "~" + hex.EncodeToString(sum[:]) + "~" + k[len(k)-keptTail:]
}
