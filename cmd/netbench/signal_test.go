package main

import (
	"bytes"
	"net"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// A real Ctrl-C, of a process of its own, ends the run and reports.
func TestSignal(t *testing.T) {
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	var out, errs bytes.Buffer
	cmd := exec.CommandContext(t.Context(), self, "-test.run=^TestAsProgram$")
	cmd.Env = append(os.Environ(), asProgram+"=idle -conns 3 -warmup 0 -duration 1m -addr "+l.Addr().String())
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// It listens for signals before it connects.
	for range 3 {
		c, err := l.Accept()
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
	}
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	cmd.Wait()
	if code := cmd.ProcessState.ExitCode(); code != exitOK || !strings.Contains(out.String(), "interrupted after") {
		t.Errorf("code %d, stdout %q, stderr %q", code, &out, &errs)
	}
}

const asProgram = "NETBENCH_TEST_AS_PROGRAM"

// TestAsProgram is netbench itself when another test starts this binary.
func TestAsProgram(t *testing.T) {
	if line := os.Getenv(asProgram); line != "" {
		if strings.HasPrefix(line, "demo") {
			demoTime = time.Minute // it must not end by itself
		}
		os.Exit(run(t.Context(), strings.Fields(line), os.Stdout, os.Stderr))
	}
}
