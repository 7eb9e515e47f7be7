//go:build linux

package main

import (
	"strings"
	"testing"
)

func TestReport(t *testing.T) {
	r := report{Command: "go run ./compare", Rounds: 3, ServerCPU: []int{1}, Outcomes: []outcome{{
		Workload: "echo-64x64", About: "echo", Unit: "message",
		Series: []series{made(ours, 8, 8, 8), made(gnet, 10, 10, 10), made(cepoll, 7, -1, 7), made(oursAgain, 8.1, 7.9, 8)},
	}}}
	var b strings.Builder
	if err := r.writeMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"**There were failures or errors",
		"| ours       |           8.00 |",
		" 0.80 | 0.80 - 0.80 | 1.14 |", // clear: every round agrees
		"| cepoll !   |",
		"- ! cepoll, round 2: FAILED: it failed",
		"gnet here: CPU gnet, rate gnet, p99.9 gnet.",
		"Noise, ours-again to ours: CPU 1.00 (0.99 - 1.01)",
		"Server on core 1, client on any core.",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	if t.Failed() {
		t.Log(b.String())
	}
	// Every line of a table is as wide as the first.
	width := 0
	for line := range strings.Lines(b.String()) {
		if strings.HasPrefix(line, "|") {
			if width == 0 {
				width = len(line)
			}
			if len(line) != width {
				t.Errorf("a line of %d characters in a table of %d: %s", len(line), width, line)
			}
		}
	}
}

// Over TLS and WebSocket a row tells ours to it: 0.80 for a server that takes 10 where ours takes 8.
func TestReportOfLayers(t *testing.T) {
	r := report{Command: "go run ./compare", Rounds: 3, Outcomes: []outcome{
		{Workload: "tls-echo", About: "echo", Unit: "message", Over: overTLS, Series: []series{made(ours, 8, 8, 8), made("std", 10, 10, 10), made(oursAgain, 8.1, 7.9, 8)}},
		{Workload: "ws-deflate", About: "echo", Unit: "message", Over: overWS, Series: []series{made(ours, 8, 8, 8), made("gws", 4, 4, 4)}},
		{Workload: "ws-idle", About: "memory", Unit: "connection", Over: overWS, Idle: true, Series: []series{made(ours, 8, 8), made("gws", 4, 4)}},
	}}
	for i := range r.Outcomes[1].Series {
		for k := range r.Outcomes[1].Series[i].Samples {
			r.Outcomes[1].Series[i].Samples[k].P999 = 0 // the program deflate tells no latency
		}
	}
	for i := range r.Outcomes[2].Series {
		for k := range r.Outcomes[2].Series[i].Samples {
			r.Outcomes[2].Series[i].Samples[k].RSSPerConn = float64(1000 * (i + 1))
		}
	}
	var b strings.Builder
	if err := r.writeMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{
		"*Ours to it* is the figure of ours divided by that of the row.",
		"| std        |           10.0 | 10.0 - 10.0 |       0.80 | 0.80 - 0.80 |",
		"| server | CPU us/message |       range | ours to it |       range | messages/s | ours to it |\n",
		"| gws    |            2,000 | 2,000 - 2,000 |       0.50 | 0.50 - 0.50 |\n",
	} {
		if !strings.Contains(b.String(), want) {
			t.Errorf("%q is missing", want)
		}
	}
	for _, no := range []string{"to gnet", "to C", "gnet here"} {
		if strings.Contains(b.String(), no) {
			t.Errorf("it speaks of %q", no)
		}
	}
	if t.Failed() {
		t.Log(b.String())
	}
}

// With -base the report begins with what moved: a row of which all rounds agree, by more than the A/A pair. One that got worse is exit code 4.
func TestReportOfMoves(t *testing.T) {
	r := report{Command: "go run ./compare", Base: "main", Rounds: 3, Outcomes: []outcome{
		{Workload: "echo-slower", About: "echo", Unit: "message", Series: []series{made(ours, 9, 9, 9), made(oursBase, 8, 8, 8), made(oursAgain, 9, 9, 9)}},
		{Workload: "echo-faster", About: "echo", Unit: "message", Series: []series{made(ours, 6, 6, 6), made(oursBase, 8, 8, 8), made(oursAgain, 6, 6, 6)}},
		{Workload: "echo-noisy", About: "echo", Unit: "message", Series: []series{made(ours, 8, 9, 7), made(oursBase, 8, 8, 8), made(oursAgain, 8, 8, 8)}},
		{Workload: "echo-lost", About: "echo", Unit: "message", Series: []series{made(ours, 8), made(oursBase, -1), made(oursAgain, 8)}},
	}}
	var b strings.Builder
	if err := r.writeMarkdown(&b); err != nil {
		t.Fatal(err)
	}
	_, moved, _ := strings.Cut(b.String(), "## Since main\n")
	moved, _, _ = strings.Cut(moved, "\n## ")
	for workload, want := range map[string]string{"echo-slower": "CPU **worse**", "echo-faster": "CPU better", "echo-noisy": "as before", "echo-lost": "not measured"} {
		found := false
		for line := range strings.Lines(moved) {
			if strings.HasPrefix(line, "| "+workload) {
				found = true
				if !strings.Contains(line, want) {
					t.Errorf("%s: %q is missing in %s", workload, want, line)
				}
			}
		}
		if !found {
			t.Errorf("%s has no row in\n%s", workload, moved)
		}
	}
	if !r.worse() {
		t.Error("nothing is said to be worse")
	}
	if r.Outcomes = r.Outcomes[1:]; r.worse() {
		t.Error("what is faster or noise is said to be worse")
	}
}

// Each workload names servers that there are, and each group its workloads.
func TestGroups(t *testing.T) {
	for args, want := range map[string]int{"": len(workloads), "-workloads tls": len(tlsWorkloads), "-workloads ws,tls": len(tlsWorkloads) + len(wsWorkloads), "-workloads latency": len(latencyWorkloads),
		"-workloads all": len(allWorkloads), "-workloads tcp,tls-idle": len(workloads) + 1} {
		c, err := parse(strings.Fields(args), &strings.Builder{})
		if err != nil || len(c.workloads) != want {
			t.Errorf("%q: %d workloads, want %d, error %v", args, len(c.workloads), want, err)
		}
		for _, w := range c.workloads {
			if len(c.on(w)) != len(w.servers()) {
				t.Errorf("%s is measured on %v", w, c.on(w))
			}
		}
	}
	c, err := parse(strings.Fields("-workloads echo-64x64,tls-echo-64x64,ws-echo-64x64 -servers nbio,std"), &strings.Builder{})
	if err != nil || names(c.on(c.workloads[0])) != "nbio, std" || names(c.on(c.workloads[1])) != "std, nbio" || names(c.on(c.workloads[2])) != "nbio" {
		t.Errorf("%+v, %v", c, err)
	}
	var said strings.Builder
	if code := run(t.Context(), strings.Fields("-workloads tls-idle -servers gnet"), &said, &said); code != exitUsage || !strings.Contains(said.String(), "none of them can serve tls-idle") {
		t.Errorf("exit code %d, said %s", code, &said)
	}
}

func TestNumbers(t *testing.T) {
	for _, tt := range []struct {
		value float64
		want  string
	}{
		{0, "0"}, {0.00872, "0.00872"}, {0.123456, "0.123"}, {1.005, "1.00"}, {12.34, "12.3"}, {123.4, "123"}, {1234.5, "1,234"}, {1234567, "1,234,567"},
	} {
		if got := digits(tt.value); got != tt.want {
			t.Errorf("digits(%v) = %s, want %s", tt.value, got, tt.want)
		}
	}
	for value, want := range map[float64]string{-0.2: "0", -1234: "-1,234", 999: "999", 1000: "1,000"} {
		if got := thousands(value); got != want {
			t.Errorf("thousands(%v) = %s, want %s", value, got, want)
		}
	}
	for value, want := range map[float64]string{1: "1.00", 0.0234: "0.023", 47.2: "47.20"} {
		if got := ratioText(value); got != want {
			t.Errorf("ratioText(%v) = %s, want %s", value, got, want)
		}
	}
}

func TestFlags(t *testing.T) {
	for args, want := range map[string]string{
		"-workloads churn,nope":    `there is no "nope"`,
		"-servers gnet,,":          `there is no ""`,
		"-rounds 0":                "use a positive number",
		"-duration 1ms":            "use 100ms or more",
		"-warmup -1s":              "use 0 or a positive time",
		"-server-cpu 3-1":          "use numbers and ranges",
		"-client-cpu x":            "use numbers and ranges",
		"-out /nowhere/at/all/it":  "there is no folder /nowhere/at/all",
		"echo":                     "everything is set by flags",
		"-base main -servers ours": "-servers needs ours and ours-again",
		"-base main -rounds 1":     "1 rounds cannot tell a move from noise; use 5",
	} {
		var said strings.Builder
		if code := run(t.Context(), strings.Fields(args), &said, &said); code != exitUsage || !strings.Contains(said.String(), want) {
			t.Errorf("%s: exit code %d, said %s", args, code, &said)
		}
	}
	c, err := parse(strings.Fields("-workloads idle,churn -servers cepoll,ours -server-cpu 2,4-5"), &strings.Builder{})
	if err != nil || names(c.workloads) != "churn, idle" || names(c.servers) != "ours, cepoll" || len(c.serverCPU) != 3 {
		t.Errorf("%+v, %v", c, err)
	}
	if got, want := command([]string{"-out", "", "-rounds", "3"}), "go run ./compare -out '' -rounds 3"; got != want {
		t.Errorf("%s, want %s", got, want)
	}
}
