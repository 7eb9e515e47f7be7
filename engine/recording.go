package engine

import (
	"errors"
	"io"
	"runtime/debug"
	"time"

	"github.com/servercore-go/servercore/layer"
	layertls "github.com/servercore-go/servercore/layer/tls"
	"github.com/servercore-go/servercore/record"
	"github.com/servercore-go/servercore/session"
)

// Record has the sessions of a listener, or of a Dial, recorded: what came, what left, and when, above TLS. See package record for the file. The
// handshake of WebSocket is part of it, and so are connections that WebSocketOptions.HTTP serves. Connections that do not become sessions
// are not.
//
// A loop copies what is recorded into memory of the Writer's and waits for nothing: records for which there is no room are left out. One
// Writer may be given to any number of listeners and dials. Close it when the engine has ended; an engine that records to a Writer that is
// closed goes on.
func Record(w *record.Writer) Option {
	return func(o *origin) error {
		if w == nil {
			return errors.New("Record: the writer is nil")
		}
		return once("Record", &o.recorder, w, o.recorder != nil)
	}
}

// recording is what is recorded of one connection. It is the tap of a session, once there is one. Before, in the handshake, it keeps what
// passes. nil records nothing.
type recording struct {
	stream *record.Stream // nil before there is a session
	off    bool           // the session is not recorded
	secure bool           // what passes above TLS is recorded, not the wire
	since  time.Time
	early  []early // what the handshake has brought
	kept   int     // its bytes
}

// early is what has passed before there was a session.
type early struct {
	at   time.Time
	out  bool
	data []byte
}

// maxEarly bounds the bytes that are kept of a handshake: the longest request that a WebSocket may begin with has less.
const maxEarly = 64 << 10

// newRecording begins with a connection in its handshake.
func newRecording(p pendingConn) *recording {
	return &recording{secure: p.origin.tls != nil, since: time.Now()}
}

// record begins to record a session that was just bound.
func (l *loop) record(d *session.Driver, p pendingConn) {
	r := p.recording
	if r == nil { // without a handshake
		r = new(recording)
	}
	r.stream = l.callBegin(p.origin.recorder, record.Info{
		ID: d.Session().ID(), Dialed: p.attempt != nil, Local: p.local, Remote: p.remote, Since: r.since,
	})
	kept := r.early
	r.early = nil
	if r.stream == nil {
		r.off = true
		return
	}
	for _, e := range kept {
		if e.out {
			r.stream.Sent(e.at, [][]byte{e.data}, len(e.data))
		} else {
			r.stream.Received(e.at, e.data)
		}
	}
	d.UseTap(r)
}

// callBegin begins to record, whatever the Writer's Filter does. It returns nil for a session that is not to be recorded.
func (l *loop) callBegin(w *record.Writer, i record.Info) (s *record.Stream) {
	returned := false
	defer func() {
		l.scratch.Leave()
		if returned {
			return
		}
		value := recover()
		if value == nil { // the session is lost, as bind has not returned
			value = "runtime.Goexit"
		}
		l.engine.log.LimitedError(panicLine, "the Filter of a recording failed, the session is not recorded", "panic", value, "stack", string(debug.Stack()))
	}()
	l.scratch.Enter(session.CallFactory, nil)
	s = w.Begin(i)
	returned = true
	return s
}

// note records bytes that have passed before there was a session, or above TLS.
func (r *recording) note(out bool, data []byte) {
	switch {
	case len(data) == 0 || r.off:
	case r.stream != nil && out:
		one := [1][]byte{data}
		r.stream.Sent(time.Time{}, one[:], len(data))
	case r.stream != nil:
		r.stream.Received(time.Time{}, data)
	case r.kept+len(data) <= maxEarly:
		r.kept += len(data)
		r.early = append(r.early, early{time.Now(), out, append([]byte(nil), data...)})
	}
}

// wireIn records what a handshake has used of the wire.
func (r *recording) wireIn(data []byte) {
	if r != nil && !r.secure {
		r.note(false, data)
	}
}

// wireOut records what a handshake has sent.
func (r *recording) wireOut(data []byte) {
	if r != nil && !r.secure {
		r.note(true, data)
	}
}

// The methods of session.Tap.

func (r *recording) Received(data []byte) {
	if !r.secure {
		r.stream.Received(time.Time{}, data)
	}
}

func (r *recording) Sent(bufs [][]byte, n int) {
	if !r.secure {
		r.stream.Sent(time.Time{}, bufs, n)
	}
}

func (r *recording) PeerFinished() {
	if r.secure { // it may have overtaken what is not opened yet
		r.stream.PeerFinishedLater()
		return
	}
	r.stream.PeerFinished()
}

func (r *recording) Finished()                       { r.stream.Finished() }
func (r *recording) Broken(err error)                { r.stream.Broken(err) }
func (r *recording) Closed(reset bool, reason error) { r.stream.Closed(reset, reason) }

// aboveTLS is TLS that records what it opens and seals.
type aboveTLS struct {
	*layertls.Layer
	recording *recording
}

var _ layer.Below = (*aboveTLS)(nil)

// above returns a layer that does what t does, and records. Without a recording it is t itself.
func (r *recording) above(t tlsLayer) layer.Below {
	if r == nil {
		return t
	}
	return &aboveTLS{t, r}
}

// Open implements session.Layer. The peer's close_notify is its FIN.
func (a *aboveTLS) Open(dst, in []byte) (data []byte, used int, more bool, err error) {
	data, used, more, err = a.Layer.Open(dst, in)
	a.recording.note(false, data)
	if err != nil && errors.Is(err, io.EOF) && a.recording.stream != nil {
		a.recording.stream.PeerFinished()
	}
	return data, used, more, err
}

// Seal implements session.Sealer.
func (a *aboveTLS) Seal(dst, plain []byte) ([]byte, error) {
	sealed, err := a.Layer.Seal(dst, plain)
	if err == nil {
		a.recording.note(true, plain)
	}
	return sealed, err
}
