// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"time"

	"vxtap/test/traffic"
)

// iperf runs iperf3 between the two ends of a work and returns the rate that
// the receiver saw, in bits a second.
func iperf(ctx context.Context, c contestant, w work, length time.Duration) (float64, error) {
	ends := c.ends[w.place]
	ctx, cancel := context.WithTimeout(ctx, length+20*time.Second)
	defer cancel()
	stop, err := iperfServer(ends[1])
	if err != nil {
		return 0, err
	}
	defer stop()
	args := []string{"-J", "-c", ends[1].Addr.String(), "-t", strconv.Itoa(int(length.Seconds())), "-P", strconv.Itoa(w.streams)}
	if w.reverse {
		args = append(args, "-R")
	}
	for {
		out, err := iperfClient(ctx, ends[0], args)
		if err != nil {
			return 0, err
		}
		rate, err := parseIperf(out)
		// The server may not listen yet.
		if err != nil && strings.Contains(err.Error(), "refused") && ctx.Err() == nil {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		return rate, err
	}
}

func iperfServer(at traffic.End) (stop func(), err error) {
	cmd := exec.Command("iperf3", "-s", "-B", at.Addr.String())
	if err := at.Namespace.Start(cmd); err != nil {
		return nil, fmt.Errorf("start iperf3 -s (Debian: iperf3): %w", err)
	}
	return func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}, nil
}

// iperfClient returns what the client printed, which is JSON also when it
// failed.
func iperfClient(ctx context.Context, at traffic.End, args []string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, "iperf3", args...)
	var out bytes.Buffer
	cmd.Stdout = &out
	if err := at.Namespace.Start(cmd); err != nil {
		return nil, fmt.Errorf("start iperf3 (Debian: iperf3): %w", err)
	}
	if err := cmd.Wait(); err != nil && out.Len() == 0 {
		return nil, fmt.Errorf("iperf3: %w", err)
	}
	return out.Bytes(), nil
}

// parseIperf reads the rate at the receiver from iperf3 -J.
func parseIperf(b []byte) (float64, error) {
	var r struct {
		Error string `json:"error"`
		End   struct {
			Received struct {
				BitsPerSecond float64 `json:"bits_per_second"`
			} `json:"sum_received"`
		} `json:"end"`
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return 0, fmt.Errorf("output of iperf3: %w", err)
	}
	if r.Error != "" {
		return 0, errors.New(r.Error)
	}
	if r.End.Received.BitsPerSecond <= 0 {
		return 0, errors.New("iperf3 saw nothing arrive")
	}
	return r.End.Received.BitsPerSecond, nil
}
