package engine_test

import (
	"bufio"
	"io"
	"os"
	"os/exec"
	"strings"
	"syscall"
	"testing"

	kit "github.com/servercore-go/servercore/internal/enginekit"
)

// childRole is the variable that tells a process of the test program to be a child and not to test.
const childRole = "SERVERCORE_TEST_CHILD"

// child runs f and exits if this process was spawned for that role. To be called by init.
func child(role string, f func()) {
	if os.Getenv(childRole) == role {
		f()
		os.Exit(0)
	}
}

// process is a child. It is told a line and answers with one.
type process struct {
	t   testing.TB
	in  io.WriteCloser
	out *bufio.Scanner
}

// spawn starts a child, which ends when its standard input does, at the latest at the end of the test.
func spawn(t testing.TB, role string, attr *syscall.SysProcAttr) *process {
	t.Helper()
	program, err := os.Executable()
	kit.Must(t, err)
	cmd := exec.Command(program)
	cmd.Env = append(os.Environ(), childRole+"="+role)
	cmd.Stderr, cmd.SysProcAttr = os.Stderr, attr
	in, err := cmd.StdinPipe()
	kit.Must(t, err)
	out, err := cmd.StdoutPipe()
	kit.Must(t, err)
	kit.Must(t, cmd.Start())
	t.Cleanup(func() {
		_ = in.Close()
		if err := cmd.Wait(); err != nil {
			t.Errorf("child %s: %v", role, err)
		}
	})
	return &process{t, in, bufio.NewScanner(out)}
}

func (p *process) tell(words ...string) {
	p.t.Helper()
	_, err := io.WriteString(p.in, strings.Join(words, " ")+"\n")
	kit.Must(p.t, err)
}

func (p *process) answer() string {
	p.t.Helper()
	if !p.out.Scan() {
		p.t.Fatalf("the child has ended: %v", p.out.Err())
	}
	return p.out.Text()
}
