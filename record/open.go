package record

import (
	"fmt"
	"net/netip"
	"os"
	"time"
)

// Recording is what a file has.
type Recording struct {
	Sessions  []*Session // in the order in which they begin in the file
	Dropped   uint64     // records that were left out, as the end of the file tells; 0 in a file without an end
	Truncated bool       // the file ends within a record: its writer was killed
}

// Session is a recorded session.
type Session struct {
	ID             uint64 // that of session.Session.ID; 0 if no comment tells it
	Dialed         bool   // it was the client: engine.Dial has made it
	Client, Server netip.AddrPort
	Since          time.Time // of its first packet
	Events         []Event   // in order

	// Partial: the beginning is not in the file. It was overwritten in a ring, or left out, or cut away.
	Partial bool

	Ended  bool   // its end is in the file
	Reason string // why, as Session.Err had it; "" if the end is not in the file, or had none
}

// Kind is a kind of Event.
type Kind uint8

const (
	Data     Kind = iota // bytes
	Finished             // FIN: nothing follows from this side
	Reset                // the connection was reset from this side
)

// String returns "data", "finished" or "reset".
func (k Kind) String() string { return [...]string{"data", "finished", "reset"}[k] }

// Event is something that one side of a session did.
type Event struct {
	At     time.Time
	Kind   Kind
	Client bool   // the client did it, not the server
	Data   []byte // of Data; shares memory with the other events, and is not to be modified
	Lost   int    // bytes of this side that are missing before this event; Data may be empty then
}

// Open reads a file of Create or Dump, or one that was cut from it by Wireshark, tshark or editcap. It reads the whole file into memory. A
// file whose end is missing is read as far as it goes. For any other fault there is an error.
func Open(path string) (*Recording, error) {
	b, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("record: %w", err)
	}
	r, err := read(b)
	if err != nil {
		return nil, fmt.Errorf("record: %s: %w", path, err)
	}
	return r, nil
}

// read is Open for the content of a file.
func read(b []byte) (*Recording, error) {
	f := &file{rest: b}
	a := assembly{live: make(map[pair]*assembling), recording: new(Recording)}
	for p := new(captured); ; {
		more, err := f.next(p)
		if err != nil {
			return nil, err
		}
		if !more {
			break
		}
		a.take(p)
	}
	if f.order == nil {
		return nil, fmt.Errorf("it is empty: %w", errNotOurs)
	}
	a.recording.Dropped, a.recording.Truncated = f.dropped, f.truncated
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
	live      map[pair]*assembling
}

// assembling is a session that is being put together.
type assembling struct {
	*Session
	next  [2]uint32 // the sequence number that comes next: the client's, the server's
	known [2]bool   // whether that is known
}

// take takes the next packet.
func (a *assembly) take(p *captured) {
	key := pairOf(p.src, p.dst)
	s := a.live[key]
	if begins := p.flags&(tcpSYN|tcpACK) == tcpSYN; begins || s == nil {
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
	s.add(p)
}

// begin begins a session with its first packet in the file.
func (a *assembly) begin(p *captured, whole bool) *assembling {
	s := &assembling{Session: &Session{Since: p.at, Partial: !whole, Client: p.src, Server: p.dst}}
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

// add adds what a packet tells.
func (s *assembling) add(p *captured) {
	side, client := 1, p.src == s.Client
	if client {
		side = 0
	}
	seq, lost := p.seq, 0
	if p.flags&tcpSYN != 0 {
		s.next[side], s.known[side] = seq+1, true
		return
	}
	if s.known[side] {
		// What comes again, as the acknowledgement of a keep-alive would, is behind: the difference is negative.
		if lost = int(int32(seq - s.next[side])); lost < 0 {
			return
		}
	}
	event := Event{At: p.at, Client: client, Lost: lost}
	if n := uint32(len(p.payload)); n > 0 || lost > 0 && p.flags&(tcpFIN|tcpRST) == 0 {
		event.Data = p.payload
		s.Events = append(s.Events, event)
		seq += n
		event.Data, event.Lost = nil, 0
	}
	if p.flags&tcpFIN != 0 {
		event.Kind = Finished
		s.Events = append(s.Events, event)
		seq++
	} else if p.flags&tcpRST != 0 {
		event.Kind = Reset
		s.Events = append(s.Events, event)
	}
	s.next[side], s.known[side] = seq, true
}

// Missing returns how many bytes of the client and of the server are missing, apart from those before the beginning of a Partial session.
func (s *Session) Missing() (client, server int) {
	for _, e := range s.Events {
		if e.Client {
			client += e.Lost
		} else {
			server += e.Lost
		}
	}
	return client, server
}
