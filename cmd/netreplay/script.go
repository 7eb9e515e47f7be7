package main

import (
	"fmt"
	"slices"
	"strings"
	"time"

	"github.com/servercore-go/servercore/record"
)

// script is what the client of a session did, and what it was answered.
type script struct {
	session *record.Session
	since   time.Duration // from the beginning of the recording to that of the session
	steps   []step
	want    []byte // all that the server sent
	end     end
	sends   int // bytes of the steps
}

// step is something that the client did.
type step struct {
	at     time.Duration // from the beginning of the recording
	kind   record.Kind
	data   []byte
	before int  // bytes that the server had sent before
	last   bool // the server had ended before
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
			script := newScript(s, began)
			if err := c.checkFrames(script); err != nil {
				return nil, left, err
			}
			all = append(all, script)
		}
	}
	slices.SortStableFunc(all, func(a, b *script) int { return int(a.since - b.since) })
	return all, left, nil
}

func newScript(s *record.Session, began time.Time) *script {
	sc := &script{session: s, since: s.Since.Sub(began)}
	for _, e := range s.Events {
		switch {
		case e.Client:
			sc.steps = append(sc.steps, step{e.At.Sub(began), e.Kind, e.Data, len(sc.want), sc.end != stayedOpen})
			sc.sends += len(e.Data)
		case e.Kind == record.Data:
			sc.want = append(sc.want, e.Data...)
		case e.Kind == record.Finished:
			sc.end = max(sc.end, finished)
		default:
			sc.end = wasReset
		}
	}
	return sc
}

// checkFrames reports recorded answers that are no messages of -frame. What the end has cut is not looked at.
func (c *config) checkFrames(s *script) error {
	if c.framer == nil {
		return nil
	}
	for at := 0; at < len(s.want); {
		_, n, err := c.framer.Split(s.want[at:])
		if err != nil {
			return fmt.Errorf("-frame %s: the recorded answers of session %d are no such messages, at byte %d: %w", c.frame, s.session.ID, at, err)
		}
		if n == 0 {
			break
		}
		at += n
	}
	return nil
}
