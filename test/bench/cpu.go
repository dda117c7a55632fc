// SPDX-License-Identifier: Apache-2.0

package main

import (
	"context"
	"errors"
	"math"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"
)

// cpuClock measures the CPU time of a contestant's daemons.
type cpuClock struct {
	c    *contestant
	from time.Duration
	err  error
}

func startCPU(c *contestant) cpuClock {
	from, err := c.cpu()
	return cpuClock{c, from, err}
}

// per returns the CPU seconds since the start for each of n, and NaN if there
// is no daemon or nothing to divide by.
func (k cpuClock) per(n float64) float64 {
	to, err := k.c.cpu()
	if k.err != nil || err != nil || n <= 0 {
		return math.NaN()
	}
	return (to - k.from).Seconds() / n
}

// settleTime is how long the daemons have to come to rest.
const settleTime = 500 * time.Millisecond

// atRest yields how much of a core each daemon of a contestant uses when there
// is nothing to do, and the memory of the largest.
func atRest(ctx context.Context, c *contestant, _ work, s settings) ([]float64, error) {
	values := []float64{math.NaN(), math.NaN()}
	if len(c.daemons) == 0 {
		return values, nil
	}
	if err := sleep(ctx, settleTime); err != nil {
		return nil, err
	}
	cpu := startCPU(c)
	if err := sleep(ctx, s.time); err != nil {
		return nil, err
	}
	values[0] = 100 * cpu.per(s.time.Seconds()*float64(len(c.daemons)))
	var largest float64
	for _, d := range c.daemons {
		kB, err := residentKB(d.cmd.Process.Pid)
		if err != nil {
			return nil, err
		}
		largest = max(largest, kB)
	}
	values[1] = largest / 1024
	return values, nil
}

// cpu returns the CPU time that the daemons of c have used.
func (c *contestant) cpu() (time.Duration, error) {
	if len(c.daemons) == 0 {
		return 0, errors.New("no daemon")
	}
	var sum time.Duration
	for _, d := range c.daemons {
		used, err := processCPU(d.cmd.Process.Pid)
		if err != nil {
			return 0, err
		}
		sum += used
	}
	return sum, nil
}

// processCPU adds up the time that the threads of a process ran, in nanoseconds
// in the first field of schedstat: /proc/PID/stat counts in hundredths of a
// second, too coarse for a process that is idle.
func processCPU(pid int) (time.Duration, error) {
	files, err := filepath.Glob(filepath.Join("/proc", strconv.Itoa(pid), "task/*/schedstat"))
	if err == nil && len(files) == 0 {
		err = os.ErrProcessDone
	}
	var sum time.Duration
	for _, file := range files {
		text, err := os.ReadFile(file)
		if errors.Is(err, os.ErrNotExist) {
			continue // the thread has just ended
		}
		if err != nil {
			return 0, err
		}
		field, _, _ := strings.Cut(string(text), " ")
		ns, err := strconv.ParseInt(field, 10, 64)
		if err != nil {
			return 0, err
		}
		sum += time.Duration(ns)
	}
	return sum, err
}

// residentKB returns the resident memory of a process in kilobytes.
func residentKB(pid int) (float64, error) {
	text, err := os.ReadFile(filepath.Join("/proc", strconv.Itoa(pid), "status"))
	if err != nil {
		return 0, err
	}
	for line := range strings.Lines(string(text)) {
		if value, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			return strconv.ParseFloat(strings.TrimSpace(strings.TrimSuffix(strings.TrimSpace(value), "kB")), 64)
		}
	}
	return 0, errors.New("a process state without VmRSS")
}

// sleep returns after d, or before with the error of ctx.
func sleep(ctx context.Context, d time.Duration) error {
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}
