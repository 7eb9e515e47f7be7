package main

import (
	"encoding/json"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/tools/million/figures"
)

// What netbench has measured comes into the result, for each phase.
func TestOutcome(t *testing.T) {
	const idle = `{"totals": {"asked_per_s": 200, "messages_per_s": 199, "messages": 1990, "messages_after_end": 1, "conns_echoed": 5000},
		"errors": {"timeout": 2, "reset": 1},
		"distributions": [{"name": "reply", "count": 9, "latency_p50_us": 1, "latency_p99_us": 2, "latency_max_us": 3}, {"name": "connect", "latency_p50_us": 4, "latency_p99_us": 5}]}`
	const fanout = `{"totals": {"messages": 5000, "messages_after_end": 5000}, "errors": {},
		"distributions": [{"name": "delivery", "latency_p50_us": 1}, {"name": "round", "count": 2, "latency_max_us": 2500000}]}`
	var o outcome
	if err := json.Unmarshal([]byte(idle), &o); err != nil {
		t.Fatal(err)
	}
	r := &figures.Result{Phase: figures.Idle}
	o.into(r)
	want := figures.Client{Errors: 3, AskedPerS: 200, PerS: 199, P50: 1, P99: 2, Max: 3, ConnectP50: 4, ConnectP99: 5}
	if r.Client != want || r.Verified != 5000 {
		t.Errorf("%+v, %d verified", r.Client, r.Verified)
	}
	o = outcome{}
	if err := json.Unmarshal([]byte(fanout), &o); err != nil {
		t.Fatal(err)
	}
	r = &figures.Result{Phase: figures.Fanout}
	o.into(r)
	if r.Client.Rounds != 2 || r.Client.Round != 2.5 || r.Verified != 5000 || r.Client.P50 != 1 {
		t.Errorf("%+v, %d verified", r.Client, r.Verified)
	}
}

// A result keeps as many samples as asked for, spread over the phase, and the last one.
func TestThin(t *testing.T) {
	list := make([]figures.Sample, 1000)
	for i := range list {
		list[i].At = float64(i)
	}
	got := thin(list, 10)
	if len(got) != 10 || got[0].At != 99 || got[9].At != 999 {
		t.Errorf("%v", got)
	}
	if got := thin(list[:5], 10); len(got) != 5 {
		t.Errorf("%d of 5", len(got))
	}
}

// What a failure shows is the end of the log, without the lines of the garbage collector.
func TestTail(t *testing.T) {
	log := strings.Repeat("early\n", 20) + "gc 7 @1.2s 0%: 0.01+2.3+0.02 ms clock\nlevel=ERROR msg=last\n"
	got := tail(log)
	if !strings.HasSuffix(got, "early\nlevel=ERROR msg=last") || strings.Count(got, "\n") != 11 {
		t.Errorf("%q", got)
	}
}

// A page that does not answer in time ends no phase; a server that has ended does.
func TestLateIsNotGone(t *testing.T) {
	quit := make(chan struct{})
	page := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-quit }))
	s := &server{url: page.URL + "/", http: http.Client{Timeout: 10 * time.Millisecond}}
	if _, err := s.scrape(t.Context()); !isLate(err) {
		t.Errorf("no answer in time is taken for the end: %v", err)
	}
	close(quit)
	page.Close()
	if _, err := s.scrape(t.Context()); err == nil || isLate(err) {
		t.Errorf("a server that is gone is taken for late: %v", err)
	}
}
