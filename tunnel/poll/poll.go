// SPDX-License-Identifier: Apache-2.0

// Package poll is where a loop sleeps: until one of its descriptors is
// readable, or somebody calls it off. A Poller is a tunnel.Waiter.
//
// poll(2) and not epoll(7): a descriptor on an epoll's list pays a callback for
// every packet that is queued, also while its loop is awake, which under load
// is always. poll costs only whoever goes to sleep.
package poll

import "vxtap/tunnel"

var _ tunnel.Waiter = (*Poller)(nil)
