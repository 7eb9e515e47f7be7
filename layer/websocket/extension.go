package websocket

import (
	"strconv"
	"strings"
)

// The extension and its parameters: RFC 7692, section 7.1.
const (
	deflateName      = "permessage-deflate"
	noServerContext  = "server_no_context_takeover"
	noClientContext  = "client_no_context_takeover"
	serverWindowBits = "server_max_window_bits"
	clientWindowBits = "client_max_window_bits"

	deflateOffer = deflateName + "; " + noServerContext + "; " + noClientContext
)

// deflateParams are the parameters of an offer or of an answer.
type deflateParams struct {
	noServerContext, noClientContext bool
	serverBits, clientBits           int // 0 if absent, anyBits without a value
}

// anyBits is client_max_window_bits without a value.
const anyBits = -1

// parseDeflate returns the parameters of e, false if one is unknown, twice there, or has a wrong value.
func parseDeflate(e extension) (d deflateParams, ok bool) {
	for _, p := range e.params {
		switch p.name {
		case noServerContext:
			if d.noServerContext || p.set {
				return d, false
			}
			d.noServerContext = true
		case noClientContext:
			if d.noClientContext || p.set {
				return d, false
			}
			d.noClientContext = true
		case serverWindowBits:
			if d.serverBits != 0 {
				return d, false
			}
			if d.serverBits = windowBits(p.value); d.serverBits == 0 {
				return d, false
			}
		case clientWindowBits:
			if d.clientBits != 0 {
				return d, false
			}
			d.clientBits = anyBits
			if p.set {
				if d.clientBits = windowBits(p.value); d.clientBits == 0 {
					return d, false
				}
			}
		default:
			return d, false
		}
	}
	return d, true
}

// windowBits returns the number in s, 0 if it is not one from 8 to 15 without leading zeros.
func windowBits(s string) int {
	n, err := strconv.Atoi(s)
	if err != nil || n < minBits || n > maxBits || strconv.Itoa(n) != s {
		return 0
	}
	return n
}

// answerDeflate takes the first offer of permessage-deflate that can be kept. It returns the window of our compressor, noBits for none, and
// the answer. An offer with a wrong parameter is declined, as RFC 7692, section 7.1, says.
func answerDeflate(offers []extension) (bits uint8, answer string) {
	for _, e := range offers {
		if !strings.EqualFold(e.name, deflateName) {
			continue
		}
		d, ok := parseDeflate(e)
		if !ok {
			continue
		}
		if d.serverBits == 0 {
			return maxBits, deflateOffer
		}
		return uint8(d.serverBits), deflateOffer + "; " + serverWindowBits + "=" + strconv.Itoa(d.serverBits)
	}
	return noBits, ""
}

// checkAnswer looks at what a server has made of deflateOffer. It returns whether compression was agreed on, false in ok if the answer is
// none that RFC 7692 allows to that offer. The server's window may have any size: ours is the largest.
func checkAnswer(answers []extension, offered bool) (compressed, ok bool) {
	if len(answers) == 0 {
		return false, true
	}
	if !offered || len(answers) > 1 || !strings.EqualFold(answers[0].name, deflateName) {
		return false, false
	}
	d, ok := parseDeflate(answers[0])
	ok = ok && d.noServerContext && d.clientBits == 0
	return ok, ok
}
