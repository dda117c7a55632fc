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

// received is what the receiver of an iperf3 run saw.
type received struct {
	BitsPerSecond float64 `json:"bits_per_second"`
	Bytes         float64 `json:"bytes"`
	Packets       float64 `json:"packets"` // UDP: the highest number that it saw
	Lost          float64 `json:"lost_packets"`
	Sending       float64 `json:"-"` // for how many seconds the sender sent
}

// tcpStreams yields the rate at the receiver and the daemons' CPU time for it.
func tcpStreams(n int, reverse bool) func(context.Context, *contestant, work, settings) ([]float64, error) {
	return func(ctx context.Context, c *contestant, w work, s settings) ([]float64, error) {
		args := []string{"-P", strconv.Itoa(n)}
		if reverse {
			args = append(args, "-R")
		}
		cpu := startCPU(c)
		r, err := iperf(ctx, c.ends[w.place], args, s.time)
		return []float64{r.BitsPerSecond / 1e9, cpu.per(r.Bytes / 1e9)}, err
	}
}

// datagrams yields how many datagrams of size bytes arrive in a second when the
// sender sends as fast as it can, and the daemons' CPU time for a million.
func datagrams(size int) func(context.Context, *contestant, work, settings) ([]float64, error) {
	return func(ctx context.Context, c *contestant, w work, s settings) ([]float64, error) {
		cpu := startCPU(c)
		// The sender's time, not the receiver's: that ends when the TCP connection
		// beside it says so, a lost segment of which costs 200 ms.
		r, err := iperf(ctx, c.ends[w.place], []string{"-u", "-b", "0", "-l", strconv.Itoa(size)}, s.time)
		n := r.Packets - r.Lost
		return []float64{n / r.Sending / 1e3, cpu.per(n / 1e6)}, err
	}
}

// iperf runs iperf3 between two ends.
func iperf(ctx context.Context, ends [2]traffic.End, args []string, length time.Duration) (received, error) {
	ctx, cancel := context.WithTimeout(ctx, length+20*time.Second)
	defer cancel()
	stop, err := iperfServer(ends[1])
	if err != nil {
		return received{}, err
	}
	defer stop()
	args = append(args, "-J", "-c", ends[1].Addr.String(), "-t", strconv.Itoa(int(length.Seconds())))
	for {
		out, err := iperfClient(ctx, ends[0], args)
		if err != nil {
			return received{}, err
		}
		r, err := parseIperf(out)
		// The server may not listen yet.
		if err != nil && strings.Contains(err.Error(), "refused") && ctx.Err() == nil {
			time.Sleep(50 * time.Millisecond)
			continue
		}
		return r, err
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

// parseIperf reads what the receiver saw from the output of iperf3 -J.
func parseIperf(b []byte) (received, error) {
	var r struct {
		Error string `json:"error"`
		End   struct {
			Received received `json:"sum_received"`
			Sent     struct {
				Seconds float64 `json:"seconds"`
			} `json:"sum_sent"`
		} `json:"end"`
	}
	if err := json.Unmarshal(b, &r); err != nil {
		return received{}, fmt.Errorf("output of iperf3: %w", err)
	}
	if r.Error != "" {
		return received{}, errors.New(r.Error)
	}
	if r.End.Received.BitsPerSecond <= 0 || r.End.Sent.Seconds <= 0 {
		return received{}, errors.New("iperf3 saw nothing arrive")
	}
	r.End.Received.Sending = r.End.Sent.Seconds
	return r.End.Received, nil
}
