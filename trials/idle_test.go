//go:build linux

package trials

import (
	"bufio"
	"cmp"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"math"
	"net"
	"os"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/session"
)

// idler is a session that echoes and keeps nothing.
type idler struct{ session.Session }

func (s *idler) OnRecv(data []byte) { _ = s.Send(data) }

// idleKinds are what the idle sessions of T50 speak, and the most memory that one may take, in bytes.
var idleKinds = []struct {
	name     string
	prefix   string
	version  uint16 // of TLS
	resident int
}{
	{"plain", "", 0, 800},
	{"TLS1.3", overTLS, tls.VersionTLS13, 8 << 10},
	{"TLS1.2", overTLS, tls.VersionTLS12, 10 << 10},
	{"WebSocket", overWebSocket, 0, 4 << 10},
}

// heapRate is the server's MemProfileRate in T50, in bytes.
const heapRate = 16 << 10

func init() {
	plans["T50"] = func() plan {
		p := plan{options: engine.Options{MaxSessions: 19_000}, factory: func() session.Handler { return new(idler) }, command: heldBy}
		switch kind := os.Getenv(role)[len("server T50 "):]; kind {
		case "WebSocket":
			p.ws = &engine.WebSocketOptions{PingInterval: -1}
		case "plain":
		default:
			p.tls = true
		}
		runtime.MemProfileRate = heapRate
		return p
	}
}

// holding is a function, and the bytes of the heap that it has allocated and that are in use.
type holding struct {
	Function string
	Bytes    int64
}

// heldBy is the server's command: who has allocated what is held.
func heldBy(*content, string) any {
	runtime.GC()
	runtime.GC() // the profile is as of the last cycle that was complete
	n, _ := runtime.MemProfile(nil, false)
	records := make([]runtime.MemProfileRecord, n+100)
	n, ok := runtime.MemProfile(records, false)
	if !ok {
		return []holding{}
	}
	by := map[string]int64{}
	for _, r := range records[:n] {
		if r.InUseObjects() == 0 {
			continue
		}
		size := float64(r.InUseBytes()) / float64(r.InUseObjects())
		by[allocator(r.Stack())] += int64(float64(r.InUseBytes()) / (1 - math.Exp(-size/heapRate)))
	}
	var all []holding
	for name, b := range by {
		all = append(all, holding{name, b})
	}
	slices.SortFunc(all, func(a, b holding) int { return cmp.Compare(b.Bytes, a.Bytes) })
	return first(all, 15)
}

// allocator names the first function of a stack that is not a library's for memory.
func allocator(stack []uintptr) string {
	name := "?"
	for frames, more := runtime.CallersFrames(stack), true; more; {
		var f runtime.Frame
		f, more = frames.Next()
		name = f.Function
		if !slices.ContainsFunc([]string{"runtime.", "bytes.", "slices.", "strings.", "maps.", "internal/runtime"}, func(p string) bool { return strings.HasPrefix(name, p) }) {
			break
		}
	}
	return name
}

// held is the answer of a holder.
type held struct {
	N      int
	Errors []string
}

// holderMain is the main function of a process that holds idle connections. Its command is ADDRESS VERSION NUMBER. It ends with stdin.
func holderMain() int {
	var mu sync.Mutex
	var all []io.Closer
	for commands := bufio.NewScanner(os.Stdin); commands.Scan(); {
		f := strings.Fields(commands.Text())
		version, _ := strconv.Atoi(f[1])
		n, _ := strconv.Atoi(f[2])
		var h held
		each(n, 16, func(int) {
			c, err := hold(f[0], uint16(version))
			mu.Lock()
			defer mu.Unlock()
			if err != nil {
				h.Errors = first(append(h.Errors, err.Error()), 5)
				return
			}
			all = append(all, c)
			h.N++
		})
		answer(h)
	}
	runtime.KeepAlive(all)
	return 0
}

// hold makes a connection, and has 64 bytes echoed.
func hold(address string, version uint16) (io.Closer, error) {
	d := dialer(0)
	address, secure := strings.CutPrefix(address, overTLS)
	address, messages := strings.CutPrefix(address, overWebSocket)
	conn, err := d.Dial("tcp", address)
	if err != nil {
		return nil, err
	}
	_ = conn.SetDeadline(time.Now().Add(patience))
	var c net.Conn = conn
	if secure {
		config := clientTLS()
		config.MaxVersion = version
		c = tls.Client(conn, config)
	}
	said := []byte(strings.Repeat("idle", 16))
	if messages {
		r := rough{conn.(*net.TCPConn), bufio.NewReaderSize(conn, 512)}
		err := r.upgrade("")
		if err == nil {
			_, err = r.Write(append(frameHeader(0x82, 64), said...))
		}
		if err == nil {
			_, said, err = r.next()
		}
		if err == nil && len(said) != 64 {
			err = errors.New("another echo")
		}
		return c, err
	}
	if _, err = c.Write(said); err == nil {
		_, err = io.ReadFull(c, said)
	}
	return c, err
}

// T50: what an idle session takes of the server's memory, by what it speaks, and who has allocated it. At full scale there are 18,000 of
// each kind.
func TestT50IdleSessions(t *testing.T) {
	n := 400
	if full() {
		n = 18_000
	}
	for _, kind := range idleKinds {
		name := "T50 " + kind.name
		server := start(t, "server "+name)
		at := heard[hello](server, "start")
		server.pid = at.PID
		ask[report](server, "report gc")
		settled := func() (heap, resident int) {
			r := ask[report](server, "report gc")
			return int(r.Heap), server.memory("VmRSS")
		}
		// A first hundred, so that what all share is there.
		holders := make([]*process, 3)
		for i := range holders {
			holders[i] = start(t, "holder")
		}
		connected := 0
		more := func(n int) {
			for i, p := range holders {
				h := ask[held](p, fmt.Sprintf("%s %d %d", at.Records, kind.version, n/len(holders)))
				if connected += h.N; len(h.Errors) > 0 {
					t.Fatalf("holder %d: %v", i, h.Errors)
				}
			}
		}
		more(99)
		heapBefore, residentBefore := settled()
		before := connected
		more(n)
		resident := (server.memory("VmRSS") - residentBefore) / (connected - before) // with what the collector leaves for itself
		heap, collected := settled()
		heap, collected = (heap-heapBefore)/(connected-before), (collected-residentBefore)/(connected-before)
		o := &oracle{t: t, name: "T50"}
		o.check(kind.name+": resident bytes of an idle session", collected <= kind.resident || !full() || racing(), "%d, %d before a collection, %d of heap; %d sessions, want <= %d",
			collected, resident, heap, connected, kind.resident)
		for _, h := range ask[[]holding](server, "held") {
			if each := int(h.Bytes) / connected; each >= 16 {
				t.Logf("        %6d B  %s", each, h.Function)
			}
		}
		r := ask[report](server, "report")
		o.check(kind.name+": no goroutine, no buffer for them", r.Goroutines < 50 && r.Buffers < 50 && r.Stats.Sessions == connected, "%d goroutines, %d buffers, %d sessions",
			r.Goroutines, r.Buffers, r.Stats.Sessions)
		for _, p := range holders {
			p.kill()
		}
		server.kill()
	}
}
