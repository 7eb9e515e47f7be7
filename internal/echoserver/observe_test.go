package echoserver

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/engine"
)

// testPages stand for those of package observe: /state says what they were told, /events stays open.
func testPages(e *engine.Engine, o PagesOptions) http.Handler {
	mux := http.NewServeMux()
	mux.HandleFunc("/state", func(w http.ResponseWriter, _ *http.Request) {
		fmt.Fprintf(w, "process %d %v admin=%v token=%q level=%v", os.Getpid(), e.State(), o.Admin, o.Token, o.Level.Level())
	})
	mux.HandleFunc("/events", func(w http.ResponseWriter, r *http.Request) {
		_ = http.NewResponseController(w).Flush()
		<-r.Context().Done()
	})
	return mux
}

// observers returns one value of -observe for each kind of address.
func observers(t *testing.T) []string { return everyAddr(t)[:2] }

// pagesOf returns a client for the pages that a server says it serves. Each request has a connection of its own.
func pagesOf(t *testing.T, s *server) (c *http.Client, url string) {
	t.Helper()
	s.out.wait(t, "observe on ", 1)
	s.out.wait(t, "\n", 2)
	_, said, _ := strings.Cut(s.out.String(), "observe on ")
	said, _, _ = strings.Cut(said, "\n")
	transport := &http.Transport{DisableKeepAlives: true}
	if path, ok := strings.CutPrefix(said, "unix:"); ok {
		transport.DialContext = func(ctx context.Context, _, _ string) (net.Conn, error) {
			return new(net.Dialer).DialContext(ctx, "unix", path)
		}
		said = "http://echoserver/"
	}
	return &http.Client{Transport: transport, Timeout: patience}, strings.TrimSuffix(said, "/")
}

// state returns what /state answers.
func state(c *http.Client, url string) (string, error) {
	resp, err := c.Get(url + "/state")
	if err != nil {
		return "", err
	}
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	if err == nil && resp.StatusCode != http.StatusOK {
		err = errors.New(resp.Status)
	}
	return string(text), err
}

// An address in use is an error that names it, and the server does not start.
func TestObserveAddressInUse(t *testing.T) {
	for _, addr := range observers(t) {
		network, address, err := parseAddr("observe", addr)
		if err != nil {
			t.Fatal(err)
		}
		ln, err := net.Listen(network, address)
		if err != nil {
			t.Fatal(err)
		}
		used := formatAddr(ln.Addr())
		var stdout, stderr bytes.Buffer
		if code := MainWithPages(t.Context(), testPages, []string{"-addr", "127.0.0.1:0", "-observe", used}, nil, &stdout, &stderr); code != exitFault {
			t.Errorf("%s: exit code %d, want %d", used, code, exitFault)
		}
		if stdout.Len() > 0 || !strings.Contains(stderr.String(), "cannot listen on -observe "+used) {
			t.Errorf("%s: stdout %q, stderr %q", used, &stdout, &stderr)
		}
		if err := ln.Close(); err != nil {
			t.Error(err)
		}
	}
}

// A program without pages says so.
func TestObserveWithoutPages(t *testing.T) {
	var stdout, stderr bytes.Buffer
	if code := Main(t.Context(), []string{"-observe", "127.0.0.1:0"}, nil, &stdout, &stderr); code != exitUsage ||
		stdout.Len() > 0 || !strings.Contains(stderr.String(), "this program has no pages to serve") {
		t.Errorf("exit code %d, stdout %q, stderr %q", code, &stdout, &stderr)
	}
}

// The pages get the settings and the token of the environment.
func TestObserveSettings(t *testing.T) {
	c, err := parseFlags([]string{"-observe", "127.0.0.1:0", "-observe-admin"}, []string{"ECHOSERVER_LOG_LEVEL=warn"})
	if err != nil {
		t.Fatal(err)
	}
	o, err := openObserver(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer o.close()
	if !c.observeAdmin || c.logLevel != slog.LevelWarn || o.addr != "127.0.0.1:0" {
		t.Errorf("settings %+v, observer of %s", c, o.addr)
	}
}

// A malformed variable of a predecessor is an error that names it.
func TestObserveBadInheritance(t *testing.T) {
	for _, value := range []string{"5", "x 127.0.0.1:1", "3 127.0.0.1:1", "-1 127.0.0.1:1"} {
		_, err := openObserver(&config{observe: "127.0.0.1:1"}, []string{observeSocket + "=" + value})
		if err == nil || !strings.Contains(err.Error(), fmt.Sprintf("%s=%q, want the number of a descriptor", observeSocket, value)) {
			t.Errorf("%q: %v", value, err)
		}
	}
}
