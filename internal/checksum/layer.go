package checksum

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/servercore-go/servercore/session"
)

// Shape is where the application's bytes become records; see the package.
type Shape int

// The shapes.
const (
	Sealing Shape = iota + 1
	Framing
)

func (s Shape) String() string {
	switch s {
	case Sealing:
		return "sealing"
	case Framing:
		return "framing"
	}
	return fmt.Sprintf("shape %d", int(s))
}

// Options are the side and the deadlines of a layer.
type Options struct {
	Server bool // the side; a client says hello first

	// ProbeEvery is the time from one probe of the layer's own to the next. 0: it sends none.
	ProbeEvery time.Duration

	// AnswerWithin is how long the answer to such a probe may take, counted from the Expire that asked for the probe. 0 means ProbeEvery.
	AnswerWithin time.Duration
}

// Counts are the probes and answers of a layer.
type Counts struct {
	ProbesOut, Answered  int // probes that Own has made; those of them that an answer of the peer was for
	ProbesIn, AnswersOut int // probes that came; answers that Own has made, one for all probes that wait
}

// Layer is the layer of shape Framing. Package session calls its methods; see session.Layer there. One goroutine at a time may use it.
type Layer struct {
	shape                Shape
	server, established  bool
	greet                bool // our hello is due
	finishing, said      bool // our last word is due; Own has made it
	peerDone             bool // the peer has said its last word
	discard, dropped     bool
	numberIn, numberOut  uint32 // of the next numbered record
	held                 []byte // the beginning of a record whose end has not come
	rest                 []byte // what is left of a record that dst had no room for; in the memory of held, which is empty then
	result               error  // what Open returns from now on
	answer, probe, close []byte // payloads that Own sends
	answering, probing   bool
	timed                bool    // the probe that waits for Own was asked for by Expire
	asked                []asked // probes that the peer has not answered
	counts               Counts
	every, within        time.Duration
	began, waiting       bool // Expire has told the time once; the answer to the probe of probedAt has not come
	probedAt             time.Duration
}

// asked is a probe of ours: the CRC of its payload, and whether its answer has a deadline.
type asked struct {
	sum   uint32
	timed bool
}

// live is the number of layers that were made and not dropped.
var live atomic.Int64

// Live returns the number of layers that were made and not dropped, those of each [Conn] included. Any goroutine.
func Live() int64 { return live.Load() }

// NewLayer returns a layer of shape Framing. Its messages are made by a [Framer] of the same side.
func NewLayer(o Options) *Layer {
	l := new(Layer)
	l.init(Framing, o)
	return l
}

func (l *Layer) init(shape Shape, o Options) {
	l.shape, l.server, l.greet = shape, o.Server, !o.Server
	l.every, l.within = o.ProbeEvery, o.AnswerWithin
	if l.within == 0 {
		l.within = l.every
	}
	live.Add(1)
}

// Start does nothing: the handshake needs no goroutine.
func (l *Layer) Start(func()) {}

// Established reports whether the peer's hello has come.
func (l *Layer) Established() bool { return l.established }

// PeerDone reports whether the peer has said its last word.
func (l *Layer) PeerDone() bool { return l.peerDone }

// Said reports whether Own has made our last word.
func (l *Layer) Said() bool { return l.said }

// Counts returns the probes and answers so far.
func (l *Layer) Counts() Counts { return l.counts }

// Discard makes Open return no data from now on. Records are checked and probes are answered as before.
func (l *Layer) Discard() { l.discard, l.rest = true, nil }

// Finish makes Own bring the last word and nothing after it. A reason is sent with it, cut to what fits: code and text of a
// *session.CloseError, or code 0 and the text of any other error.
func (l *Layer) Finish(reason error) {
	if l.said {
		return
	}
	l.finishing, l.close = true, l.close[:0]
	if reason == nil {
		return
	}
	code, text := 0, ""
	if c := (*session.CloseError)(nil); errors.As(reason, &c) {
		code, text = c.Code, c.Reason
	} else {
		text = reason.Error()
	}
	l.close = append(l.close, byte(code>>8), byte(code))
	l.close = append(l.close, text[:min(len(text), MaxPayload-2)]...)
}

// Ended returns nil after the peer's last word, else session.ErrTruncated.
func (l *Layer) Ended() error {
	if l.peerDone {
		return nil
	}
	return session.ErrTruncated
}

// Drop gives back the memory. A second Drop panics.
func (l *Layer) Drop() {
	if l.dropped {
		panic("checksum: a layer was dropped twice")
	}
	l.dropped, l.result = true, errDropped
	l.held, l.rest, l.answer, l.probe, l.close, l.asked = nil, nil, nil, nil, nil, nil
	live.Add(-1)
}

var errDropped = errors.New("checksum: the layer was used after Drop")
