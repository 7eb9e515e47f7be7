package websocket

import "unicode/utf8"

// validPrefix returns how many bytes of b are whole characters, and whether all of b can be the beginning of UTF-8 text. The bytes behind
// n, at most three, are the beginning of a character.
func validPrefix(b []byte) (n int, ok bool) {
	n = len(b)
	for back := 1; back < utf8.UTFMax && back <= len(b); back++ {
		if i := len(b) - back; utf8.RuneStart(b[i]) {
			if !utf8.FullRune(b[i:]) {
				n = i
			}
			break
		}
	}
	return n, utf8.Valid(b[:n])
}

// cutText returns the longest beginning of s that has at most n bytes and ends with a whole character.
func cutText(s string, n int) string {
	if len(s) <= n {
		return s
	}
	for n > 0 && !utf8.RuneStart(s[n]) {
		n--
	}
	return s[:n]
}
