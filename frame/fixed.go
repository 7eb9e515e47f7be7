package frame

// Fixed makes every Size bytes a packet, without a header or delimiter. It is a [Sizer].
//
//	+----------------+----------------+--
//	| Size bytes     | Size bytes     | ...
//	+----------------+----------------+--
type Fixed struct {
	// Size is the length of every packet, in bytes. It has no default: 0 or less is invalid.
	Size int
}

func (f Fixed) check() error {
	if f.Size <= 0 {
		return invalid("Fixed.Size", f.Size, "1 or more")
	}
	return nil
}

// Split finds the first packet; see [Framer].
func (f Fixed) Split(data []byte) (packet []byte, n int, err error) {
	if err := f.check(); err != nil || len(data) < f.Size {
		return nil, 0, err
	}
	return data[:f.Size:f.Size], f.Size, nil
}

// SizeOf returns Size, whatever data is; see [Sizer].
func (f Fixed) SizeOf([]byte) int { return max(f.Size, 0) }

// Append appends the payload, which must have Size bytes; see [Framer]. It refuses a longer payload with ErrTooLarge and
// a shorter one with ErrMalformed.
func (f Fixed) Append(dst, payload []byte) ([]byte, error) {
	if err := f.check(); err != nil {
		return dst, err
	}
	if len(payload) > f.Size {
		return dst, tooLarge(uint64(len(payload)), f.Size)
	}
	if len(payload) < f.Size {
		return dst, refuse(ErrMalformed, "packet of %d bytes, want %d", len(payload), f.Size)
	}
	return append(dst, payload...), nil
}
