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

// A restart, by SIGUSR2, replaces the process without refusing a connection:
//
//	old process                               new process
//	starts the program with its listening
//	sockets and a channel
//	                                          reads its settings, accepts on the sockets
//	                                          sends ready
//	closes its listeners; sessions go on
//	notifies the service manager
//	sends released
//	drains, exits                             is the main process
//
// Between ready and the closing of the listeners both processes accept. No connection is lost in a queue that is closed: the queue
// belongs to the socket, which both processes have.
//
// If the channel ends without ready, or ready does not come in time, the old process goes on as before. If the old process has to stop
// while the new one starts, it sends refused, and the new one drains and exits. If the channel ends without a message of the old
// process, the old process has died, and the new one serves in its place.
//
// The signal is not SIGHUP, because a terminal sends that to its programs when it is closed, and they should end.

// inheritance is the variable that describes what a new process inherits: the number of sockets, a space, and the -addr for which they
// were opened. The -addr is empty if a service manager has opened the sockets. The channel is descriptor firstInherited; the sockets
// follow it.
const (
	inheritance    = "ECHOSERVER_INHERITANCE"
	firstInherited = 3
)

// The messages on the channel, of one byte each.
const (
	ready    = 1   // from the new process: it accepts connections
	released = 2   // from the old process: the new one is the main process
	refused  = 3   // from the old process: the new one must drain and exit
	died     = 0   // stands for the end of the channel without a message
	silent   = 255 // stands for no answer: the predecessor is an older version, whose channel is a pipe
)

// startTimeout is how long a new process may take until it accepts. endTimeout is how long a new process that was refused may drain
// before it is killed. Tests make both shorter.
var (
	startTimeout = 30 * time.Second
	endTimeout   = drainTimeout + time.Second
)

// predecessor is the process that has started this one as its replacement.
type predecessor struct {
	addr    string // the -addr for which the sockets were opened; "" if a service manager has opened them
	files   []*os.File
	channel *os.File
	environ []string
	answer  chan byte // released, refused, died or silent
}

// findPredecessor returns the predecessor that environ names, or nil.
func findPredecessor(environ []string) (*predecessor, error) {
	value := lookup(environ, inheritance)
	if value == "" {
		return nil, nil
	}
	count, addr, ok := strings.Cut(value, " ")
	n, err := strconv.Atoi(count)
	if !ok || err != nil || n < 1 {
		return nil, fmt.Errorf("cannot take over from a predecessor: %s=%q, want a number of sockets, a space and an address; unset it", inheritance, value)
	}
	_ = syscall.SetNonblock(firstInherited, true) // so that Close ends a Read
	p := &predecessor{addr: addr, environ: environ, channel: inherited(firstInherited, "channel to the predecessor"), answer: make(chan byte, 1)}
	for i := range n {
		p.files = append(p.files, inherited(firstInherited+1+i, fmt.Sprintf("socket %d of the predecessor", i+1)))
	}
	go func() { // the predecessor may refuse before it gets ready
		b := []byte{died}
		if _, err := p.channel.Read(b); errors.Is(err, syscall.EBADF) {
			b[0] = silent
		}
		p.answer <- b[0]
	}()
	return p, nil
}

// lookup returns the value of a variable. If the variable has several entries, the last one counts.
func lookup(environ []string, name string) (value string) {
	for _, v := range environ {
		if rest, ok := strings.CutPrefix(v, name+"="); ok {
			value = rest
		}
	}
	return value
}

// inherited returns a descriptor with which the process was started. A process that this one starts does not inherit it.
func inherited(fd int, name string) *os.File {
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), name)
}

// answers returns p.answer, or nil for a nil p.
func (p *predecessor) answers() chan byte {
	if p == nil {
		return nil
	}
	return p.answer
}

// accepts sends ready to the predecessor. The predecessor's message comes through answer.
func (p *predecessor) accepts() error {
	_, err := p.channel.Write([]byte{ready})
	return err
}

// program is what a restart starts.
type program struct {
	args           []string
	stdout, stderr io.Writer
}

// homePath is the path of the program, and homeDir the folder in which it was started, "" if that folder has been deleted. Both are
// looked up at the start, because later they may lead elsewhere. A symbolic link is not resolved: at a restart it may lead to a new
// version.
var homePath, homeDir, errHome = func() (path, dir string, err error) {
	dir, _ = os.Getwd()
	self, errSelf := os.Executable()
	path, err = exec.LookPath(os.Args[0])
	if err == nil || errors.Is(err, exec.ErrDot) {
		path, err = filepath.Abs(path)
	}
	// os.Args[0] need not name the program.
	if errSelf == nil && (err != nil || !sameFile(path, self)) {
		return self, dir, nil
	}
	return path, dir, err
}()

func sameFile(a, b string) bool {
	x, err := os.Stat(a)
	y, errY := os.Stat(b)
	return err == nil && errY == nil && os.SameFile(x, y)
}

// successor is the process that was started to replace this one.
type successor struct {
	pid      int
	children *children
	channel  *os.File
	ended    <-chan syscall.WaitStatus
	chain    *os.File // reading end of the chain; nil except in the first process of a container
}

// start starts the program with the listening sockets, the secrets for TLS and the socket of -observe. addr is the -addr for which the
// listening sockets were opened.
func (p program) start(children *children, c *chain, listeners []*engine.Listener, addr string, tls *tlsServer, pages *observer) (*successor, error) {
	if errHome != nil {
		return nil, errHome
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	n := &successor{children: children, channel: ours}
	files := []*os.File{theirs}
	defer func() {
		for _, f := range files {
			_ = f.Close()
		}
	}()
	for _, l := range listeners {
		f, err := l.File()
		if err != nil {
			n.close()
			return nil, err
		}
		files = append(files, f)
	}
	env := append(inheritedEnviron(os.Environ()), fmt.Sprintf("%s=%d %s", inheritance, len(listeners), addr))
	up, err := c.next(n)
	if err != nil {
		n.close()
		return nil, err
	}
	if up != nil {
		env = append(env, fmt.Sprintf("%s=%d", chained, firstInherited+len(files)))
		files = append(files, up)
	}
	secrets, err := tls.handOver()
	if err != nil {
		n.close()
		return nil, err
	}
	if secrets != nil {
		env = append(env, fmt.Sprintf("%s=%d", secretsFD, firstInherited+len(files)))
		files = append(files, secrets)
	}
	shown, err := pages.file()
	if err != nil {
		n.close()
		return nil, err
	}
	if shown != nil {
		env = append(env, fmt.Sprintf("%s=%d %s", observeSocket, firstInherited+len(files), pages.addr))
		files = append(files, shown)
	}
	return n, p.run(n, files, env)
}

// run starts the program in the folder with the name of homeDir, as a start by hand would. If that fails, in the folder of this process.
func (p program) run(n *successor, files []*os.File, env []string) (err error) {
	for _, dir := range []string{homeDir, ""} {
		cmd := exec.Command(homePath, p.args...)
		cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles, cmd.Env = dir, os.Stdin, p.stdout, p.stderr, files, env
		if n.pid, n.ended, err = n.children.start(cmd); err == nil {
			return nil
		}
	}
	n.close()
	return err
}

// inheritedAddr returns the -addr that a successor must have to take the sockets over. It is "" for sockets of a service manager, which
// every successor takes over.
func (s *service) inheritedAddr() string {
	if s.managed {
		return ""
	}
	return s.config.addr
}

// inheritedEnviron returns the part of the environment that a successor inherits.
func inheritedEnviron(environ []string) (kept []string) {
	watched := lookup(environ, "WATCHDOG_PID")
	for _, v := range environ {
		switch name, _, _ := strings.Cut(v, "="); name {
		case inheritance, chained, secretsFD, observeSocket, "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES":
		case "WATCHDOG_PID": // the watchdog follows the main process
		case "WATCHDOG_USEC":
			if watched == "" || watched == strconv.Itoa(os.Getpid()) { // otherwise it is for another process
				kept = append(kept, v)
			}
		default:
			kept = append(kept, v)
		}
	}
	return kept
}

// socketPair returns both ends of a channel between two processes.
func socketPair() (a, b *os.File, err error) {
	syscall.ForkLock.RLock()
	pair, err := syscall.Socketpair(syscall.AF_UNIX, syscall.SOCK_STREAM, 0)
	if err == nil {
		syscall.CloseOnExec(pair[0])
		syscall.CloseOnExec(pair[1])
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		return nil, nil, os.NewSyscallError("socketpair", err)
	}
	_ = syscall.SetNonblock(pair[0], true)
	return os.NewFile(uintptr(pair[0]), "channel to the successor"), os.NewFile(uintptr(pair[1]), "channel of the successor"), nil
}

func (n *successor) close() {
	_ = n.channel.Close()
	if n.chain != nil {
		_ = n.chain.Close()
	}
}

// accepts waits until the new process accepts. If it returns an error, the new process has ended. killNow is for end.
func (n *successor) accepts(ctx context.Context, killNow <-chan struct{}) error {
	isReady := make(chan bool, 1)
	go func() {
		b := []byte{0}
		_, _ = n.channel.Read(b)
		isReady <- b[0] == ready
	}()
	late := time.NewTimer(startTimeout)
	defer late.Stop()
	var ok bool
	select {
	case ok = <-isReady:
	case <-late.C:
		// This process may have been stopped (SIGSTOP) for a while. A message that came before now counts.
		_ = n.channel.SetReadDeadline(time.Now().Add(noticeTime))
		if ok = <-isReady; !ok {
			n.end(killNow)
			return fmt.Errorf("the new process does not accept after %v", startTimeout)
		}
	case <-ctx.Done():
	}
	switch {
	case ctx.Err() != nil:
		n.end(killNow)
		return ctx.Err()
	case !ok: // the process has ended, or it is another program
		n.children.kill(n.pid, syscall.SIGKILL)
		status := <-n.ended
		n.close()
		return fmt.Errorf("the new process ended before it accepted: %s", describe(status))
	}
	select {
	case status := <-n.ended:
		_, _ = n.channel.Write([]byte{refused}) // for a child of the new process that has the channel
		n.close()
		return fmt.Errorf("the new process accepted and ended: %s", describe(status))
	default:
		return nil
	}
}

// noticeTime is how long this process may take to notice a message or a signal that has arrived already.
const noticeTime = 100 * time.Millisecond

// end refuses the new process, which may have sessions, and waits until it has ended. It kills the process after endTimeout, or when
// killNow is closed.
func (n *successor) end(killNow <-chan struct{}) {
	_, _ = n.channel.Write([]byte{refused})
	late := time.NewTimer(endTimeout)
	defer late.Stop()
	select {
	case <-n.ended:
		n.close()
		return
	case <-killNow:
	case <-late.C:
	}
	n.children.kill(n.pid, syscall.SIGKILL)
	<-n.ended
	n.close()
}

// release makes the new process the main one.
func (n *successor) release() {
	_, _ = n.channel.Write([]byte{released})
	_ = n.channel.Close()
}

func describe(status syscall.WaitStatus) string {
	if status.Signaled() {
		return "signal: " + status.Signal().String()
	}
	return fmt.Sprintf("exit status %d", status.ExitStatus())
}

// addresses returns the addresses of the listeners, in the form that -addr takes.
func addresses(listeners []*engine.Listener) string {
	var all []string
	for _, l := range listeners {
		all = append(all, formatAddr(l.Addr()))
	}
	return strings.Join(all, ", ")
}
