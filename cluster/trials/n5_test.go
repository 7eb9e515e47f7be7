//go:build linux

package trials

import (
	"bufio"
	"fmt"
	"net"
	"slices"
	"strings"
	"testing"
	"time"
)

// N5: who has not the secret, the certificate or the password gets in nowhere, and nothing listens for others that was not told to.
//
// It notices: a port for clients that is open to other machines, a route without TLS or authorization, an embedded server that listens by
// default.
func TestN5Credentials(t *testing.T) {
	beside(t)
	for _, k := range []kind{alone, routes, outside} {
		t.Run(string(k), func(t *testing.T) {
			beside(t)
			count := 2
			if k == alone {
				count = 1
			}
			f := launch(t, "N5 credentials", k, count)
			for _, m := range f.nodes {
				allowed := []string{m.settings.Listen}
				if k == routes {
					allowed = append(allowed, m.settings.Route)
				}
				var open []string
				for _, address := range m.listening() {
					if !strings.HasPrefix(address, "127.0.0.1:") && !slices.Contains(allowed, address) {
						open = append(open, address)
					}
				}
				f.check("nothing else listens for others", len(open) == 0, "node %d listens on %v, besides %v %v", m.index, m.listening(), allowed, open)
			}
			switch k {
			case routes:
				f.judgeIntruders()
				f.judgeRoute()
			case outside:
				s := f.nodes[0].settings
				s.URL = strings.Replace(s.URL, password, "guess", 1)
				f.judgeRefused("a wrong password", s, "refused")
				s.URL = strings.Replace(s.URL, "node:guess@", "", 1)
				f.judgeRefused("no password", s, "refused")
			}
			if k != alone {
				f.whole()
			}
			f.judge()
		})
	}
}

// judgeIntruders tries nodes that lack something.
func (f *fleet) judgeIntruders() {
	s := f.settings(0, 2)
	p := f.net.place("intruder", firstBus-1)
	s.Listen, s.Route = p.address+":7000", p.address+":6222"
	s.Others = append(s.Others, f.nodes[0].settings.Route)
	wrong := s
	wrong.Secret = "guess"
	f.judgeRefused("a wrong secret", wrong, "refused")
	must(f.t, writeCertificates(f.files+"/other", f.net.number))
	wrong = s
	wrong.Files = f.files + "/other"
	f.judgeRefused("a certificate of another authority", wrong, "refused")
	wrong = s
	wrong.Files = ""
	f.judgeRefused("no certificate", wrong, "options")
	wrong = s
	wrong.Secret = ""
	f.judgeRefused("no secret", wrong, "options")
}

// judgeRefused wants a node with these settings to be refused, with that kind of error.
func (f *fleet) judgeRefused(what string, s settings, kind string) {
	f.t.Helper()
	x := f.run(f.net.place("intruder", firstBus-1), s)
	answer := next[started](x, what)
	x.kill()
	f.check(what+" is refused", answer.Problem != "" && answer.Refused == (kind == "refused") && answer.Options == (kind == "options"), "%.120s", answer.Problem)
}

// judgeRoute speaks to the port of a node's routes as a client of NATS would, without TLS.
func (f *fleet) judgeRoute() {
	conn, err := net.Dial("tcp", f.nodes[0].settings.Route)
	must(f.t, err)
	defer conn.Close()
	must(f.t, conn.SetDeadline(time.Now().Add(10*time.Second)))
	_, _ = fmt.Fprintf(conn, "CONNECT {\"verbose\":true,\"user\":\"servercore\",\"pass\":\"\"}\r\nSUB > 1\r\nPING\r\n")
	got := ""
	for lines := bufio.NewScanner(conn); lines.Scan(); {
		got += strings.Fields(lines.Text())[0] + " "
	}
	served := strings.Contains(got, "MSG") || strings.Contains(got, "+OK") || strings.Contains(got, "PONG")
	f.check("a client without TLS is not served by the route's port", !served, "it got: %s", got)
}
