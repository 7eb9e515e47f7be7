package frame

import "bytes"

// Delimiter ends each packet with a fixed sequence of bytes. Split returns the bytes before it. Delimiter is a
// [Resumer].
//
//	+---------------------+-----------+
//	| payload             | Delimiter |    the payload ends before the first Delimiter
//	+---------------------+-----------+
//
// Bytes without a delimiter at the end of the stream are not a packet.
type Delimiter struct {
	// Delimiter is the sequence of bytes that ends a packet. It has no default: an empty one is invalid. It must not
	// be modified while the framer is in use.
	Delimiter []byte

	// Max is the largest number of bytes before the delimiter. 0 means DefaultMax. A packet is refused as soon as Max
	// bytes and the length of a delimiter have arrived without a delimiter.
	Max int

	// Keep leaves the delimiter at the end of the packets that Split returns. Append then requires it at the end of
	// its payload.
	Keep bool
}

// max returns the largest number of bytes before the delimiter.
func (f Delimiter) max() (int, error) {
	if len(f.Delimiter) == 0 {
		return 0, invalid("Delimiter.Delimiter", "empty", "1 byte or more")
	}
	return maximum("Delimiter.Max", f.Max)
}

// Split finds the first packet; see [Framer].
func (f Delimiter) Split(data []byte) (packet []byte, n int, err error) { return f.SplitFrom(data, 0) }

// SplitFrom is Split for data whose first scanned bytes were searched before. Of these it searches only the last
// len(Delimiter)-1 again; see [Resumer].
func (f Delimiter) SplitFrom(data []byte, scanned int) (packet []byte, n int, err error) {
	most, err := f.max()
	if err != nil {
		return nil, 0, err
	}
	length := len(f.Delimiter)
	window, full := data, false
	if len(data)-length >= most { // most+length could overflow
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

// Append appends the payload and the delimiter; see [Framer]. It refuses with ErrMalformed a payload that Split would
// end too early: one that contains the delimiter, or whose end forms a delimiter together with the beginning of the
// appended one, such as "x\r\n" before "\r\n\r\n". With Keep, the payload must end with the delimiter, contain no
// other, and is appended unchanged.
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

// early returns the index in body at which Split would find a delimiter too early, or -1.
func (f Delimiter) early(body []byte) int {
	if i := bytes.Index(body, f.Delimiter); i >= 0 {
		return i
	}
	// A delimiter may begin with the last k bytes of body and end within the appended delimiter.
	for k := min(len(f.Delimiter)-1, len(body)); k > 0; k-- {
		if bytes.HasSuffix(body, f.Delimiter[:k]) && bytes.HasPrefix(f.Delimiter, f.Delimiter[k:]) {
			return len(body) - k
		}
	}
	return -1
}
