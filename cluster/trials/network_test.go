//go:build linux

package trials

import (
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// place is a network namespace: a machine, with one address on the bridge of its trial. It goes with its last process and descriptor.
type place struct {
	t       testing.TB
	file    *os.File
	address string
	work    chan func() // for the one thread that is in it
}

// newPlace makes a namespace, with a thread that stays in it until the test ends.
func newPlace(t testing.TB, address string) *place {
	t.Helper()
	p := &place{t: t, address: address, work: make(chan func())}
	made := make(chan error)
	go func() {
		runtime.LockOSThread() // for good: the thread ends with this goroutine, and with it what is to die with its parent
		err := unix.Unshare(unix.CLONE_NEWNET)
		if err == nil {
			p.file, err = os.Open("/proc/thread-self/ns/net")
		}
		made <- err
		for f := range p.work {
			f()
		}
	}()
	t.Cleanup(func() { close(p.work) })
	must(t, <-made)
	t.Cleanup(func() { p.file.Close() })
	return p
}

// in runs f in the namespace: processes that f starts are there.
func (p *place) in(f func() error) error {
	done := make(chan error)
	p.work <- func() { done <- f() }
	return <-done
}

// sh runs a command, whose words are separated by blanks, in the namespace.
func (p *place) sh(format string, args ...any) {
	p.t.Helper()
	command := fmt.Sprintf(format, args...)
	if err := p.in(func() error { return run(command) }); err != nil {
		p.t.Fatal(err)
	}
}

func run(command string) error {
	words := strings.Fields(command)
	if out, err := exec.Command(words[0], words[1:]...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", command, err, out)
	}
	return nil
}

// network is the machines of one trial: a bridge in the namespace of the tests, where the clients are, and places on it.
type network struct {
	t      testing.TB
	number int
	places map[string]*place
}

// newNetwork makes a bridge. Each number is a subnet: 10.98.NUMBER.0/24.
func newNetwork(t testing.TB, number int) *network {
	t.Helper()
	n := &network{t: t, number: number, places: make(map[string]*place)}
	for _, command := range []string{
		"ip link set lo up",
		fmt.Sprintf("ip link add br%d type bridge", number),
		fmt.Sprintf("ip addr add 10.98.%d.1/24 dev br%d", number, number),
		fmt.Sprintf("ip link set br%d up", number),
	} {
		must(t, run(command))
	}
	t.Cleanup(func() {
		if err := run(fmt.Sprintf("ip link del br%d", number)); err != nil {
			t.Error(err)
		}
	})
	return n
}

// place returns the machine of that name, and makes it if it is not there. host is the last byte of its address.
func (n *network) place(name string, host int) *place {
	n.t.Helper()
	if p := n.places[name]; p != nil {
		return p
	}
	p := newPlace(n.t, fmt.Sprintf("10.98.%d.%d", n.number, host))
	n.places[name] = p
	link := fmt.Sprintf("v%d.%d", n.number, host)
	must(n.t, run(fmt.Sprintf("ip link add %s type veth peer name eth0 netns /proc/%d/fd/%d", link, os.Getpid(), p.file.Fd())))
	must(n.t, run(fmt.Sprintf("ip link set %s master br%d up", link, n.number)))
	p.sh("ip link set lo up")
	p.sh("ip addr add %s/24 dev eth0", p.address)
	p.sh("ip link set eth0 up")
	return p
}

// cut has nothing pass between two places, in either direction, until the function that it returns is called. Both drop it: no one is told.
func cut(a, b *place) (heal func()) {
	rule := func(what string) {
		a.sh("iptables -w %s INPUT -s %s -j DROP", what, b.address)
		b.sh("iptables -w %s INPUT -s %s -j DROP", what, a.address)
	}
	rule("-I")
	return func() { rule("-D") }
}

// listening returns what the namespace's TCP sockets listen on.
func (p *place) listening() (addresses []string) {
	p.t.Helper()
	must(p.t, p.in(func() error {
		out, err := exec.Command("ss", "-Hltn").Output()
		for line := range strings.Lines(string(out)) {
			if f := strings.Fields(line); len(f) > 3 {
				addresses = append(addresses, f[3])
			}
		}
		return err
	}))
	return addresses
}

func must(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}
