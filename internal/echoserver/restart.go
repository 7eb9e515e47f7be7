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
//	listening sockets and a channel
//	                                          reads its settings, accepts on the sockets
//	                                          sends ready
//	closes its listeners; sessions go on
//	tells the service manager
//	sends released
//	drains, exits                             is the main process
//
// Between ready and the closing of the listeners both accept. No connection waits in a queue that goes away, because
// the queue belongs to the socket and both have it.
//
// If the channel ends without ready, or ready does not come in time, the old process goes on as if nothing had been. If it
// gives up while the new one starts, it sends refused, and the new one drains and exits. If the channel ends without a word
// of the old process, that one has died, and the new one serves in its place.
//
// The signal is not SIGHUP: that is what a terminal sends to its programs when it goes away, and they should end.

// inheritance is the variable that tells a new process what it was handed: the number of sockets and, after a space, the -addr
// they were opened for, empty if a service manager opened them. The channel is descriptor firstInherited, the
// sockets follow.
const (
	inheritance    = "ECHOSERVER_INHERITANCE"
	firstInherited = 3
)

// What goes through the channel, a byte each.
const (
	ready    = 1
	released = 2
	refused  = 3
	died     = 0   // the end of the channel
	silent   = 255 // the predecessor is an older version, whose channel is a pipe: it does not answer
)

// startTimeout is how long the new process may take to accept, endTimeout how long it may take to drain when it is refused before
// it is killed. Tests make them shorter.
var (
	startTimeout = 30 * time.Second
	endTimeout   = drainTimeout + time.Second
)

// predecessor is the process that started this one to be replaced by it.
type predecessor struct {
	addr    string // for which the sockets were opened, "" if a service manager did it
	files   []*os.File
	channel *os.File
	answer  chan byte // released, refused, died or silent
}

// findPredecessor returns nil if there is none.
func findPredecessor(environ []string) (*predecessor, error) {
	value := lookup(environ, inheritance)
	if value == "" {
		return nil, nil
	}
	count, addr, ok := strings.Cut(value, " ")
	n, err := strconv.Atoi(count)
	if !ok || err != nil || n < 1 {
		return nil, fmt.Errorf("%s=%q is not what a predecessor says", inheritance, value)
	}
	_ = syscall.SetNonblock(firstInherited, true) // so that close ends a read
	p := &predecessor{addr: addr, channel: inherited(firstInherited, "channel to the predecessor"), answer: make(chan byte, 1)}
	for i := range n {
		p.files = append(p.files, inherited(firstInherited+1+i, fmt.Sprintf("socket %d of the predecessor", i+1)))
	}
	go func() { // it may answer before it is told anything
		b := []byte{died}
		if _, err := p.channel.Read(b); errors.Is(err, syscall.EBADF) {
			b[0] = silent
		}
		p.answer <- b[0]
	}()
	return p, nil
}

// lookup returns the value of a variable, of its last entry if there are several.
func lookup(environ []string, name string) (value string) {
	for _, v := range environ {
		if rest, ok := strings.CutPrefix(v, name+"="); ok {
			value = rest
		}
	}
	return value
}

// inherited is a descriptor that the process started with. It must not pass to the next one by itself.
func inherited(fd int, name string) *os.File {
	syscall.CloseOnExec(fd)
	return os.NewFile(uintptr(fd), name)
}

// answers is nil-safe access to answer.
func (p *predecessor) answers() chan byte {
	if p == nil {
		return nil
	}
	return p.answer
}

// accepts tells the predecessor that this process accepts. Its answer comes through answer.
func (p *predecessor) accepts() error {
	_, err := p.channel.Write([]byte{ready})
	return err
}

// program is what is to be started anew.
type program struct {
	args           []string
	stdout, stderr io.Writer
}

// homePath is where the program was found, and homeDir the folder it was started in, "" if that has no name any more: either
// may be looked up otherwise later. A symbolic link is left as it is, for it may lead to another version by then.
var homePath, homeDir, errHome = func() (path, dir string, err error) {
	dir, _ = os.Getwd()
	self, errSelf := os.Executable()
	path, err = exec.LookPath(os.Args[0])
	if err == nil || errors.Is(err, exec.ErrDot) {
		path, err = filepath.Abs(path)
	}
	// The name that a program is started by need not be its own.
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

// successor is a process that was started to replace this one.
type successor struct {
	pid     int
	family  *children
	channel *os.File
	ended   <-chan syscall.WaitStatus
	chain   *os.File // see chain; nil but in the first process of a container
}

// start starts the program with the listeners. The -addr is the one that they were opened for.
func (p program) start(family *children, c *chain, listeners []*engine.Listener, addr string) (*successor, error) {
	if errHome != nil {
		return nil, errHome
	}
	ours, theirs, err := socketPair()
	if err != nil {
		return nil, err
	}
	n := &successor{family: family, channel: ours}
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
	// In the folder by its name, as for a start by hand, or else in the one that this process is in.
	for _, dir := range []string{homeDir, ""} {
		cmd := exec.Command(homePath, p.args...)
		cmd.Dir, cmd.Stdin, cmd.Stdout, cmd.Stderr, cmd.ExtraFiles, cmd.Env = dir, os.Stdin, p.stdout, p.stderr, files, env
		if n.pid, n.ended, err = family.start(cmd); err == nil {
			return n, nil
		}
	}
	n.close()
	return nil, err
}

// inheritedEnviron is what of the environment a successor gets.
func inheritedEnviron(environ []string) (kept []string) {
	watched := lookup(environ, "WATCHDOG_PID")
	for _, v := range environ {
		switch name, _, _ := strings.Cut(v, "="); name {
		case inheritance, chained, "LISTEN_PID", "LISTEN_PIDFDID", "LISTEN_FDS", "LISTEN_FDNAMES":
		case "WATCHDOG_PID": // the watchdog follows the main process
		case "WATCHDOG_USEC":
			if watched == "" || watched == strconv.Itoa(os.Getpid()) { // or else it is about another process
				kept = append(kept, v)
			}
		default:
			kept = append(kept, v)
		}
	}
	return kept
}

// socketPair returns the two ends of a channel between processes.
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

// accepts waits until the new process accepts. On an error it is gone; hurry is for end.
func (n *successor) accepts(ctx context.Context, hurry <-chan struct{}) error {
	said := make(chan bool, 1)
	go func() {
		b := []byte{0}
		_, _ = n.channel.Read(b)
		said <- b[0] == ready
	}()
	late := time.NewTimer(startTimeout)
	defer late.Stop()
	var ok bool
	select {
	case ok = <-said:
	case <-late.C:
		// This process may have been stopped meanwhile: what was said before now counts.
		_ = n.channel.SetReadDeadline(time.Now().Add(lookTime))
		if ok = <-said; !ok {
			n.end(hurry)
			return fmt.Errorf("the new process does not accept after %v", startTimeout)
		}
	case <-ctx.Done():
	}
	switch {
	case ctx.Err() != nil:
		n.end(hurry)
		return ctx.Err()
	case !ok: // it is gone, or it is not this program
		n.family.kill(n.pid, syscall.SIGKILL)
		status := <-n.ended
		n.close()
		return fmt.Errorf("the new process ended before it accepted: %s", describe(status))
	}
	select {
	case status := <-n.ended:
		_, _ = n.channel.Write([]byte{refused}) // for a child of it that has the channel
		n.close()
		return fmt.Errorf("the new process accepted and ended: %s", describe(status))
	default:
		return nil
	}
}

// lookTime is how long it may take to hear what has come already: a byte of the channel, or a signal.
const lookTime = 100 * time.Millisecond

// end refuses the new process, which may have sessions by now, and waits until it is gone. It is killed when it takes
// longer than endTimeout, or when hurry is closed.
func (n *successor) end(hurry <-chan struct{}) {
	_, _ = n.channel.Write([]byte{refused})
	late := time.NewTimer(endTimeout)
	defer late.Stop()
	select {
	case <-n.ended:
		n.close()
		return
	case <-hurry:
	case <-late.C:
	}
	n.family.kill(n.pid, syscall.SIGKILL)
	<-n.ended
	n.close()
}

// release lets the new process be the main one.
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

// addresses returns where the listeners listen, in the form that -addr takes.
func addresses(listeners []*engine.Listener) string {
	var all []string
	for _, l := range listeners {
		all = append(all, formatAddr(l.Addr()))
	}
	return strings.Join(all, ", ")
}
