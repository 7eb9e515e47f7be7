package websocket

import (
	"net/http"
	"strings"
)

// isTokenByte reports whether c may stand in a token: RFC 9110, section 5.6.2.
func isTokenByte(c byte) bool {
	return c >= '0' && c <= '9' || c >= 'a' && c <= 'z' || c >= 'A' && c <= 'Z' || strings.IndexByte("!#$%&'*+-.^_`|~", c) >= 0
}

func isToken(s string) bool {
	for i := range len(s) {
		if !isTokenByte(s[i]) {
			return false
		}
	}
	return s != ""
}

// tokens calls yield for each member of a header's comma-separated lists, without spaces around it, until yield returns false.
func tokens(h http.Header, name string, yield func(token string) bool) {
	for _, line := range h.Values(name) {
		for part := range strings.SplitSeq(line, ",") {
			if part = strings.Trim(part, " \t"); part != "" && !yield(part) {
				return
			}
		}
	}
}

// hasToken reports whether a header's lists have the token, in any case.
func hasToken(h http.Header, name, token string) (found bool) {
	tokens(h, name, func(t string) bool {
		found = strings.EqualFold(t, token)
		return !found
	})
	return found
}

// extension is a member of a Sec-WebSocket-Extensions list: RFC 6455, section 9.1.
type extension struct {
	name   string
	params []param
}

// param is a parameter of an extension. set tells an empty value from none.
type param struct {
	name, value string
	set         bool
}

// parseExtensions returns the members of the lists, false if they are not what RFC 6455 says.
func parseExtensions(lines []string) (list []extension, ok bool) {
	for _, line := range lines {
		s := scanner{rest: line}
		for {
			s.space()
			if s.rest == "" {
				break
			}
			if s.take(',') {
				continue // an empty member: RFC 9110, section 5.6.1
			}
			e, ok := s.extension()
			if !ok {
				return nil, false
			}
			list = append(list, e)
			s.space()
			if s.rest != "" && !s.take(',') {
				return nil, false
			}
		}
	}
	return list, true
}

// scanner reads a header's value.
type scanner struct{ rest string }

func (s *scanner) space() { s.rest = strings.TrimLeft(s.rest, " \t") }

// take skips c, if it is next.
func (s *scanner) take(c byte) bool {
	if s.rest == "" || s.rest[0] != c {
		return false
	}
	s.rest = s.rest[1:]
	return true
}

// token returns the token that is next, "" for none.
func (s *scanner) token() string {
	n := 0
	for n < len(s.rest) && isTokenByte(s.rest[n]) {
		n++
	}
	t := s.rest[:n]
	s.rest = s.rest[n:]
	return t
}

// value returns the token or the quoted string that is next. A quoted value must be a token once it is unquoted.
func (s *scanner) value() (string, bool) {
	if !s.take('"') {
		t := s.token()
		return t, t != ""
	}
	var b strings.Builder
	for s.rest != "" {
		c := s.rest[0]
		s.rest = s.rest[1:]
		switch {
		case c == '"':
			return b.String(), isToken(b.String())
		case c == '\\' && s.rest != "":
			c = s.rest[0]
			s.rest = s.rest[1:]
		}
		b.WriteByte(c)
	}
	return "", false
}

// extension returns the extension that is next, with its parameters.
func (s *scanner) extension() (e extension, ok bool) {
	if e.name = s.token(); e.name == "" {
		return e, false
	}
	for {
		if s.space(); !s.take(';') {
			return e, true
		}
		s.space()
		p := param{name: s.token()}
		if p.name == "" {
			return e, false
		}
		if s.space(); s.take('=') {
			s.space()
			if p.value, p.set = s.value(); !p.set {
				return e, false
			}
		}
		e.params = append(e.params, p)
	}
}
