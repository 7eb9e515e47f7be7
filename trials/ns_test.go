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

// Addresses of the two ends of a link between namespaces. The server listens on the far one, in the far namespace; its
// bystanders are there as well, and reach it without the link.
const (
	nearAddress = "10.99.0.1"
	farAddress  = "10.99.0.2"
)

// namespace is a network namespace without a name. It disappears with its last process and descriptor, however the test ends.
type namespace struct{ file *os.File }

// do runs f with the goroutine's thread in the namespace, so that sockets and processes that f makes are in it. A nil namespace is that
// of the test.
func (n *namespace) do(f func()) {
	if n == nil {
		f()
		return
	}
	runtime.LockOSThread()
	home, err := os.Open("/proc/thread-self/ns/net")
	if err == nil {
		defer home.Close()
		err = unix.Setns(int(n.file.Fd()), unix.CLONE_NEWNET)
	}
	if err != nil {
		panic(err)
	}
	defer func() {
		if unix.Setns(int(home.Fd()), unix.CLONE_NEWNET) == nil {
			runtime.UnlockOSThread() // a thread that cannot return ends with its goroutine
		}
	}()
	f()
}

// newNamespace makes a namespace with a loopback device, or skips the trial.
func newNamespace(t *testing.T, trial string) *namespace {
	t.Helper()
	tool(t, trial, "ip")
	n := make(chan *namespace)
	failed := make(chan error, 1)
	go func() { // on a thread that ends with it
		defer close(n)
		runtime.LockOSThread()
		if err := unix.Unshare(unix.CLONE_NEWNET); err != nil {
			failed <- err
			return
		}
		file, err := os.Open("/proc/thread-self/ns/net")
		if err != nil {
			failed <- err
			return
		}
		n <- &namespace{file}
	}()
	made := <-n
	if made == nil {
		skip(t, trial, fmt.Sprintf("no network namespace: %v (root is wanted)", <-failed))
	}
	t.Cleanup(func() { _ = made.file.Close() })
	made.run(t, "ip link set lo up")
	return made
}

// run runs a command, with its words separated by blanks, in the namespace.
func (n *namespace) run(t testing.TB, command string) {
	t.Helper()
	words := strings.Fields(command)
	var out []byte
	var err error
	n.do(func() { out, err = exec.Command(words[0], words[1:]...).CombinedOutput() })
	if err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
}

// set sets one of the namespace's values under net.ipv4.
func (n *namespace) set(t testing.TB, name, value string) {
	t.Helper()
	n.do(func() { must(t, os.WriteFile("/proc/sys/net/ipv4/"+name, []byte(value), 0)) })
}

// pair makes two namespaces with a veth pair between them, whose ends are near and far.
func pair(t *testing.T, trial string) (near, far *namespace) {
	t.Helper()
	near, far = newNamespace(t, trial), newNamespace(t, trial)
	near.run(t, fmt.Sprintf("ip link add near type veth peer name far netns /proc/%d/fd/%d", os.Getpid(), far.file.Fd()))
	near.run(t, "ip addr add "+nearAddress+"/24 dev near")
	far.run(t, "ip addr add "+farAddress+"/24 dev far")
	near.run(t, "ip link set near up")
	far.run(t, "ip link set far up")
	return near, far
}

// routed makes three namespaces: near, far, and a router between them with the links tonear and tofar.
func routed(t *testing.T, trial string) (near, router, far *namespace) {
	t.Helper()
	near, router, far = newNamespace(t, trial), newNamespace(t, trial), newNamespace(t, trial)
	join := func(end *namespace, name, address, other string) {
		router.run(t, fmt.Sprintf("ip link add to%s type veth peer name %s netns /proc/%d/fd/%d", name, name, os.Getpid(), end.file.Fd()))
		router.run(t, "ip link set to"+name+" up")
		router.run(t, "ip route add "+address+" dev to"+name)
		router.set(t, "conf/to"+name+"/proxy_arp", "1") // the ends think they are neighbours
		end.run(t, "ip addr add "+address+" dev "+name)
		end.run(t, "ip link set "+name+" up")
		end.run(t, "ip route add "+other+" dev "+name)
	}
	join(near, "near", nearAddress, farAddress)
	join(far, "far", farAddress, nearAddress)
	router.set(t, "ip_forward", "1")
	return near, router, far
}

// partition makes both ends drop what arrives by the link, until the function that it returns is called.
func partition(t *testing.T, near, far *namespace) (heal func()) {
	t.Helper()
	rule := func(what string) {
		near.run(t, "iptables "+what+" INPUT -i near -j DROP")
		far.run(t, "iptables "+what+" INPUT -i far -j DROP")
	}
	rule("-A")
	return func() { rule("-D") }
}

// packets returns how many packets an interface has received, from the text of /proc/net/dev.
func packets(text, device string) string {
	for line := range strings.Lines(text) {
		if rest, ok := strings.CutPrefix(strings.TrimSpace(line), device+":"); ok {
			return strings.Fields(rest)[1] + " packets"
		}
	}
	return "?"
}
