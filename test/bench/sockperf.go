// SPDX-License-Identifier: Apache-2.0

package main

import (
	"bufio"
	"bytes"
	"context"
	"errors"
	"fmt"
	"os/exec"
	"regexp"
	"strconv"
	"strings"
	"time"

	"vxtap/test/traffic"
)

// sockperfPort is sockperf's own default.
const sockperfPort = "11111"

// exchange is what sockperf ping-pong found.
type exchange struct {
	median, p99 float64 // half a round trip, in microseconds
	rate        float64 // round trips a second
	sent        float64 // requests in the whole run, warm-up included
}

// pingPong yields the latency of UDP messages that go back and forth one at a
// time.
func pingPong(ctx context.Context, c *contestant, w work, s settings) ([]float64, error) {
	cpu := startCPU(c)
	e, err := sockperf(ctx, c.ends[w.place], s.time)
	return []float64{e.median, e.p99, cpu.per(2 * e.sent / 1e6)}, err
}

// requestResponse yields how often in a second a message goes forth and another
// back on one TCP connection.
func requestResponse(ctx context.Context, c *contestant, w work, s settings) ([]float64, error) {
	cpu := startCPU(c)
	e, err := sockperf(ctx, c.ends[w.place], s.time, "--tcp")
	return []float64{e.rate / 1e3, cpu.per(2 * e.sent / 1e6)}, err
}

// sockperf runs sockperf ping-pong between two ends, with its messages of 14
// bytes: Debian's 3.7 loses all of any other length that -m asks for.
func sockperf(ctx context.Context, ends [2]traffic.End, length time.Duration, args ...string) (exchange, error) {
	ctx, cancel := context.WithTimeout(ctx, length+10*time.Second)
	defer cancel()
	args = append(args, "-i", ends[1].Addr.String(), "-p", sockperfPort)
	stop, err := sockperfServer(ctx, ends[1], args)
	if err != nil {
		return exchange{}, err
	}
	defer stop()
	args = append([]string{"ping-pong", "-t", strconv.Itoa(int(length.Seconds()))}, args...)
	cmd := exec.CommandContext(ctx, "sockperf", args...)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := ends[0].Namespace.Start(cmd); err != nil {
		return exchange{}, fmt.Errorf("start sockperf (Debian: sockperf): %w", err)
	}
	if err := cmd.Wait(); err != nil {
		return exchange{}, fmt.Errorf("sockperf: %w: %s", err, lastLine(out.String()))
	}
	return parseSockperf(out.String())
}

// sockperfServer returns when the server waits for messages: of one that comes
// too early, sockperf's client never hears again.
func sockperfServer(ctx context.Context, at traffic.End, args []string) (stop func(), err error) {
	cmd := exec.CommandContext(ctx, "sockperf", append([]string{"server"}, args...)...)
	out, err := cmd.StdoutPipe()
	if err == nil {
		err = at.Namespace.Start(cmd)
	}
	if err != nil {
		return nil, fmt.Errorf("start sockperf server (Debian: sockperf): %w", err)
	}
	stop = func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
	}
	var last string
	for lines := bufio.NewScanner(out); lines.Scan(); last = lines.Text() {
		if strings.Contains(lines.Text(), "to block on socket") {
			return stop, nil
		}
	}
	stop()
	return nil, fmt.Errorf("sockperf server ended: %s", last)
}

var (
	percentileForm = regexp.MustCompile(`percentile +(50|99)\.000 += +([0-9.]+)`)
	durationForm   = regexp.MustCompile(`\[Valid Duration\] RunTime=([0-9.]+) sec; SentMessages=\d+; ReceivedMessages=(\d+)`)
	totalForm      = regexp.MustCompile(`\[Total Run\] .*SentMessages=(\d+)`)
)

// parseSockperf reads the output of sockperf ping-pong.
func parseSockperf(text string) (exchange, error) {
	percentiles := map[string]float64{}
	for _, m := range percentileForm.FindAllStringSubmatch(text, -1) {
		percentiles[m[1]], _ = strconv.ParseFloat(m[2], 64)
	}
	duration, total := durationForm.FindStringSubmatch(text), totalForm.FindStringSubmatch(text)
	if len(percentiles) != 2 || duration == nil || total == nil {
		return exchange{}, errors.New("output of sockperf: " + lastLine(text))
	}
	seconds, _ := strconv.ParseFloat(duration[1], 64)
	messages, _ := strconv.ParseFloat(duration[2], 64)
	sent, _ := strconv.ParseFloat(total[1], 64)
	if seconds <= 0 || messages <= 0 {
		return exchange{}, errors.New("sockperf saw nothing come back")
	}
	return exchange{percentiles["50"], percentiles["99"], messages / seconds, sent}, nil
}

// lastLine returns the last line that is not empty.
func lastLine(text string) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.TrimSpace(lines[len(lines)-1])
}
