package main

import (
	"fmt"
	"iter"
	"slices"
	"strings"
	"time"

	"github.com/servercore-go/servercore/record"
	"github.com/servercore-go/servercore/session"
)

// events are what the sides of a session did, in order: session.Events of a recording. They stay in the file, and are read again by each player.
type events = iter.Seq2[record.Event, error]

// script is what the client of a session did, and what it was answered.
type script struct {
	session *record.Session
	events  events
	began   time.Time     // of the recording
	since   time.Duration // from the beginning of the recording to that of the session
	end     end
	sends   int  // bytes that the client sent
	answers int  // bytes that the server sent
	resets  bool // the client has reset the connection, at last
	stopped bool // the recorded server was shut down: its end answers nothing, and is not waited for
}

// step is something that the client did.
type step struct {
	at     time.Duration // from the beginning of the recording
	kind   record.Kind
	data   []byte // valid until the next step
	before int    // bytes that the server had sent before
	last   bool   // the server had ended before
}

// steps reads what the client did.
func (s *script) steps() iter.Seq2[step, error] {
	return func(yield func(step, error) bool) {
		answered, over := 0, false
		for e, err := range s.events {
			switch {
			case err != nil:
				yield(step{}, err)
				return
			case e.Client:
				if !yield(step{e.At.Sub(s.began), e.Kind, e.Data, answered, over}, nil) {
					return
				}
			case e.Kind == record.Data:
				answered += len(e.Data)
			default:
				over = !s.stopped
			}
		}
	}
}

// end is how the server ended the session.
type end uint8

const (
	stayedOpen end = iota // it did not, or the recording ends before
	finished
	wasReset
)

// leftOut counts sessions that are not played.
type leftOut struct{ partial, gaps, dialed int }

func (l leftOut) String() string {
	var parts []string
	for _, p := range []struct {
		n    int
		what string
	}{{l.partial, "without a beginning"}, {l.gaps, "with gaps"}, {l.dialed, "that the recorded program has dialed"}} {
		if p.n > 0 {
			parts = append(parts, fmt.Sprintf("%d %s", p.n, p.what))
		}
	}
	if len(parts) == 0 {
		return "none"
	}
	return strings.Join(parts, ", ")
}

// scripts returns what can be played of a recording, in the order of the beginnings. Sessions that the recorded program has dialed are
// played only if there are no others, or if they are asked for: their server is another one.
func (c *config) scripts(r *record.Recording) (all []*script, left leftOut, err error) {
	accepted := slices.ContainsFunc(r.Sessions, func(s *record.Session) bool { return !s.Dialed })
	var began time.Time
	for _, s := range r.Sessions {
		if began.IsZero() || s.Since.Before(began) {
			began = s.Since
		}
	}
	for _, s := range r.Sessions {
		client, server := s.Missing()
		switch {
		case len(c.sessions) > 0 && !slices.Contains(c.sessions, s.ID):
		case len(c.sessions) == 0 && s.Dialed && accepted:
			left.dialed++
		case s.Partial:
			left.partial++
		case client+server > 0:
			left.gaps++
		default:
			script, err := c.newScript(s, s.Events(), began)
			if err != nil {
				return nil, left, err
			}
			all = append(all, script)
		}
	}
	slices.SortStableFunc(all, func(a, b *script) int { return int(a.since - b.since) })
	return all, left, nil
}

// newScript reads the events of a session once. It reports recorded answers that are no messages of -frame. What the end has cut is not looked
// at.
func (c *config) newScript(s *record.Session, all events, began time.Time) (*script, error) {
	sc := &script{session: s, events: all, began: began, since: s.Since.Sub(began), stopped: strings.HasPrefix(s.Reason, session.ErrShutdown.Error())}
	var rest []byte // of the answers: what is not a whole message
	for e, err := range all {
		switch {
		case err != nil:
			return nil, err
		case e.Client:
			sc.sends += len(e.Data)
			sc.resets = e.Kind == record.Reset
		case e.Kind == record.Data:
			sc.answers += len(e.Data)
			if c.framer == nil {
				continue
			}
			rest = append(rest, e.Data...)
			whole, err := c.wholeMessages(rest)
			if err != nil {
				at := sc.answers - len(rest) + whole
				return nil, fmt.Errorf("-frame %s: the recorded answers of session %d are no such messages, at byte %d: %w", c.frame, s.ID, at, err)
			}
			rest = append(rest[:0], rest[whole:]...)
		case e.Kind == record.Finished:
			if !sc.stopped {
				sc.end = max(sc.end, finished)
			}
		default:
			sc.end = wasReset
		}
	}
	return sc, nil
}

// wholeMessages returns how many bytes the whole messages have that b begins with.
func (c *config) wholeMessages(b []byte) (whole int, err error) {
	for whole < len(b) {
		_, n, err := c.framer.Split(b[whole:])
		if err != nil || n == 0 {
			return whole, err
		}
		whole += n
	}
	return whole, nil
}
