package echoserver

import (
	"bytes"
	"errors"
	"io"
	"os"
	"os/exec"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// A process is the program in a process of its own.
type process struct {
	*server
	cmd  *exec.Cmd
	exit chan int
}

func spawn(t *testing.T, args ...string) *process {
	t.Helper()
	self, err := os.Executable()
	if err != nil {
		t.Fatal(err)
	}
	return launch(t, exec.Command(self, args...))
}

// launch starts a command that runs the program, and waits until the program accepts. Later processes, after a restart, write to the
// same transcripts.
func launch(t *testing.T, cmd *exec.Cmd) *process {
	t.Helper()
	p := &process{
		server: &server{t, newTranscript(), newTranscript()},
		cmd:    cmd,
		exit:   make(chan int, 1),
	}
	p.cmd.Env = append(append(os.Environ(), asServer+"=1", hasty), p.cmd.Env...)
	var copied sync.WaitGroup
	var readers []*os.File
	collect := func(tr *transcript) *os.File {
		r, w, err := os.Pipe()
		if err != nil {
			t.Fatal(err)
		}
		readers = append(readers, r)
		copied.Go(func() {
			io.Copy(tr, r)
			tr.close()
		})
		return w
	}
	out, log := collect(p.out), collect(p.log)
	p.cmd.Stdout, p.cmd.Stderr = out, log
	err := p.cmd.Start()
	out.Close()
	log.Close()
	if err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		p.cmd.Wait()
		p.exit <- p.cmd.ProcessState.ExitCode()
	}()
	t.Cleanup(func() {
		p.cmd.Process.Kill()
		<-ended
		for _, r := range readers { // a successor that a test has left may have the other end
			r.Close()
		}
		copied.Wait()
	})
	p.out.wait(t, "\n", 1)
	return p
}

func (p *process) signal(s os.Signal) {
	p.t.Helper()
	if err := p.cmd.Process.Signal(s); err != nil {
		p.t.Fatal(err)
	}
}

func (p *process) wantExit(code int) {
	p.t.Helper()
	select {
	case got := <-p.exit:
		if got != code {
			p.t.Errorf("exit code %d, want %d, log:\n%s", got, code, p.log)
		}
	case <-time.After(patience):
		p.t.Errorf("no exit, log:\n%s", p.log)
	}
}

// After a signal, each client gets all that was queued for it and then the end of the stream, and the program exits.
func TestSignalDrains(t *testing.T) {
	for _, sig := range []os.Signal{syscall.SIGTERM, os.Interrupt} {
		t.Run(sig.String(), func(t *testing.T) {
			p := spawn(t, "-mode", "broadcast", "-log-level", "debug", "-addr", "127.0.0.1:0")
			speaker, witness, late := p.dial(), p.dial(), p.dial()
			p.log.wait(t, "msg=connected", 3)
			said := noise(512 << 10)
			if _, err := speaker.Write(said); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(witness, make([]byte, len(said))); err != nil {
				t.Fatal(err)
			}
			// When the witness has this byte, everything before it is queued for every member.
			if _, err := speaker.Write([]byte{0}); err != nil {
				t.Fatal(err)
			}
			if _, err := io.ReadFull(witness, make([]byte, 1)); err != nil {
				t.Fatal(err)
			}
			p.signal(sig)
			p.log.wait(t, "draining; ", 1)
			got, err := io.ReadAll(late)
			if err != nil || !bytes.HasPrefix(got, said) {
				t.Errorf("%d of %d bytes after the signal, error %v", len(got), len(said), err)
			}
			late.Close()
			for _, c := range []stream{speaker, witness} {
				if _, err := io.ReadAll(c); err != nil {
					t.Error(err)
				}
				c.Close()
			}
			p.wantExit(exitOK)
		})
	}
}

// A second signal aborts a stop that waits for a client.
func TestSecondSignalAborts(t *testing.T) {
	p := spawn(t, "-addr", "127.0.0.1:0")
	c := p.dial()
	// A client that does not read: the server cannot deliver what is queued for it.
	chunk := noise(256 << 10)
	for {
		c.SetWriteDeadline(time.Now().Add(500 * time.Millisecond))
		if _, err := c.Write(chunk); errors.Is(err, os.ErrDeadlineExceeded) {
			break
		} else if err != nil {
			t.Fatal(err)
		}
	}
	p.signal(syscall.SIGTERM)
	p.log.wait(t, "draining; ", 1)
	p.signal(os.Interrupt)
	p.wantExit(exitFault)
	if !strings.Contains(p.log.String(), "aborting") {
		t.Errorf("the log does not mention the abort:\n%s", p.log)
	}
}

func TestSignalWithoutClients(t *testing.T) {
	p := spawn(t, "-addr", "127.0.0.1:0", "-stats", "1s")
	p.signal(syscall.SIGTERM)
	p.wantExit(exitOK)
}
