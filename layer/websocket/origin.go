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
	bare := withoutPort(host, scheme)
	for _, pattern := range patterns {
		pattern, prefix := strings.ToLower(pattern), ""
		if strings.Contains(pattern, "://") {
			prefix = scheme + "://"
		}
		// A browser leaves the default port out, a pattern may have it.
		if matches(pattern, prefix+host) || matches(pattern, prefix+bare) || matches(pattern, prefix+bare+defaultPort(scheme)) {
			return true
		}
	}
	return false
}

// matches reports whether a pattern matches, or is the name itself: the brackets of an IPv6 address are a class of characters to path.Match.
func matches(pattern, name string) bool {
	ok, err := path.Match(pattern, name)
	return err == nil && ok || name == pattern
}

// defaultPort returns the port that scheme has by default, with its colon.
func defaultPort(scheme string) string {
	switch scheme {
	case "http", "ws":
		return ":80"
	case "https", "wss":
		return ":443"
	}
	return ""
}

// withoutPort returns host without the port that scheme has by default.
func withoutPort(host, scheme string) string { return strings.TrimSuffix(host, defaultPort(scheme)) }
