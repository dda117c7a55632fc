// SPDX-License-Identifier: Apache-2.0

//go:build !linux

package host

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"runtime"

	"vxtap/encap/vxlan"
)

func unsupported() error {
	return fmt.Errorf("setting up addresses and routes is there for Linux only, not yet for %s: %w",
		runtime.GOOS, errors.ErrUnsupported)
}

// Preflight reports that this platform is not supported yet.
func Preflight() error { return unsupported() }

// CheckIPv6 reports that this platform is not supported yet.
func CheckIPv6() error { return unsupported() }

// FindUplink reports that this platform is not supported yet.
func FindUplink(Choice) (Uplink, error) { return Uplink{}, unsupported() }

// Advertised reports that this platform is not supported yet.
func Advertised(device string) (bool, error) { return false, unsupported() }

// CheckFree reports that this platform is not supported yet.
func CheckFree(device string, port uint16, local netip.Addr) error { return unsupported() }

// CheckDevice reports that this platform is not supported yet.
func CheckDevice(string) error { return unsupported() }

// AwaitAddress returns at once.
func AwaitAddress(context.Context, netip.Addr) {}

// CheckSubnetRoute reports that this platform is not supported yet.
func CheckSubnetRoute(subnet netip.Prefix) error { return unsupported() }

// Apply reports that this platform is not supported yet.
func Apply(Plan) (changed []string, err error) { return nil, unsupported() }

// AdmitUplink reports that this platform is not supported yet.
func AdmitUplink(device string) (changed bool, err error) { return false, unsupported() }

// Changes reports that this platform is not supported yet.
func Changes(context.Context, string, func(Change)) error { return unsupported() }

// RemoveBlackholes reports that this platform is not supported yet.
func RemoveBlackholes(netip.Prefix) (removed []string, err error) { return nil, unsupported() }

// Sync reports that this platform is not supported yet.
func (r *Routes) Sync(RoutePlan) (RouteReport, error) { return RouteReport{}, unsupported() }

// Update reports that this platform is not supported yet.
func (r *Routes) Update(RoutePlan) (RouteReport, error) { return RouteReport{}, unsupported() }

// RemoveDirectRoutes reports that this platform is not supported yet.
func RemoveDirectRoutes(netip.Prefix) (removed []string, err error) { return nil, unsupported() }

// RemoveRoutesInto reports that this platform is not supported yet.
func RemoveRoutesInto(netip.Prefix) error { return unsupported() }

// RemoveKernelVXLAN reports that this platform is not supported yet.
func RemoveKernelVXLAN() (removed []string, err error) { return nil, unsupported() }

// FindKernelVXLAN reports that this platform is not supported yet.
func FindKernelVXLAN(string, vxlan.VNI, netip.AddrPort) (KernelVXLAN, bool, error) {
	return KernelVXLAN{}, false, unsupported()
}

// Remove reports that this platform is not supported yet.
func (KernelVXLAN) Remove() error { return unsupported() }

// DeviceHolder finds none.
func DeviceHolder(string) (process string, ok bool) { return "", false }

// ProcessNamed finds none.
func ProcessNamed(string) (process string, ok bool) { return "", false }

// Flanneld finds none.
func Flanneld() (process string, ok bool) { return "", false }

// TXDropped reports that this platform is not supported yet.
func TXDropped(device string) (uint64, error) { return 0, unsupported() }
