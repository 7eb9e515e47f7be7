package engine_test

import (
	"bufio"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
)

func init() { child("chrooted", chrooted) }

// chrooted serves echo, and leaves /dev and /proc behind, when it is told.
func chrooted() {
	fail := func(err error) {
		if err != nil {
			fmt.Println("error:", err)
			os.Exit(1)
		}
	}
	log := new(lockedBuffer)
	var e *engine.Engine
	var listener *engine.Listener
	var hoard []int
	for in := bufio.NewScanner(os.Stdin); in.Scan(); {
		var err error
		verb, argument, _ := strings.Cut(in.Text(), " ")
		switch verb {
		case "chroot":
			fail(unix.Chroot(argument))
			fail(unix.Chdir("/"))
			if _, err := os.Stat(os.DevNull); err == nil {
				fail(fmt.Errorf("%s is there", os.DevNull))
			}
			fmt.Println("done")
		case "limit":
			n, _ := strconv.Atoi(argument)
			var r syscall.Rlimit
			fail(syscall.Getrlimit(syscall.RLIMIT_NOFILE, &r))
			r.Cur = uint64(n)
			fail(syscall.Setrlimit(syscall.RLIMIT_NOFILE, &r))
			fmt.Println("done")
		case "start":
			number, _, _ := strings.Cut(argument, " ")
			max, _ := strconv.Atoi(number)
			e, err = engine.New(engine.Options{Loops: 1, MaxSessions: max, Logger: slog.New(slog.NewTextHandler(log, nil))})
			fail(err)
			network, address := "tcp4", "127.0.0.1:0"
			if _, path, ok := strings.Cut(argument, " "); ok {
				network, address = "unix", path
			}
			listener, err = e.Listen(network, address, newEcho)
			fail(err)
			if err := e.Start(); err != nil {
				fmt.Println("error:", err)
				continue
			}
			fmt.Println(listener.Addr())
		case "bounds":
			used := 0
			for fd := range 4096 {
				if _, err := unix.FcntlInt(uintptr(fd), unix.F_GETFD, 0); err == nil {
					used++
				}
			}
			f, err := listener.File()
			fail(err)
			info, err := unix.GetsockoptTCPInfo(int(f.Fd()), unix.IPPROTO_TCP, unix.TCP_INFO)
			fail(err)
			fail(f.Close())
			fmt.Println(e.Stats().MaxSessions, used, info.Sacked) // of a listener, how many may wait
		case "starve":
			for {
				fd, err := unix.FcntlInt(0, unix.F_DUPFD_CLOEXEC, 0)
				if err != nil {
					break
				}
				hoard = append(hoard, fd)
			}
			fmt.Println("done")
		case "feed":
			for _, fd := range hoard {
				_ = unix.Close(fd)
			}
			hoard = nil
			fmt.Println("done")
		case "stats":
			st := e.Stats()
			fmt.Println(st.AcceptErrors, st.Refused.Descriptors, strings.Count(log.String(), "accept failed"))
		}
	}
	if e != nil {
		_ = e.Close()
	}
}

// spawnChrooted starts a child that may change its root folder: as root, or as the root of a user namespace.
func spawnChrooted(t *testing.T) *process {
	t.Helper()
	attr := &syscall.SysProcAttr{}
	if os.Geteuid() != 0 {
		attr.Cloneflags = syscall.CLONE_NEWUSER
		attr.UidMappings = []syscall.SysProcIDMap{{ContainerID: 0, HostID: os.Getuid(), Size: 1}}
	}
	return spawn(t, "chrooted", attr)
}

func (p *process) must(words ...string) string {
	p.t.Helper()
	p.tell(words...)
	answer := p.answer()
	if strings.HasPrefix(answer, "error:") {
		p.t.Fatalf("%v: %s", words, answer)
	}
	return answer
}

// T1, T6c: a server starts where there is no /dev and no /proc, and one that goes there later serves again after its descriptors
// have run out.
func TestChroot(t *testing.T) {
	b, err := os.ReadFile("/proc/sys/net/core/somaxconn")
	kit.Must(t, err)
	longest := strings.TrimSpace(string(b))
	for _, first := range []string{"chroot", "start"} {
		t.Run(first+" first", func(t *testing.T) {
			c := spawnChrooted(t)
			c.must("limit", "1000")
			root := t.TempDir()
			if first == "chroot" {
				c.must("chroot", root)
			}
			address := c.must("start", "0")
			if first == "start" {
				c.must("chroot", root)
			}

			var max, used int
			var backlog string
			_, err := fmt.Sscan(c.must("bounds"), &max, &used, &backlog)
			kit.Must(t, err)
			if want := 1000 - used - 65; max < want-1 || max > want+1 { // the count's own descriptor may be in it
				t.Errorf("MaxSessions is %d with %d descriptors in use, want %d", max, used, want)
			}
			if backlog != longest {
				t.Errorf("%s may wait to be accepted, the system allows %s", backlog, longest)
			}

			established, err := net.Dial("tcp", address)
			kit.Must(t, err)
			defer established.Close()
			kit.Exchange(t, established, "before")
			c.must("starve")
			for range 3 {
				switch shed, err := net.Dial("tcp", address); {
				case err == nil:
					closed(t, shed)
					kit.Must(t, shed.Close())
				case !errors.Is(err, syscall.ECONNRESET): // before Dial had returned
					t.Fatal(err)
				}
				kit.Exchange(t, established, "still here")
			}
			c.must("feed")
			var failures, descriptors, lines int
			_, err = fmt.Sscan(c.must("stats"), &failures, &descriptors, &lines) // a connection is counted before it is closed
			kit.Must(t, err)
			if failures < 3 || descriptors != 3 || lines < 1 {
				t.Errorf("%d errors, %d shed and %d lines are told of 3 connections", failures, descriptors, lines)
			}
			for range 40 {
				kit.Must(t, call("tcp", address))
			}
			kit.Exchange(t, established, "after")
		})
	}
}

// T2: a MaxSessions that the descriptors do not allow is lowered, and the server serves; negative, nothing bounds it.
func TestMaxSessionsAboveDescriptors(t *testing.T) {
	for asked, want := range map[string]int{"5000": 100 - 10, "10": 10, "-1": 0} {
		c := spawnChrooted(t)
		c.must("limit", "100")
		address := c.must("start", asked)
		var max, used int
		_, err := fmt.Sscan(c.must("bounds"), &max, &used)
		kit.Must(t, err)
		if asked == "5000" {
			want -= used
		}
		if max < want-1 || max > want+1 || want > 0 && max == 0 {
			t.Errorf("MaxSessions %s becomes %d, want %d", asked, max, want)
		}
		served := 0
		for range 150 {
			conn, err := net.Dial("tcp", address)
			if err != nil {
				if !errors.Is(err, syscall.ECONNRESET) {
					t.Fatal(err)
				}
				continue // shed at once
			}
			defer conn.Close()
			_, _ = conn.Write([]byte("x"))
			if n, _ := conn.Read(make([]byte, 1)); n == 1 {
				served++
			}
		}
		if max > 0 && served != max || max == 0 && served < 60 {
			t.Errorf("MaxSessions %s: %d are served, the bound is %d", asked, served, max)
		}
	}
	// No room at all is an error, whatever was asked.
	for _, asked := range []string{"0", "5000", "1"} {
		c := spawnChrooted(t)
		c.must("limit", "18")
		c.tell("start", asked)
		if answer := c.answer(); !strings.Contains(answer, "MaxSessions") || !strings.Contains(answer, "ulimit -n") {
			t.Errorf("MaxSessions %s with 18 descriptors: %s", asked, answer)
		}
	}
}

// T6: a Start that finds no descriptor says what to do, wherever it was, and leaves nothing behind.
func TestStartWithoutDescriptors(t *testing.T) {
	c := spawnChrooted(t)
	c.must("limit", "1000")
	c.must("start", "0")
	var max, used int
	_, err := fmt.Sscan(c.must("bounds"), &max, &used)
	kit.Must(t, err)
	path := kit.FreeAddress(t, "unix")
	for n := used - 6; n <= used+8; n++ {
		c.must("limit", fmt.Sprint(n))
		for _, argument := range []string{"0", "0 " + path} {
			c.tell("start", argument)
			if answer := c.answer(); !strings.HasPrefix(answer, "error: engine: ") || !strings.Contains(answer, "ulimit -n") {
				t.Errorf("%d descriptors: %s", n, answer)
			}
			wantOnly(t, filepath.Dir(path))
		}
	}
	c.must("limit", "1000")
	before := used
	c.must("start", "0")
	_, err = fmt.Sscan(c.must("bounds"), &max, &used)
	kit.Must(t, err)
	if one := used - before; one > 5 { // what an engine of one loop has, see the next line
		t.Errorf("%d more descriptors are in use after Starts that failed and one that did not", one)
	}
}
