package echoserver

import (
	"cmp"
	"errors"
	"strings"
	"unicode"

	"github.com/servercore-go/servercore/engine"
)

// defaultSendLimit is Options.SendLimit by default, in bytes.
const defaultSendLimit = 1 << 20

// webSocket returns the options for -ws.
//
// A message is at most half of the send limit: reading pauses at a quarter of the limit, so the Send of an echo does not fail.
func (c *config) webSocket() engine.WebSocketOptions {
	return engine.WebSocketOptions{Path: c.ws, MaxMessage: cmp.Or(c.sendLimit, defaultSendLimit) / 2}
}

// parsePath returns a parser of the path of a URL, or "" for none.
func parsePath(p *string) func(string) error {
	return func(s string) error {
		if s != "" && (s[0] != '/' || strings.HasPrefix(s, "//") || strings.ContainsAny(s, "?#%") || strings.ContainsFunc(s, unicode.IsControl)) {
			return errors.New("use the path of a URL, such as /ws, without a query and without % escapes")
		}
		*p = s
		return nil
	}
}
