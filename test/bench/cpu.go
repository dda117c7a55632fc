// SPDX-License-Identifier: Apache-2.0

package main

import (
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
