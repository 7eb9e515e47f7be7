//go:build proxies

// HAProxy and nginx in front of a server: go test -tags proxies -run '^TestProxies' ./engine They have to be installed, so it stands
// behind a tag; .ci/proxies runs it.

package engine_test

import (
	"bytes"
	"encoding/csv"
	"fmt"
	"io"
	"log/slog"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	kit "github.com/servercore-go/servercore/internal/enginekit"
	"github.com/servercore-go/servercore/internal/freeport"
)

// behind is a server that accepts its clients' networks only, one session per address, through proxies at the loopback's first address.
type behind struct {
	*kit.Server
	clients chan *kit.Session // those whose address is not the proxy's
	log     *lockedBuffer
}

const clientNetwork = "127.0.0.64/26"

func serveBehind(t *testing.T, address string, allow ...string) *behind {
	t.Helper()
	b := &behind{clients: make(chan *kit.Session, 1024), log: new(lockedBuffer)}
	proxy, err := net.ResolveTCPAddr("tcp", address) // it connects from the address it connects to
	kit.Must(t, err)
	o := engine.Options{Loops: 2, Logger: slog.New(slog.NewTextHandler(b.log, nil))}
	b.Server = kit.Prepare(t, "tcp", address, o, kit.Hooks{
		Connected: func(p *kit.Session) {
			if !p.RemoteAddr().(*net.TCPAddr).IP.Equal(proxy.IP) { // not a health check
				b.clients <- p
			}
		},
		Recv: kit.Echo,
	}, engine.ProxyProtocol(prefixes("127.0.0.1/32", "::1/128")...), engine.Guard(engine.Rules{
		Allow: prefixes(append(allow, clientNetwork)...), MaxPerAddress: 1, RefusalMessage: []byte(goAway),
	}))
	kit.Must(t, b.Start())
	t.Cleanup(func() {
		if t.Failed() {
			t.Logf("the server's log: %s", b.log)
		}
	})
	return b
}

// run starts a program that serves until the end of the test, when it is ended by its process. Its log is shown if the test fails.
func run(t *testing.T, name string, args ...string) {
	t.Helper()
	log := new(lockedBuffer)
	cmd := exec.Command(name, args...)
	cmd.Stdout, cmd.Stderr = log, log
	kit.Must(t, cmd.Start())
	t.Cleanup(func() {
		_ = cmd.Process.Kill()
		_ = cmd.Wait()
		if t.Failed() {
			t.Logf("%s said: %s", name, log)
		}
	})
}

// haproxy starts HAProxy with that configuration, and returns where it answers questions.
func haproxy(t *testing.T, config string) (stats string) {
	t.Helper()
	dir := shortDir(t)
	stats = filepath.Join(dir, "stats")
	file := filepath.Join(dir, "haproxy.cfg")
	kit.Must(t, os.WriteFile(file, []byte(fmt.Sprintf(`
global
	stats socket %s mode 600 level admin
defaults
	mode tcp
	timeout connect 2s
	timeout check 5s
	timeout client 30s
	timeout server 30s
%s`, stats, config)), 0o600))
	run(t, "haproxy", "-db", "-f", file)
	return stats
}

// nginx starts nginx as a proxy of TCP with these servers.
func nginx(t *testing.T, servers string) {
	t.Helper()
	dir := shortDir(t)
	file := filepath.Join(dir, "nginx.conf")
	kit.Must(t, os.WriteFile(file, []byte(fmt.Sprintf(`
load_module /usr/lib/nginx/modules/ngx_stream_module.so;
daemon off;
master_process off;
pid %[1]s/pid;
error_log stderr info;
events { worker_connections 256; }
stream {
	proxy_connect_timeout 2s;
%[2]s
}
`, dir, servers)), 0o600))
	run(t, "nginx", "-p", dir, "-e", "stderr", "-c", file)
	kit.Eventually(t, "nginx listens", func() bool { // it writes its number once it does
		b, err := os.ReadFile(filepath.Join(dir, "pid"))
		return err == nil && len(b) > 0
	})
}

// shortDir returns a folder for the paths of sockets, which have to be short.
func shortDir(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "sc")
	kit.Must(t, err)
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return dir
}

// freePort returns a port that was free just now, at the loopback's addresses of both families.
func freePort(t *testing.T) int {
	t.Helper()
	addr, err := freeport.Addr("")
	kit.Must(t, err)
	port, err := strconv.Atoi(strings.TrimPrefix(addr, ":"))
	kit.Must(t, err)
	return port
}

// through connects to a proxy, which may have just been started, from a client's address.
func through(t *testing.T, network, address, source string) net.Conn {
	t.Helper()
	var c net.Conn
	kit.Eventually(t, "connected to "+address, func() (ok bool) {
		d := net.Dialer{Timeout: kit.Patience}
		if source != "" {
			d = from(source)
		}
		var err error
		c, err = d.Dial(network, address)
		return err == nil
	})
	t.Cleanup(func() { _ = c.Close() })
	kit.Must(t, c.SetDeadline(time.Now().Add(3*kit.Patience)))
	return c
}

// served checks that a client is served through a proxy, as what it is, at that address, the server's own if it is "".
func (b *behind) served(t *testing.T, c net.Conn, at string) *kit.Session {
	t.Helper()
	kit.Exchange(t, c, "hello")
	p := kit.Await(t, b.clients, "OnConnected")
	if at == "" {
		at = b.Listener.Addr().String()
	}
	if p.RemoteAddr().String() != c.LocalAddr().String() || p.LocalAddr().String() != at {
		t.Errorf("addresses %v and %v, want %v and %s", p.RemoteAddr(), p.LocalAddr(), c.LocalAddr(), at)
	}
	kit.Exchange(t, c, "and on")
	return p
}

// left closes a client's connection and waits until the server has no session of it.
func (b *behind) left(t *testing.T, c net.Conn, p *kit.Session) {
	t.Helper()
	kit.Must(t, c.Close())
	kit.Await(t, p.Ended, "OnDisconnected")
	kit.Must(t, b.Ping(t.Context())) // what the loop does after the callback is done
}

// judged checks that clients are judged by their own address: one session for each, and those of other networks are refused.
func (b *behind) judged(t *testing.T, address, at string) {
	t.Helper()
	before := b.Stats().Refused
	c := through(t, "tcp", address, "127.0.0.77")
	p := b.served(t, c, at)
	again := through(t, "tcp", address, "127.0.0.77")
	refused(t, again, goAway)
	other := through(t, "tcp", address, "127.0.0.78")
	b.left(t, other, b.served(t, other, at))
	foreign := through(t, "tcp", address, "127.0.0.5")
	refused(t, foreign, goAway)
	kit.Exchange(t, c, "still here")
	b.left(t, c, p)
	if r := b.Stats().Refused; r.PerAddress != before.PerAddress+1 || r.Denied != before.Denied+1 || r.Sum() != before.Sum()+2 {
		t.Errorf("refused %+v, before %+v, want one more by Denied and one by PerAddress", r, before)
	}
}

// serverState returns what HAProxy says of its server: UP or DOWN, and how many checks have failed.
func serverState(t *testing.T, stats string) (status, failed string) {
	t.Helper()
	c := through(t, "unix", stats, "")
	kit.Write(t, c, []byte("show stat -1 4 -1\n"))
	all, err := io.ReadAll(c)
	kit.Must(t, err)
	rows, err := csv.NewReader(bytes.NewReader(bytes.TrimSpace(bytes.TrimPrefix(all, []byte("# "))))).ReadAll()
	kit.Must(t, err)
	if len(rows) != 2 {
		t.Fatalf("HAProxy says %s", all)
	}
	for i, name := range rows[0] {
		switch name {
		case "status":
			status = rows[1][i]
		case "chkfail":
			failed = rows[1][i]
		}
	}
	return status, failed
}

// HAProxy in front: its health checks, which are no client's, pass, and its clients are judged by their own address.
func TestProxiesHAProxy(t *testing.T) {
	kit.NoLeaks(t)
	for _, server := range []string{"127.0.0.1", "[::1]"} {
		for _, sends := range []string{"send-proxy", "send-proxy-v2", "send-proxy-v2 proxy-v2-options crc32c,unique-id"} {
			t.Run(server+" "+sends, func(t *testing.T) {
				allow := []string{"::1/128"}
				if server == "[::1]" {
					allow = nil // that is the proxy
				}
				b := serveBehind(t, server+":0", allow...)
				port := freePort(t)
				socket := filepath.Join(shortDir(t), "front")
				stats := haproxy(t, fmt.Sprintf(`
frontend front
	bind 127.0.0.1:%[1]d
	bind [::1]:%[1]d
	bind unix@%[2]s
	default_backend back
backend back
	option tcp-check
	tcp-check connect send-proxy
	tcp-check send ping
	tcp-check expect string ping
	server only %[3]s %[4]s check inter 100ms fall 1 rise 1
`, port, socket, b.Listener.Addr(), sends))
				address := fmt.Sprintf("127.0.0.1:%d", port)
				b.judged(t, address, address)
				if server != "[::1]" {
					address := fmt.Sprintf("[::1]:%d", port)
					c := through(t, "tcp", address, "")
					b.left(t, c, b.served(t, c, address))
				}
				// A client of a unix socket has no address to be judged by.
				c := through(t, "unix", socket, "")
				kit.Exchange(t, c, "hello")
				kit.Must(t, c.Close())
				before := b.Stats().Accepted
				kit.Eventually(t, "ten checks more", func() bool { return b.Stats().Accepted >= before+10 })
				if status, failed := serverState(t, stats); status != "UP" || failed != "0" {
					t.Errorf("HAProxy says the server is %s, after %s checks that failed", status, failed)
				}
			})
		}
	}
}

// A check that is nothing but a connection, or a connection and a header, is no trouble to the server.
func TestProxiesHAProxyChecksConnections(t *testing.T) {
	kit.NoLeaks(t)
	for _, sends := range []string{"send-proxy", "send-proxy-v2", "check-send-proxy"} {
		t.Run(sends, func(t *testing.T) {
			b := serveBehind(t, "127.0.0.1:0")
			port := freePort(t)
			stats := haproxy(t, fmt.Sprintf(`
listen front
	bind 127.0.0.1:%d
	server only %s %s check inter 100ms fall 1 rise 1
`, port, b.Listener.Addr(), sends))
			kit.Eventually(t, "ten checks", func() bool { return b.Stats().Accepted+b.Stats().Refused.ProxyHeader >= 10 })
			if status, failed := serverState(t, stats); status != "UP" || failed != "0" {
				t.Errorf("HAProxy says the server is %s, after %s checks that failed", status, failed)
			}
			if b.log.String() != "" || b.Stats().Refused.Sum() != b.Stats().Refused.ProxyHeader {
				t.Errorf("refused %+v, and the log says %s", b.Stats().Refused, b.log)
			}
		})
	}
}

// nginx in front: it sends version 1.
func TestProxiesNginx(t *testing.T) {
	kit.NoLeaks(t)
	b := serveBehind(t, "127.0.0.1:0", "::1/128")
	port, both := freePort(t), freePort(t)
	nginx(t, fmt.Sprintf(`
	server { listen 127.0.0.1:%[1]d; listen [::1]:%[1]d; proxy_pass %[3]s; proxy_protocol on; }
	server { listen [::]:%[2]d ipv6only=off; proxy_pass %[3]s; proxy_protocol on; }
`, port, both, b.Listener.Addr()))
	for _, p := range []int{port, both} {
		address := fmt.Sprintf("127.0.0.1:%d", p)
		b.judged(t, address, address)
		address = fmt.Sprintf("[::1]:%d", p)
		c := through(t, "tcp", address, "")
		b.left(t, c, b.served(t, c, address))
	}
}

// nginx in the middle, behind HAProxy: it tells of the client, and of its own listener, whose family may differ.
func TestProxiesNginxInTheMiddle(t *testing.T) {
	kit.NoLeaks(t)
	b := serveBehind(t, "127.0.0.1:0", "::1/128")
	middle := map[string]string{ // where HAProxy connects to, and what the server has as LocalAddr
		"unix:" + filepath.Join(shortDir(t), "middle"): "",
	}
	for _, ip := range []string{"127.0.0.1", "[::1]"} {
		address := fmt.Sprintf("%s:%d", ip, freePort(t))
		middle[address] = address
	}
	var servers strings.Builder
	for address := range middle {
		fmt.Fprintf(&servers, "\tserver { listen %s proxy_protocol; proxy_pass %s; proxy_protocol on; "+
			"set_real_ip_from 127.0.0.0/8; set_real_ip_from ::1; set_real_ip_from unix:; }\n", address, b.Listener.Addr())
	}
	nginx(t, servers.String())
	for address, at := range middle {
		for _, sends := range []string{"send-proxy", "send-proxy-v2"} {
			t.Run(address+" "+sends, func(t *testing.T) {
				port := freePort(t)
				haproxy(t, fmt.Sprintf(`
listen front
	bind 127.0.0.1:%[1]d
	bind [::1]:%[1]d
	server only %[2]s %[3]s
`, port, strings.Replace(address, "unix:", "unix@", 1), sends))
				b.judged(t, fmt.Sprintf("127.0.0.1:%d", port), at)
				c := through(t, "tcp", fmt.Sprintf("[::1]:%d", port), "")
				b.left(t, c, b.served(t, c, at))
			})
		}
	}
}
