package observe

import (
	"crypto/sha256"
	"crypto/subtle"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/http/pprof"
	"net/netip"
	"strconv"
	"strings"

	"github.com/servercore-go/servercore/session"
)

// handleAdmin adds the pages of Options.Admin, all of them behind guard.
func (h *handler) handleAdmin(mux *http.ServeMux) {
	if !h.Admin {
		return
	}
	add := func(pattern string, f http.HandlerFunc) { mux.Handle(pattern, h.guard(f)) }
	add("GET /debug/pprof/", pprof.Index)
	add("GET /debug/pprof/cmdline", pprof.Cmdline)
	add("GET /debug/pprof/profile", pprof.Profile)
	add("GET /debug/pprof/symbol", pprof.Symbol)
	add("GET /debug/pprof/trace", pprof.Trace)
	add("GET /admin/{$}", func(w http.ResponseWriter, _ *http.Request) { answer(w, http.StatusOK, "ok") })
	add("POST /admin/disconnect", h.disconnect)
	if h.Level != nil {
		add("GET /admin/level", h.level)
		add("POST /admin/level", h.level)
	}
}

// guard admits requests that may do more than read: those with the Token, or, if there is none, those from the same machine. It refuses
// what a page of another site has a browser on this machine send (http.CrossOriginProtection), also if the site's name resolves to a
// loopback address.
func (h *handler) guard(next http.HandlerFunc) http.Handler {
	origins := http.NewCrossOriginProtection()
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		switch {
		case origins.Check(r) != nil:
			answer(w, http.StatusForbidden, "a page of another site has asked")
		case h.Token != "" && !hasToken(r, h.Token):
			w.Header().Set("WWW-Authenticate", "Bearer")
			answer(w, http.StatusUnauthorized, "send the header Authorization: Bearer TOKEN")
		case h.Token == "" && !isLocal(r):
			answer(w, http.StatusForbidden, "without Options.Token this is for clients of a loopback address or a unix socket")
		default:
			next(w, r)
		}
	})
}

// hasToken compares in constant time.
func hasToken(r *http.Request, token string) bool {
	got, ok := strings.CutPrefix(r.Header.Get("Authorization"), "Bearer ")
	a, b := sha256.Sum256([]byte(got)), sha256.Sum256([]byte(token))
	return ok && subtle.ConstantTimeCompare(a[:], b[:]) == 1
}

// isLocal reports whether a request came to a unix socket, or from a loopback address to one and for one. The Host tells: a name that an
// attacker has pointed at 127.0.0.1 (DNS rebinding) is not one of these. A request that a proxy on this machine passes on is not local.
func isLocal(r *http.Request) bool {
	switch local := r.Context().Value(http.LocalAddrContextKey).(type) {
	case *net.UnixAddr:
		return true
	case *net.TCPAddr:
		remote, err := netip.ParseAddrPort(r.RemoteAddr)
		forwarded := r.Header.Get("X-Forwarded-For") != "" || r.Header.Get("Forwarded") != ""
		return err == nil && local.IP.IsLoopback() && remote.Addr().Unmap().IsLoopback() && loopbackHost(r.Host) && !forwarded
	}
	return false
}

func loopbackHost(host string) bool {
	if name, _, err := net.SplitHostPort(host); err == nil {
		host = name
	}
	host = strings.TrimSuffix(strings.TrimPrefix(host, "["), "]")
	addr, err := netip.ParseAddr(host)
	return host == "localhost" || err == nil && addr.IsLoopback()
}

// disconnect ends a session, in good order or at once.
func (h *handler) disconnect(w http.ResponseWriter, r *http.Request) {
	id, err := strconv.ParseUint(r.FormValue("id"), 10, 64)
	abort, wrong := flag(r.Form, "abort")
	if err != nil || wrong != nil {
		answer(w, http.StatusBadRequest, "want id=NUMBER, and abort=1 to reset the connection")
		return
	}
	s, ok := h.engine.Session(id)
	if !ok {
		answer(w, http.StatusNotFound, "no open session has this number")
		return
	}
	action := "disconnect"
	if abort {
		action = "abort"
		session.Of(s).Abort()
	} else {
		session.Of(s).DisconnectWith(errOperator)
	}
	h.Logger.Info("observe: action", "action", action, "session", id, "client", r.RemoteAddr)
	answer(w, http.StatusOK, "ok")
}

// errOperator is the reason of a session that was disconnected here.
var errOperator = fmt.Errorf("disconnected by an operator: %w", session.ErrDisconnected)

// level tells the level of the log, and sets it.
func (h *handler) level(w http.ResponseWriter, r *http.Request) {
	if r.Method == http.MethodPost {
		var to slog.Level
		if err := to.UnmarshalText([]byte(r.FormValue("level"))); err != nil {
			answer(w, http.StatusBadRequest, "want level=debug, info, warn or error")
			return
		}
		h.Logger.Warn("observe: action", "action", "level", "from", h.Level.Level(), "to", to, "client", r.RemoteAddr)
		h.Level.Set(to)
	}
	answer(w, http.StatusOK, h.Level.Level().String())
}
