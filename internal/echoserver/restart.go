package echoserver

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"github.com/servercore-go/servercore/engine"
)

// A restart, by SIGUSR2, replaces the process and refuses nobody:
//
//	old                                       new
//	starts the program anew, with its
//	listening sockets and one end of a pipe
//	                                          reads its settings, accepts on the sockets
//	                                          writes a byte into the pipe: ready
//	closes its listeners; sessions go on
//	drains, exits
//
// Between the two last lines on the right and the next on the left both accept. Nobody waits in a queue that
// goes away, because the queue belongs to the socket and both have it. If the pipe ends without a byte, or none comes in
// time, the old process goes on as if nothing had been.
//
// The signal is not SIGHUP: that is what a terminal sends to its programs when it goes away, and they should end.

// inheritance is the variable that tells a new process what it was handed: the number of sockets and, after a space, the -addr
// they were opened for, empty if a service manager opened them. The pipe is descriptor firstInherited, the
// sockets follow.
const (
	inheritance    = "ECHOSERVER_INHERITANCE"
	firstInherited = 3
)

// startTimeout is how long the new process may take to accept.
const startTimeout = 30 * time.Second

// predecessor is the process that started this one to be replaced by it.
type predecessor struct {
	addr    string // for which the sockets were opened, "" if a service manager did it
	sockets []socket
	pipe    *os.File
}

// findPredecessor returns nil if there is none.
func findPredecessor(environ []string) (*predecessor, error) {
	var value string
	for _, v := range environ {
		if rest, ok := strings.CutPrefix(v, inheritance+"="); ok {
			value = rest
		}
	}
	if value == "" {
		return nil, nil
	}
	count, addr, ok := strings.Cut(value, " ")
	n, err := strconv.Atoi(count)
	if !ok || err != nil || n < 1 {
		return nil, fmt.Errorf("%s=%q is not what a predecessor says", inheritance, value)
	}
	p := &predecessor{addr: addr, pipe: inherited(firstInherited, "pipe of the predecessor")}
	var files []*os.File
	for i := range n {
		files = append(files, inherited(firstInherited+1+i, fmt.Sprintf("socket %d of the predecessor", i+1)))
	}
	p.sockets, err = takeSockets(files)
	return p, err
}

// inherited is a descriptor that the process started with. It must not pass to the next one by itself.
func inherited(fd int, name string) *os.File {
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), name)
}

// release lets the predecessor go: this process accepts.
func (p *predecessor) release() error {
	if p == nil {
		return nil
	}
	_, err := p.pipe.Write([]byte{1})
	return errors.Join(err, p.pipe.Close())
}

// program is what is to be started anew.
type program struct {
	args           []string
	stdout, stderr io.Writer
}

// homePath is where the program was found, and homeDir the folder it was started in: either may be looked up otherwise later. A
// symbolic link is left as it is, for it may lead to another version by then.
var homePath, homeDir, errHome = func() (path, dir string, err error) {
	if path, err = exec.LookPath(os.Args[0]); err != nil {
		return "", "", err
	}
	if path, err = filepath.Abs(path); err != nil {
		return "", "", err
	}
	dir, err = os.Getwd()
	return path, dir, err
}()

// succeed starts the program with the listeners and returns its process number once it accepts. On an error it is gone.
func (p program) succeed(ctx context.Context, listeners []*engine.Listener, addr string) (pid int, err error) {
	if errHome != nil {
		return 0, errHome
	}
	ctx, cancel := context.WithTimeoutCause(ctx, startTimeout, fmt.Errorf("the new process does not accept after %v", startTimeout))
	defer cancel()
	ready, pipe, err := os.Pipe()
	if err != nil {
		return 0, err
	}
	defer ready.Close()
	files := []*os.File{pipe}
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	for _, l := range listeners {
		f, err := l.File()
		if err != nil {
			return 0, err
		}
		files = append(files, f)
	}

	cmd := exec.Command(homePath, p.args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles = homeDir, p.stdout, p.stderr, files
	for _, v := range os.Environ() {
		switch name, _, _ := strings.Cut(v, "="); name {
		case inheritance, "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES":
		case "WATCHDOG_PID": // the watchdog follows the main process
		default:
			cmd.Env = append(cmd.Env, v)
		}
	}
	cmd.Env = append(cmd.Env, fmt.Sprintf("%s=%d %s", inheritance, len(listeners), addr))
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	_ = pipe.Close() // the new process has the only other one: the pipe ends with it
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()

	said := make(chan bool, 1)
	go func() {
		n, _ := ready.Read(make([]byte, 1))
		said <- n == 1
	}()
	select {
	case ok := <-said:
		if ok {
			return cmd.Process.Pid, nil
		}
		_ = cmd.Process.Kill() // it is gone, or has lost its way
		return 0, fmt.Errorf("the new process ended before it accepted: %v", <-ended)
	case <-ctx.Done():
		_ = cmd.Process.Kill()
		<-ended
		return 0, context.Cause(ctx)
	}
}

// addresses returns where the listeners listen, in the form that -addr takes.
func addresses(listeners []*engine.Listener) string {
	var all []string
	for _, l := range listeners {
		all = append(all, formatAddr(l.Addr()))
	}
	return strings.Join(all, ", ")
}
