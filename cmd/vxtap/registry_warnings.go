// SPDX-License-Identifier: Apache-2.0

package main

import "vxtap/lease"

// registryWarnings are what waits for somebody to do something about etcd and the
// key there: the log has them already.
func (d *daemon) registryWarnings(r lease.Status) []string {
	var all []string
	if d.certificateWarning != nil {
		if w := d.certificateWarning(); w != "" {
			all = append(all, w)
		}
	}
	if r.NoSpace != "" {
		all = append(all, r.NoSpace)
	}
	if r.Conflict != "" {
		all = append(all, r.Conflict)
	}
	return all
}
