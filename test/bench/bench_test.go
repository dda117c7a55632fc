// SPDX-License-Identifier: Apache-2.0

package main

import (
	"encoding/json"
	"encoding/xml"
	"errors"
	"io"
	"math"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"vxtap/test/document"
)

func TestMedian(t *testing.T) {
	tests := []struct {
		name string
		in   []float64
		want float64
	}{
		{"one", []float64{3}, 3},
		{"odd, unsorted", []float64{9, 1, 5}, 5},
		{"even", []float64{4, 1, 2, 9}, 3},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			if got := median(tt.in); got != tt.want {
				t.Errorf("got %v, want %v", got, tt.want)
			}
		})
	}
	if got := median(nil); !math.IsNaN(got) {
		t.Errorf("of nothing: got %v, want NaN", got)
	}
}

func TestFigure(t *testing.T) {
	for want, v := range map[string]float64{"0.047": 0.0468, "1.00": 1, "9.99": 9.994, "12.5": 12.48, "123": 123.4, "4567": 4567.4} {
		if got := figure(v); got != want {
			t.Errorf("%v: got %s, want %s", v, got, want)
		}
	}
}

func TestParse(t *testing.T) {
	marked, foreign := filepath.Join(t.TempDir(), "marked.md"), filepath.Join(t.TempDir(), "foreign.md")
	for name, text := range map[string]string{marked: "a\n" + document.Begin("bench") + document.End("bench"), foreign: "a\n"} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	tests := []struct {
		name, args string
		err        string
		names      string
	}{
		{"nothing", "", "", "kernel,relay,vxtap,vxtap off,ovs,kernel>vxtap,vxtap>kernel"},
		{"another daemon", "-other x", "", "kernel,relay,vxtap,vxtap B,vxtap off,ovs,kernel>vxtap,vxtap>kernel"},
		{"whole names", "-contestants vxtap", "", "kernel,vxtap"},
		{"no anchor", "-contestants relay|ovs -anchor=false", "", "relay,ovs"},
		{"marks are there", "-md " + marked, "", "kernel,relay,vxtap,vxtap off,ovs,kernel>vxtap,vxtap>kernel"},
		{"marks are not there", "-md " + foreign, "has no lines", ""},
		{"a work that nobody knows", "-works tpc", "no work", ""},
		{"a contestant that nobody knows", "-contestants vxlan -anchor=false", `nobody has the name "vxlan": there are kernel, relay`, ""},
		{"one that nobody knows, beside the kernel", "-contestants foo", `nobody has the name "foo"`, ""},
		{"one that nobody knows among others", "-contestants vxtap|foo", `nobody has the name "foo"`, ""},
		{"a part of a name", "-contestants ovs|vx", `nobody has the name "vx"`, ""},
		{"a pattern of several names", "-contestants vx.*|(relay|ovs)", "", "kernel,relay,vxtap,vxtap off,ovs,vxtap>kernel"},
		{"another daemon that is not there", "-contestants vxtap.B", "say which with -other", ""},
		{"another daemon beside this one", "-contestants vxtap|vxtap.B", "say which with -other", ""},
		{"the kernel alone", "-contestants kernel", "", "kernel"},
		{"half a second", "-time 1500ms", "whole seconds", ""},
		{"no round", "-rounds 0", "one round", ""},
		{"words", "all of it", "flags only", ""},
		{"no regular expression for a name", "-contestants (", "missing closing", ""},
		{"no regular expression", "-works (", "missing closing", ""},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			s, err := parse(strings.Fields(tt.args), io.Discard)
			if (err == nil) != (tt.err == "") || err != nil && !strings.Contains(err.Error(), tt.err) {
				t.Fatalf("got %v, want %q", err, tt.err)
			}
			if err != nil {
				return
			}
			if got := strings.Join(chosenContestants(s), ","); got != tt.names {
				t.Errorf("got %s, want %s", got, tt.names)
			}
		})
	}
}

func TestParseIperf(t *testing.T) {
	tests := []struct {
		name, in string
		want     received
		err      string
	}{
		{
			"a rate", `{"end":{"sum_sent":{"seconds":1.5},"sum_received":{"bits_per_second":5e9,"bytes":1e9,"seconds":1.6}}}`,
			received{BitsPerSecond: 5e9, Bytes: 1e9, Sending: 1.5}, "",
		},
		{
			"datagrams, some lost", `{"end":{"sum_sent":{"seconds":2},"sum_received":{"bits_per_second":8000,"bytes":2000,"packets":30,"lost_packets":10}}}`,
			received{BitsPerSecond: 8000, Bytes: 2000, Sending: 2, Packets: 30, Lost: 10}, "",
		},
		{"an error", `{"error":"unable to connect to server: Connection refused"}`, received{}, "refused"},
		{"nothing arrived", `{"end":{"sum_received":{"bits_per_second":0}}}`, received{}, "nothing"},
		{"no JSON", `iperf3: usage`, received{}, "output of iperf3"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseIperf([]byte(tt.in))
			if got != tt.want || (err == nil) != (tt.err == "") || (err != nil && !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("got %v and %v, want %v and %q", got, err, tt.want, tt.err)
			}
		})
	}
}

func TestParseSockperf(t *testing.T) {
	text := `sockperf: [Total Run] RunTime=1.001 sec; Warm up time=400 msec; SentMessages=22689; ReceivedMessages=22688
sockperf: [Valid Duration] RunTime=0.500 sec; SentMessages=10087; ReceivedMessages=10000
sockperf: ---> percentile 99.900 =   55.266
sockperf: ---> percentile 99.000 =   37.635
sockperf: ---> percentile 50.000 =   26.328
`
	tests := []struct {
		name, in string
		want     exchange
		err      string
	}{
		{"all of it", text, exchange{26.328, 37.635, 20000, 22689}, ""},
		{"cut short", text[:300], exchange{}, "output of sockperf"},
		{"no answer", "Test ended\nNo messages were received from the server. Is the server down?\n", exchange{}, "No messages"},
		{"nothing", "", exchange{}, "output of sockperf"},
	}
	for _, tt := range tests {
		t.Run(tt.name, func(t *testing.T) {
			got, err := parseSockperf(tt.in)
			if got != tt.want || (err == nil) != (tt.err == "") || (err != nil && !strings.Contains(err.Error(), tt.err)) {
				t.Errorf("got %v and %v, want %v and %q", got, err, tt.want, tt.err)
			}
		})
	}
}

// found is what a run may have found: one work in both places, one where less
// is better, and the daemons at rest; one contestant has a gap.
func found() results {
	inside := func(key, name string, p place, m metric, samples map[string][]float64) *row {
		return &row{work{key: key, name: name, place: p}, m, samples}
	}
	return results{
		settings: settings{rounds: 3, time: time.Second, args: []string{"-contestants", "a|b"}, vxtap: "/nowhere"},
		names:    []string{kernelName, relayName, vxtapName, outOfName},
		rows: []*row{
			inside("tcp1/containers", "1 TCP stream", containers, rate, map[string][]float64{
				kernelName: {10, 16, 11}, relayName: {4}, vxtapName: {5.5, 5, 6},
			}),
			inside("udp-rtt/containers", "UDP ping-pong", containers, tail, map[string][]float64{
				kernelName: {40}, relayName: {80}, vxtapName: {10}, outOfName: {60},
			}),
			inside("tcp1/hosts", "1 TCP stream", hosts, rate, map[string][]float64{kernelName: {10}, vxtapName: {9}}),
			inside(restKey, "no traffic", "", idle, map[string][]float64{vxtapName: {0.2}}),
		},
		leftOut: []string{"ovs is left out: not here"},
	}
}

func TestTable(t *testing.T) {
	var out strings.Builder
	found().writeTable(&out)
	text := regexp.MustCompile(` +`).ReplaceAllString(out.String(), " ")
	for _, want := range []string{
		"│ kernel │ relay │ vxtap │ vxtap>kernel │ vxtap / relay │",
		"│ 1 TCP stream │ containers │ Gb/s │ 11.0 [10.0-16.0] │ 4.00 (0.36) │ 5.50 (0.50) │ - │ 1.38 │",
		"│ no traffic │ │ % of a core │ - │ - │ 0.200 │ - │ - │",
		"Medians of 3 interleaved rounds of 1s", "ovs is left out: not here",
		"│ 1 TCP stream, to kernel VXLAN │ 0.65 │ 0.85 │ 0.50 missed │ 0.90 goal │",
		"│ 1 TCP stream, to the relay │ 1.05 │ 1.25 │ 1.38 goal │ │",
		"│ UDP ping-pong 99th percentile, to kernel VXLAN │ 1.7 │ 1 │ 0.25 goal │ │",
		"│ idle daemon, % of a core │ 0.5 │ 0.1 │ 0.20 reached │ │",
	} {
		if !strings.Contains(text, want) {
			t.Errorf("the table lacks %q:\n%s", want, text)
		}
	}
}

// A narrow run has no column for where nothing was sent.
func TestVerdictsOfANarrowRun(t *testing.T) {
	for _, tt := range []struct {
		name string
		keep func(*row) bool
		want string
	}{
		{"everything", func(*row) bool { return true }, "containers,hosts"},
		{"containers", func(r *row) bool { return r.place == containers }, "containers"},
		{"hosts", func(r *row) bool { return r.place == hosts }, "hosts"},
		{"at rest", func(r *row) bool { return r.place == "" }, "containers"},
		{"nothing", func(*row) bool { return false }, ""},
	} {
		t.Run(tt.name, func(t *testing.T) {
			r := found()
			r.rows = slices.DeleteFunc(r.rows, func(r *row) bool { return !tt.keep(r) })
			verdicts := r.verdicts()
			if tt.want == "" {
				if len(verdicts) > 0 {
					t.Errorf("got %q, want nothing", verdicts)
				}
				return
			}
			if len(verdicts) < 2 || strings.Join(verdicts[0][3:], ",") != tt.want || len(verdicts[1]) != len(verdicts[0]) {
				t.Errorf("got %q, want the columns %s", verdicts, tt.want)
			}
		})
	}
}

func TestList(t *testing.T) {
	s, err := parse(nil, io.Discard)
	if err != nil {
		t.Fatal(err)
	}
	var out strings.Builder
	list(&out, s)
	for line := range strings.Lines(out.String()) {
		if line != strings.TrimRight(line, " ,\n")+"\n" {
			t.Errorf("a line ends in nothing: %q", line)
		}
	}
	if !strings.Contains(out.String(), "tcp1/hosts                 1 TCP stream between hosts\n") {
		t.Errorf("got\n%s", out.String())
	}
}

// The command below the figures and the one that the text tells people to type
// are one.
func TestFiguresAndTextHaveOneCommand(t *testing.T) {
	b, err := os.ReadFile("../../docs/performance.md")
	if err != nil {
		t.Fatal(err)
	}
	made := regexp.MustCompile("Made by `go run ./test/bench (.+)`").FindSubmatch(b)
	if made == nil {
		t.Fatal("the figures have no command")
	}
	if want := "make bench BENCH='" + string(made[1]) + "'"; !strings.Contains(string(b), want) {
		t.Errorf("the text lacks %q", want)
	}
}

func TestRoughly(t *testing.T) {
	for d, want := range map[time.Duration]string{time.Second: "10 seconds", 10 * time.Second: "10 seconds", 95 * time.Second: "100 seconds", 150 * time.Second: "3 minutes", 33 * time.Minute: "33 minutes"} {
		if got := roughly(d); got != want {
			t.Errorf("%s: got %q, want %q", d, got, want)
		}
	}
}

func TestMarkdownStandsBetweenItsMarks(t *testing.T) {
	r := found()
	r.settings.markdown = filepath.Join(t.TempDir(), "doc.md")
	if err := os.WriteFile(r.settings.markdown, []byte("before\n"+document.Begin("bench")+"old\n"+document.End("bench")+"after\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for range 2 {
		if err := r.writeFiles(); err != nil {
			t.Fatal(err)
		}
	}
	b, err := os.ReadFile(r.settings.markdown)
	text := string(b)
	if err != nil || strings.Contains(text, "old") || !strings.HasPrefix(text, "before\n"+document.Begin("bench")) || !strings.HasSuffix(text, document.End("bench")+"after\n") {
		t.Errorf("got %v and\n%s", err, text)
	}
	for _, want := range []string{
		"| work |  | kernel | relay | vxtap | vxtap&gt;kernel | vxtap / relay |\n|---|---|---|---|---|---|---|\n",
		"| 1 TCP stream | Gb/s | 11.0 [10.0-16.0] | 4.00 (0.36) | 5.50 (0.50) | - | 1.38 |",
		"`go run ./test/bench -contestants 'a|b'`",
	} {
		if strings.Count(text, want) == 0 {
			t.Errorf("it lacks %q:\n%s", want, text)
		}
	}
}

func TestInsertLeavesForeignFilesAlone(t *testing.T) {
	name := filepath.Join(t.TempDir(), "doc.md")
	for _, text := range []string{"", "text\n", document.Begin("bench"), document.End("bench") + document.Begin("bench")} {
		if err := os.WriteFile(name, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
		if err := insert(name, []byte("new")); err == nil {
			t.Errorf("%q: got nil, want an error", text)
		}
		if got, _ := os.ReadFile(name); string(got) != text {
			t.Errorf("%q became %q", text, got)
		}
	}
}

func TestPictureIsXMLWithABarForEachFigure(t *testing.T) {
	text := found().picture()
	bars := 0
	for d := xml.NewDecoder(strings.NewReader(text)); ; {
		token, err := d.Token()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		if e, ok := token.(xml.StartElement); ok && e.Name.Local == "rect" &&
			slices.ContainsFunc(e.Attr, func(a xml.Attr) bool { return a.Name.Local == "rx" && a.Value == "1.5" }) {
			bars++
		}
	}
	// Relay and vxtap, all three, vxtap alone.
	if bars != 6 {
		t.Errorf("got %d bars, want 6", bars)
	}
	for _, want := range []string{">0.50<", ">4.00<", ">0.67<", "vxtap to kernel", ">kernel, containers: 11.0 Gb/s<", ">kernel, hosts: 10.0 Gb/s<", "UDP ping-pong, p99"} {
		if !strings.Contains(text, want) {
			t.Errorf("it lacks %s", want)
		}
	}
	if strings.Contains(text, "NaN") || strings.Contains(text, "no traffic") {
		t.Error("it has what cannot be drawn")
	}
}

// There is no room for bars that are never there, and no number on the line
// at 1.
func TestPictureHasRoomForWhatIsThere(t *testing.T) {
	few := found()
	few.rows = few.rows[:1]
	height := func(r results) (h int) {
		if m := regexp.MustCompile(`height="(\d+)" role`).FindStringSubmatch(r.picture()); m != nil {
			h, _ = strconv.Atoi(m[1])
		}
		return h
	}
	before := height(few)
	few.names = append(few.names, intoName, ovsName, plainName) // without a figure
	if after := height(few); before == 0 || after != before {
		t.Errorf("the picture is %d high, and %d with contestants that have no bar", before, after)
	}

	text := found().picture()
	one := regexp.MustCompile(`<line class="one" x1="([0-9.]+)"`).FindAllStringSubmatch(text, -1)
	values := regexp.MustCompile(`<text x="(\d+)" y="\d+" class="value"`).FindAllStringSubmatch(text, -1)
	if len(one) != 2 || len(values) != 6 {
		t.Fatalf("got %d lines at 1 and %d numbers, want 2 and 6", len(one), len(values))
	}
	for _, v := range values {
		for _, line := range one {
			x, _ := strconv.ParseFloat(line[1], 64)
			if at, _ := strconv.ParseFloat(v[1], 64); at < x && at+valueWidth > x+1 {
				t.Errorf("a number at %v stands on the line at %v", at, x)
			}
		}
	}
}

func TestSamples(t *testing.T) {
	text, err := found().samples()
	var got struct {
		Rows []struct {
			Work    string
			Samples map[string][]float64
		}
	}
	if err == nil {
		err = json.Unmarshal(text, &got)
	}
	if err != nil || len(got.Rows) != 4 || got.Rows[0].Work != "tcp1/containers" || !slices.Equal(got.Rows[0].Samples[vxtapName], []float64{5.5, 5, 6}) {
		t.Errorf("got %v and %s", err, text)
	}
}
