package frame

import "bytes"

// Line is text in lines. Each line ends with \n or \r\n; Split returns it without its end. The zero value is ready to
// use. Line is a [Resumer].
//
//	+---------------------+------+----+
//	| line                | (\r) | \n |    Append writes no \r
//	+---------------------+------+----+
//
// Bytes without a \n at the end of the stream are not a packet.
type Line struct {
	// Max is the length of the longest line, in bytes, without its end. 0 means DefaultMax. A line is refused as soon as
	// Max+2 bytes have arrived without a \n.
	Max int
}

// Split finds the first line; see [Framer].
func (f Line) Split(data []byte) (packet []byte, n int, err error) { return f.SplitFrom(data, 0) }

// SplitFrom is Split for data whose first scanned bytes were searched before; see [Resumer].
func (f Line) SplitFrom(data []byte, scanned int) (packet []byte, n int, err error) {
	most, err := maximum("Line.Max", f.Max)
	if err != nil {
		return nil, 0, err
	}
	const ending = len("\r\n")
	window, full := data, false
	if len(data)-ending >= most { // most+ending could overflow
		window, full = data[:most+ending], true
	}
	from := max(0, min(scanned, len(window)))
	i := bytes.IndexByte(window[from:], '\n')
	if i < 0 {
		if full {
			return nil, 0, refuse(ErrTooLarge, "no end of line in %d bytes, at most %d before it", len(window), most)
		}
		return nil, 0, nil
	}
	end := from + i
	n = end + 1
	if end > 0 && data[end-1] == '\r' {
		end--
	}
	if end > most {
		return nil, 0, tooLarge(uint64(end), most)
	}
	return data[:end:end], n, nil
}

// Append appends the payload and \n; see [Framer]. It refuses with ErrMalformed a payload that contains \n, or that ends
// with \r, which Split would drop.
func (f Line) Append(dst, payload []byte) ([]byte, error) {
	most, err := maximum("Line.Max", f.Max)
	if err != nil {
		return dst, err
	}
	if len(payload) > most {
		return dst, tooLarge(uint64(len(payload)), most)
	}
	if i := bytes.IndexByte(payload, '\n'); i >= 0 {
		return dst, refuse(ErrMalformed, "\\n at byte %d of a line of %d bytes", i, len(payload))
	}
	if bytes.HasSuffix(payload, []byte{'\r'}) {
		return dst, refuse(ErrMalformed, "\\r at the end of a line of %d bytes", len(payload))
	}
	dst = append(dst, payload...)
	return append(dst, '\n'), nil
}
