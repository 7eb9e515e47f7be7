package echoserver

import (
	"bytes"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"

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

// The end of the pages answers a request whose connection was accepted, ends one that lasts, and does not wait for its patience.
func TestObserveAnswersWhatItAccepted(t *testing.T) {
	c, err := parseFlags([]string{"-observe", "127.0.0.1:0"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	o, err := openObserver(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	begun, goOn := make(chan struct{}, 2), make(chan struct{})
	mux := http.NewServeMux()
	mux.HandleFunc("/slow", func(w http.ResponseWriter, _ *http.Request) {
		begun <- struct{}{}
		<-goOn
		fmt.Fprint(w, "an answer")
	})
	mux.HandleFunc("/events", func(_ http.ResponseWriter, r *http.Request) {
		begun <- struct{}{}
		<-r.Context().Done()
		close(goOn) // the slow one is answered after the end has begun
	})
	o.serve(mux, slog.New(slog.DiscardHandler))
	url := "http://" + o.listener.Addr().String()
	client := &http.Client{Transport: &http.Transport{DisableKeepAlives: true}, Timeout: patience}
	answers := make(chan string, 2)
	for _, path := range []string{"/slow", "/events"} {
		go func() {
			resp, err := client.Get(url + path)
			if err != nil {
				answers <- path + ": " + err.Error()
				return
			}
			defer resp.Body.Close()
			body, err := io.ReadAll(resp.Body)
			answers <- fmt.Sprintf("%s: %s %v", path, body, err)
		}()
		<-begun
	}
	began := time.Now()
	o.close()
	if took := time.Since(began); took >= pagesPatience {
		t.Errorf("the end took %v", took)
	}
	got := []string{<-answers, <-answers}
	if slices.Sort(got); !slices.Equal(got, []string{"/events:  <nil>", "/slow: an answer <nil>"}) {
		t.Errorf("answers %q", got)
	}
}

// A process that takes the socket over removes its path at the end only if it has become the main one: else the predecessor goes on with it.
func TestObserveLeavesThePathToItsPredecessor(t *testing.T) {
	addr := observers(t)[1]
	c, err := parseFlags([]string{"-observe", addr}, nil)
	if err != nil {
		t.Fatal(err)
	}
	before, err := openObserver(c, nil)
	if err != nil {
		t.Fatal(err)
	}
	defer before.close()
	for _, main := range []bool{false, true} {
		f, err := before.file()
		if err != nil {
			t.Fatal(err)
		}
		fd, err := syscall.Dup(int(f.Fd()))
		if err != nil {
			t.Fatal(err)
		}
		_ = f.Close()
		next, err := openObserver(c, []string{fmt.Sprintf("%s=%d %s", observeSocket, fd, addr)})
		if err != nil {
			t.Fatal(err)
		}
		if main {
			next.own()
		}
		next.close()
		_, err = os.Lstat(c.observeAddress)
		if gone := os.IsNotExist(err); gone != main {
			t.Errorf("the process is the main one: %v; the path is gone: %v, want the same", main, gone)
		}
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

// The descriptor that a successor is started with leaves the socket as it is: an Accept on a blocking one would not end with the listener.
func TestObserveStaysNonblocking(t *testing.T) {
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer ln.Close()
	f, err := (&observer{listener: ln}).file()
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	flags, err := unix.FcntlInt(f.Fd(), unix.F_GETFL, 0) // as package exec asks for it
	if err != nil {
		t.Fatal(err)
	}
	if flags&unix.O_NONBLOCK == 0 {
		t.Error("the socket is blocking from then on")
	}
}
