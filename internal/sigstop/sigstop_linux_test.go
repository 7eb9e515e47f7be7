package sigstop

import (
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"testing"

	"golang.org/x/sys/unix"
)

// TestMain is also the child: threads that are busy until its standard input ends.
func TestMain(m *testing.M) {
	if os.Getenv("SIGSTOP_CHILD") == "" {
		os.Exit(m.Run())
	}
	var running sync.WaitGroup
	for range 8 {
		running.Add(1)
		go func() {
			runtime.LockOSThread() // each is a thread
			running.Done()
			for {
				_ = unix.Getppid()
			}
		}()
	}
	running.Wait()
	fmt.Println("runs")
	_, _ = io.Copy(io.Discard, os.Stdin)
}

// Every thread has stopped when Stop returns, again after SIGCONT, and also of a child that is stopped already.
func TestStop(t *testing.T) {
	c := exec.Command(os.Args[0])
	c.Env = append(os.Environ(), "SIGSTOP_CHILD=1", "GOMAXPROCS=8")
	in, err := c.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	out, err := c.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = out.Read(make([]byte, 100)) // it runs
	pid := c.Process.Pid
	for i := range 30 {
		for range 1 + i%2 {
			if err := Stop(pid); err != nil {
				t.Fatal(err)
			}
			threads, err := filepath.Glob(fmt.Sprintf("/proc/%d/task/*/status", pid))
			if err != nil || len(threads) < 9 {
				t.Fatalf("%d threads, %v", len(threads), err)
			}
			for _, name := range threads {
				if text, err := os.ReadFile(name); err == nil && !strings.Contains(string(text), "State:\tT") {
					t.Fatalf("%d: a thread goes on: %s", i, text)
				}
			}
		}
		if err := unix.Kill(pid, unix.SIGCONT); err != nil {
			t.Fatal(err)
		}
	}
	_ = in.Close()
	for err := error(nil); !strings.Contains(fmt.Sprint(err), "has ended"); err = Stop(pid) { // it is not waited for yet
		if err != nil {
			t.Fatal(err)
		}
		_ = unix.Kill(pid, unix.SIGCONT)
	}
	if err := c.Wait(); err != nil {
		t.Fatal(err)
	}
	if err := Stop(pid); !errors.Is(err, unix.ESRCH) {
		t.Errorf("of a child that has ended: %v", err)
	}
}
