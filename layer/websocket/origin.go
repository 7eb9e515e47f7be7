package websocket

import (
	"net/http"
	"net/url"
	"path"
	"strings"
)

// allowsOrigin reports whether a request may come from where its Origin header says. A request without one is no browser's and may; one
// with two may not. The host of the request itself is allowed, with its port; then the patterns decide.
func allowsOrigin(r *http.Request, patterns []string) bool {
	origins := r.Header.Values("Origin")
	if len(origins) == 0 {
		return true
	}
	if len(origins) > 1 {
		return false
	}
	u, err := url.Parse(origins[0])
	if err != nil {
		return false
	}
	scheme, host := strings.ToLower(u.Scheme), strings.ToLower(u.Host)
	if host != "" && withoutPort(host, scheme) == withoutPort(strings.ToLower(r.Host), scheme) {
		return true
	}
	if host == "" {
		host = origins[0] // "null", of a sandboxed page or a file
	}
	for _, pattern := range patterns {
		pattern, name := strings.ToLower(pattern), host
		if strings.Contains(pattern, "://") {
			name = scheme + "://" + host
		}
		if ok, err := path.Match(pattern, name); err == nil && ok {
			return true
		}
	}
	return false
}

// withoutPort returns host without the port that scheme has by default.
func withoutPort(host, scheme string) string {
	switch scheme {
	case "http", "ws":
		return strings.TrimSuffix(host, ":80")
	case "https", "wss":
		return strings.TrimSuffix(host, ":443")
	}
	return host
}
