package record

import (
	"errors"
	"fmt"
	"io"
	"net/netip"
	"os"
	"time"
)

// Recording is what a file has. Its sessions' events stay in the file until they are asked for.
type Recording struct {
	Sessions  []*Session // in the order in which they begin in the file
	Dropped   uint64     // records that were left out, as the end of the file tells; 0 in a file without an end
	Truncated bool       // the file ends within a record: its writer was killed

	from     io.ReaderAt
	sections []*section
	file     *os.File
}

// Session is a recorded session.
type Session struct {
	ID             uint64 // that of session.Session.ID; 0 if no comment tells it
	Dialed         bool   // it was the client: engine.Dial has made it
	Client, Server netip.AddrPort
	Since          time.Time // of its first packet

	// Partial: the beginning is not in the file. It was overwritten in a ring, or left out, or cut away.
	Partial bool

	Ended  bool   // its end is in the file
	Reason string // why, as Session.Err had it; "" if the end is not in the file, or had none

	recording *Recording
	packets   index
	missing   [2]int // bytes of the client, of the server
}

// Kind is a kind of Event.
type Kind uint8

const (
	Data     Kind = iota // bytes
	Finished             // FIN: nothing follows from this side
	Reset                // the connection was reset from this side, or, from the peer's, has failed: it is silent, or cannot be reached any more
)

// String returns "data", "finished" or "reset".
func (k Kind) String() string { return [...]string{"data", "finished", "reset"}[k] }

// Event is something that one side of a session did.
type Event struct {
	At     time.Time
	Kind   Kind
	Client bool   // the client did it, not the server
	Data   []byte // of Data; valid until the next event is asked for
	Lost   int    // bytes of this side that are missing before this event; Data may be empty then
}

// Open reads a file of Create or Dump, or one that was cut from it by Wireshark, tshark or editcap. A file whose end is missing is read as far as
// it goes. For any other fault there is an error, and for a file with more than 1,048,576 sessions. Close has to be called.
//
// Open reads the file once. It keeps where each packet is, in some 4 bytes, and some 500 bytes for each session. The file must be a regular one,
// and must not be changed before Close, but a Writer may still write to its end: what it writes then is not seen.
func Open(path string) (*Recording, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	r, err := openFile(f)
	if err != nil {
		_ = f.Close()
		return nil, fmt.Errorf("record: %s: %w", path, err)
	}
	return r, nil
}

// Close closes the file. Session.Events returns an error then.
func (r *Recording) Close() error {
	if err := r.file.Close(); err != nil {
		return fmt.Errorf("record: %w", err)
	}
	return nil
}

func openFile(f *os.File) (*Recording, error) {
	info, err := f.Stat()
	if err != nil {
		return nil, err
	}
	if !info.Mode().IsRegular() {
		return nil, errors.New("it is no regular file: copy it to one")
	}
	r, err := read(f, info.Size(), mostSessions)
	if err == nil {
		r.file = f
	}
	return r, err
}

// read is Open for what has the content of a file, and so many sessions at most.
func read(from io.ReaderAt, size int64, most int) (*Recording, error) {
	f := newFile(from, size)
	a := assembly{most: most, live: make(map[pair]*assembling), recording: &Recording{from: from}}
	for p := new(captured); ; {
		more, err := f.next(p)
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		if err := a.take(p, f.at, f.offset-f.at); err != nil {
			return nil, err
		}
	}
	if len(f.sections) == 0 {
		return nil, fmt.Errorf("it is empty: %w", errNotOurs)
	}
	a.recording.Dropped, a.recording.Truncated, a.recording.sections = f.dropped, f.truncated, f.sections
	return a.recording, nil
}

// pair is the addresses of a connection, the lower one first.
type pair struct{ a, b netip.AddrPort }

func pairOf(a, b netip.AddrPort) pair {
	if a.Compare(b) > 0 {
		a, b = b, a
	}
	return pair{a, b}
}

// assembly puts sessions together.
type assembly struct {
	recording *Recording
	most      int // sessions
	live      map[pair]*assembling
}

// assembling is a session that is being put together.
type assembling struct {
	*Session
	sides
}

// take takes the next packet, and where its block is.
func (a *assembly) take(p *captured, at, length int64) error {
	key := pairOf(p.src, p.dst)
	s := a.live[key]
	if begins := p.flags&(tcpSYN|tcpACK) == tcpSYN; begins || s == nil {
		if len(a.recording.Sessions) == a.most {
			return fmt.Errorf("it has more than %d sessions: cut it in parts, with editcap -c", a.most)
		}
		s = a.begin(p, begins)
		a.live[key] = s
	}
	for _, comment := range p.comments {
		r, ok := parseComment(comment)
		if !ok {
			continue
		}
		s.ID, s.Dialed = r.id, r.dialed
		if r.ended {
			s.Ended, s.Reason = true, r.reason
		}
	}
	s.packets.add(at, length)
	client := p.src == s.Client
	events, n := s.follow(p, client)
	for _, e := range events[:n] {
		s.missing[side(client)] += e.Lost
	}
	return nil
}

// begin begins a session with its first packet in the file.
func (a *assembly) begin(p *captured, whole bool) *assembling {
	s := &assembling{Session: &Session{Since: p.at, Partial: !whole, Client: p.src, Server: p.dst, recording: a.recording}}
	if !whole {
		client := !p.outbound // as for a session that was accepted
		for _, comment := range p.comments {
			if r, ok := parseComment(comment); ok {
				client = p.outbound == r.dialed
			}
		}
		if p.flags&(tcpSYN|tcpACK) == tcpSYN|tcpACK {
			client = false
		}
		if !client {
			s.Client, s.Server = p.dst, p.src
		}
	}
	a.recording.Sessions = append(a.recording.Sessions, s.Session)
	return s
}

// Missing returns how many bytes of the client and of the server are missing, apart from those before the beginning of a Partial session.
func (s *Session) Missing() (client, server int) { return s.missing[0], s.missing[1] }
