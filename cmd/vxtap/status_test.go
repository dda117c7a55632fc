// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"sync"
	"testing"
	"time"
)

// Programs that read the JSON go through a list without asking whether it is
// one.
func TestStatusWithoutOffloadsHasLists(t *testing.T) {
	b, err := json.Marshal(offloadsStatus(nil, nil, true))
	if want := `{"tap":[],"udp":[],"coalesce":false}`; err != nil || string(b) != want {
		t.Errorf("got %s and error %v, want %s", b, err, want)
	}
}

// Segments are joined only into what the TAP takes.
func TestStatusSaysWhetherSegmentsAreJoined(t *testing.T) {
	for _, tt := range []struct {
		name  string
		asked bool
		tap   []string
		want  bool
	}{
		{"TCP super-frames", true, []string{"csum", "tso4", "tso6", "ecn"}, true},
		{"UDP super-frames alone", true, []string{"csum", "uso4", "uso6"}, true},
		{"not asked for", false, []string{"csum", "tso4", "tso6", "ecn"}, false},
		{"a TAP that takes only segments", true, []string{"csum"}, false},
		{"super-frames that the kernel has refused", true, []string{"csum", "ecn"}, false},
	} {
		t.Run(tt.name, func(t *testing.T) {
			if got := offloadsStatus(tt.tap, nil, tt.asked); got.Coalesce != tt.want {
				t.Errorf("got %v, want %v", got.Coalesce, tt.want)
			}
		})
	}
}

// Programs rely on the fields: each has its line, and no line is of a field that
// is not there.
func TestEveryFieldOfTheJSONIsDocumented(t *testing.T) {
	text, err := os.ReadFile("../../docs/status.md")
	if err != nil {
		t.Fatal(err)
	}
	documented := map[string]bool{}
	for line := range strings.Lines(string(text)) {
		if first, _, ok := strings.Cut(strings.TrimPrefix(line, "| "), " | "); ok && strings.HasPrefix(line, "| `") {
			for name := range strings.SplitSeq(first, ", ") {
				documented[strings.Trim(name, "`")] = true
			}
		}
	}
	there := map[string]bool{}
	jsonFields(reflect.TypeFor[Status](), "", there)
	for name := range there {
		// Those of the IPv6 half have the names, and the meaning, of the others.
		if !documented[name] && !documented[strings.TrimPrefix(name, "ipv6.")] {
			t.Errorf("docs/status.md does not have %s", name)
		}
	}
	for name := range documented {
		if !there[name] {
			t.Errorf("docs/status.md has %s, which is no field", name)
		}
	}
}

// jsonFields adds the paths of a struct's fields: those of structs in it as
// "a.b", of lists of structs as "a" and "a[].b".
func jsonFields(s reflect.Type, prefix string, to map[string]bool) {
	for f := range s.Fields() {
		name, _, _ := strings.Cut(f.Tag.Get("json"), ",")
		name = prefix + name
		switch {
		case f.Type.Kind() == reflect.Pointer && f.Type.Elem().PkgPath() == s.PkgPath():
			to[name] = true
			jsonFields(f.Type.Elem(), name+".", to)
		case f.Type.Kind() == reflect.Slice && f.Type.Elem().PkgPath() == s.PkgPath():
			to[name] = true
			jsonFields(f.Type.Elem(), name+"[].", to)
		case f.Type.Kind() == reflect.Struct && f.Type.PkgPath() == s.PkgPath():
			jsonFields(f.Type, name+".", to)
		default:
			to[name] = true
		}
	}
}

// A request that came in time must not meet closed descriptors, which may be
// somebody else's by then.
func TestSegmentStandsWhileItIsLookedAt(t *testing.T) {
	d := &daemon{}
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			for range 10_000 {
				d.withSegment(func(s *segment) {
					if s != nil && s.device == "" {
						t.Error("got a segment that is closed")
					}
				})
			}
		})
	}
	for range 1000 {
		s := &segment{device: "flannel.1"}
		d.setSegment(s)
		d.setSegment(nil)
		s.device = "" // closed
	}
	wg.Wait()
}

// The kernel may take seconds to answer, while somebody makes a thousand
// interfaces. Who asks it keeps neither a segment from ending nor others from
// looking.
func TestSlowKernelKeepsNobodyWaiting(t *testing.T) {
	d := &daemon{}
	d.phase.Store(phaseReady)
	d.setSegment(&segment{device: "flannel.1"})
	asks, answers, asked := make(chan struct{}), make(chan struct{}), make(chan string, 1)
	go d.look(func(*segment) {}, func(s *segment) {
		close(asks)
		<-answers
		asked <- s.device
	})
	<-asks
	others := make(chan phase, 1)
	go func() {
		d.setSegment(nil)
		others <- d.state()
	}()
	select {
	case <-others:
	case <-time.After(5 * time.Second):
		t.Error("others wait for the kernel")
	}
	close(answers)
	if got := <-asked; got != "flannel.1" {
		t.Errorf("got device %q, want that of the segment that was looked at", got)
	}
	d.look(func(*segment) { t.Error("looked at a segment that is none") }, func(*segment) { t.Error("and at its host") })
}
