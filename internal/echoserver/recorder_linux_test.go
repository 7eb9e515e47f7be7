package echoserver

import (
	"os"
	"path/filepath"
	"syscall"
	"testing"

	"github.com/servercore-go/servercore/record"
)

// recordings returns what the files have that a pattern names, which must be n.
func recordings(t *testing.T, pattern string, n int) (all []*record.Recording) {
	t.Helper()
	files, err := filepath.Glob(pattern)
	if err != nil || len(files) != n {
		t.Fatalf("%s names %v (%v), want %d files", pattern, files, err, n)
	}
	for _, file := range files {
		r, err := record.Open(file)
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() {
			if err := r.Close(); err != nil {
				t.Error(err)
			}
		})
		all = append(all, r)
	}
	return all
}

// events counts what the sides of a session did.
func events(t *testing.T, s *record.Session) (n int) {
	t.Helper()
	for _, err := range s.Events() {
		if err != nil {
			t.Fatal(err)
		}
		n++
	}
	return n
}

// -record records what clients send and get to. After a restart the new process has a file of its own.
func TestRecord(t *testing.T) {
	reap(t)
	dir := t.TempDir()
	p := spawn(t, "-addr", "127.0.0.1:0", "-record", filepath.Join(dir, "r.pcapng"))
	if err := call(p.addr()); err != nil {
		t.Fatal(err)
	}
	p.signal(syscall.SIGUSR2)
	pid := p.successor(1)
	p.wantExit(exitOK)
	if err := call(p.addr()); err != nil {
		t.Fatal(err)
	}
	kill(t, pid)
	wantExitOf(t, pid, exitOK)
	for _, r := range recordings(t, filepath.Join(dir, "*"), 2) {
		if len(r.Sessions) != 1 || r.Truncated || !r.Sessions[0].Ended || events(t, r.Sessions[0]) < 3 {
			t.Errorf("%d sessions, truncated %v", len(r.Sessions), r.Truncated)
		}
	}
}

// SIGUSR1 writes the ring, as often as it is asked for, and the server goes on.
func TestRecordRing(t *testing.T) {
	dir := t.TempDir()
	p := spawn(t, "-addr", "127.0.0.1:0", "-record", filepath.Join(dir, "r.pcapng"), "-record-ring", "1")
	for n := range 2 {
		if err := call(p.addr()); err != nil {
			t.Fatal(err)
		}
		p.signal(syscall.SIGUSR1)
		p.log.wait(t, "the recording is written", n+1)
	}
	for i, r := range recordings(t, filepath.Join(dir, "r-*.pcapng"), 2) {
		if len(r.Sessions) != i+1 {
			t.Errorf("dump %d: %d sessions", i, len(r.Sessions))
		}
	}
	if _, err := os.Stat(filepath.Join(dir, "r.pcapng")); err == nil {
		t.Error("the file is written without a signal")
	}
	p.signal(syscall.SIGTERM)
	p.wantExit(exitOK)
}

// A disk that takes nothing does not keep the server from its end.
func TestRecordToAPipe(t *testing.T) {
	pipe := filepath.Join(t.TempDir(), "pipe")
	if err := syscall.Mkfifo(pipe, 0o600); err != nil {
		t.Fatal(err)
	}
	p := spawn(t, "-addr", "127.0.0.1:0", "-record", pipe)
	for range 2000 { // more than the pipe holds
		if err := call(p.addr()); err != nil {
			t.Fatal(err)
		}
	}
	p.signal(syscall.SIGTERM)
	p.log.wait(t, "the disk takes too long", 1)
	p.wantExit(exitOK)
}

// A recording that cannot be made is an error at the start.
func TestRecordNowhere(t *testing.T) {
	out, log := newTranscript(), newTranscript()
	if code := Main(t.Context(), []string{"-addr", "127.0.0.1:0", "-record", "/no/folder/x"}, nil, out, log); code != exitUsage {
		t.Errorf("exit code %d, want %d", code, exitUsage)
	}
	log.wait(t, "-record: record: open /no/folder/x", 1)
}
