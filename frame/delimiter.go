package frame

import "bytes"

// Delimiter ends each packet with a fixed sequence of bytes. The packet passed on is what stands before it. Delimiter
// is a [Resumer].
//
//	+---------------------+-----------+
//	| payload             | Delimiter |    the payload is what comes before the first Delimiter
//	+---------------------+-----------+
//
// What is left without a delimiter when the peer closes is no packet.
type Delimiter struct {
	// Delimiter ends a packet. It has no default: an empty one is invalid. It must not be modified while in use.
	Delimiter []byte

	// Max is the most bytes before the delimiter. 0 means DefaultMax. A packet is refused as soon as Max and the
	// delimiter's length have arrived and the delimiter has not.
	Max int

	// Keep leaves the delimiter at the end of the packets that Split returns. Append then wants it there too: what
	// is sent is what arrives.
	Keep bool
}

// max returns the most bytes before the delimiter.
func (f Delimiter) max() (int, error) {
	if len(f.Delimiter) == 0 {
		return 0, invalid("Delimiter.Delimiter", "empty", "1 byte or more")
	}
	return maximum("Delimiter.Max", f.Max)
}

// Split finds the first packet; see [Framer].
func (f Delimiter) Split(data []byte) (packet []byte, n int, err error) { return f.SplitFrom(data, 0) }

// SplitFrom is Split without another search of the first scanned bytes, but for the last len(Delimiter)-1; see
// [Resumer].
func (f Delimiter) SplitFrom(data []byte, scanned int) (packet []byte, n int, err error) {
	most, err := f.max()
	if err != nil {
		return nil, 0, err
	}
	length := len(f.Delimiter)
	window, full := data, false
	if len(data)-length >= most { // the sum could overflow
		window, full = data[:most+length], true
	}
	from := max(0, min(scanned, len(window))-(length-1))
	i := bytes.Index(window[from:], f.Delimiter)
	if i < 0 {
		if full {
			return nil, 0, refuse(ErrTooLarge, "no delimiter in %d bytes, at most %d before it", len(window), most)
		}
		return nil, 0, nil
	}
	end := from + i
	n = end + length
	if f.Keep {
		end = n
	}
	return data[:end:end], n, nil
}

// Append appends the payload and the delimiter; see [Framer]. A payload that would end sooner is ErrMalformed: one
// that contains the delimiter, or whose end would make one with the beginning of the delimiter after it, such as
// "x\r\n" before "\r\n\r\n". With Keep, payload must end with the delimiter, contain no other, and is appended as it is.
func (f Delimiter) Append(dst, payload []byte) ([]byte, error) {
	most, err := f.max()
	if err != nil {
		return dst, err
	}
	body := payload
	if f.Keep {
		var ok bool
		if body, ok = bytes.CutSuffix(payload, f.Delimiter); !ok {
			return dst, refuse(ErrMalformed, "payload of %d bytes without the delimiter at its end", len(payload))
		}
	}
	if len(body) > most {
		return dst, tooLarge(uint64(len(body)), most)
	}
	if i := f.early(body); i >= 0 {
		return dst, refuse(ErrMalformed, "delimiter at byte %d of a payload of %d bytes", i, len(body))
	}
	dst = append(dst, body...)
	return append(dst, f.Delimiter...), nil
}

// early returns where the first delimiter in body and the delimiter after it begins if that is within body, or -1.
func (f Delimiter) early(body []byte) int {
	if i := bytes.Index(body, f.Delimiter); i >= 0 {
		return i
	}
	// One that begins with the last k bytes of body and goes on in the delimiter that follows.
	for k := min(len(f.Delimiter)-1, len(body)); k > 0; k-- {
		if bytes.HasSuffix(body, f.Delimiter[:k]) && bytes.HasPrefix(f.Delimiter, f.Delimiter[k:]) {
			return len(body) - k
		}
	}
	return -1
}
