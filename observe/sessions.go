package observe

import (
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"slices"
	"time"

	"github.com/servercore-go/servercore/engine"
)

// commonJSON is what both kinds of session have. Sizes are bytes.
type commonJSON struct {
	ID          uint64    `json:"id"`
	Listener    string    `json:"listener,omitempty"`
	Local       string    `json:"local,omitempty"`
	Remote      string    `json:"remote,omitempty"`
	Opened      time.Time `json:"opened"`
	BytesIn     uint64    `json:"bytes_in"`
	BytesOut    uint64    `json:"bytes_out"`
	Dropped     uint64    `json:"bytes_dropped"`
	MessagesIn  uint64    `json:"messages_in"`
	MessagesOut uint64    `json:"messages_out"`
}

// sessionJSON is an open session as /sessions has it.
type sessionJSON struct {
	commonJSON
	Handler string    `json:"handler"` // its type
	Loop    int       `json:"loop"`
	Active  time.Time `json:"active"`
	Pending int       `json:"pending_bytes"`
	Slow    bool      `json:"slow,omitempty"`
	Paused  bool      `json:"paused,omitempty"`
	Ending  bool      `json:"ending,omitempty"`
}

func sessionOf(s engine.SessionStats) sessionJSON {
	return sessionJSON{
		commonJSON: commonJSON{
			ID:          s.ID,
			Listener:    s.Listener,
			Local:       addrString(s.Local),
			Remote:      addrString(s.Remote),
			Opened:      s.Opened.UTC(),
			BytesIn:     s.BytesIn,
			BytesOut:    s.BytesOut,
			Dropped:     s.BytesDropped,
			MessagesIn:  s.MessagesIn,
			MessagesOut: s.MessagesOut,
		},
		Handler: fmt.Sprintf("%T", s.Handler),
		Loop:    s.Loop,
		Active:  s.Active.UTC(),
		Pending: s.Pending,
		Slow:    s.Slow,
		Paused:  s.Paused,
		Ending:  s.Ending,
	}
}

// addrString returns "" for no address: a client's unix socket has none.
func addrString(a net.Addr) string {
	if a == nil {
		return ""
	}
	return a.String()
}

// closedJSON is a session that has ended, as /closed has it.
type closedJSON struct {
	commonJSON
	Closed   time.Time `json:"closed"`
	Duration float64   `json:"duration_seconds"`
	Cause    string    `json:"cause"`
	Reason   string    `json:"reason"`
}

func closedOf(c engine.ClosedSession) closedJSON {
	return closedJSON{
		commonJSON: commonJSON{
			ID:          c.ID,
			Listener:    c.Listener,
			Local:       addrString(c.Local),
			Remote:      addrString(c.Remote),
			Opened:      c.Opened.UTC(),
			BytesIn:     c.BytesIn,
			BytesOut:    c.BytesOut,
			Dropped:     c.BytesDropped,
			MessagesIn:  c.MessagesIn,
			MessagesOut: c.MessagesOut,
		},
		Closed:   c.Closed.UTC(),
		Duration: c.Closed.Sub(c.Opened).Seconds(),
		Cause:    c.Cause,
		Reason:   textOf(c.Reason),
	}
}

// maxReason is how much of a reason's text is shown: it may be the application's, and quote a client.
const maxReason = 512

// textOf returns the text of a reason. Its Error method may be the application's and may panic.
func textOf(reason error) (text string) {
	defer func() {
		if p := recover(); p != nil {
			text = fmt.Sprintf("%T, whose Error method panicked", reason)
		}
	}()
	if reason == nil {
		return ""
	}
	text = reason.Error()
	if len(text) > maxReason {
		text = text[:maxReason] + "..."
	}
	return text
}

// serveSessions serves /sessions.
func (h *handler) serveSessions(w http.ResponseWriter, r *http.Request) {
	q, err := parseQuery(r.URL.Query())
	if err != nil {
		answer(w, http.StatusBadRequest, err.Error())
		return
	}
	best, matched, open := best[engine.SessionStats]{less: q.less, size: q.offset + q.limit}, 0, 0
	for s := range h.engine.SessionStats() {
		if open++; q.matches(s) {
			matched++
			best.add(s)
		}
	}
	list := make([]sessionJSON, 0, min(q.limit, matched))
	for i, s := range best.sorted() {
		if i >= q.offset {
			list = append(list, sessionOf(s))
		}
	}
	writeJSON(w, struct {
		Now      time.Time     `json:"now"`
		Open     int           `json:"open"`    // sessions
		Matched  int           `json:"matched"` // of these
		Offset   int           `json:"offset"`
		Limit    int           `json:"limit"`
		Sessions []sessionJSON `json:"sessions"`
	}{time.Now().UTC(), open, matched, q.offset, q.limit, list})
}

// serveClosed serves /closed.
func (h *handler) serveClosed(w http.ResponseWriter, r *http.Request) {
	q, err := parseClosedQuery(r.URL.Query())
	if err != nil {
		answer(w, http.StatusBadRequest, err.Error())
		return
	}
	list := []closedJSON{}
	for c := range h.engine.Closed() {
		if len(list) == q.limit {
			break
		}
		if q.cause == "" || q.cause == c.Cause {
			list = append(list, closedOf(c))
		}
	}
	writeJSON(w, struct {
		Now    time.Time    `json:"now"`
		Closed []closedJSON `json:"closed"`
	}{time.Now().UTC(), list})
}

func writeJSON(w http.ResponseWriter, v any) {
	w.Header().Set("Content-Type", "application/json")
	w.Header().Set("Cache-Control", "no-store")
	to := json.NewEncoder(w)
	to.SetIndent("", " ")
	_ = to.Encode(v) // the client has gone
}

// best keeps the first few of many in an order, without keeping the others.
type best[T any] struct {
	less func(a, b T) bool // whether a comes before b
	size int
	kept []T // a heap: the last of them is at its root
}

func (b *best[T]) add(v T) {
	switch {
	case len(b.kept) < b.size:
		b.kept = append(b.kept, v)
		for i := len(b.kept) - 1; i > 0; {
			up := (i - 1) / 2
			if !b.less(b.kept[up], b.kept[i]) {
				return
			}
			b.kept[up], b.kept[i] = b.kept[i], b.kept[up]
			i = up
		}
	case b.size > 0 && b.less(v, b.kept[0]):
		b.kept[0] = v
		b.sink()
	}
}

// sink restores the heap from its root.
func (b *best[T]) sink() {
	for i := 0; ; {
		last := i
		for _, down := range []int{2*i + 1, 2*i + 2} {
			if down < len(b.kept) && b.less(b.kept[last], b.kept[down]) {
				last = down
			}
		}
		if last == i {
			return
		}
		b.kept[i], b.kept[last] = b.kept[last], b.kept[i]
		i = last
	}
}

// sorted returns what was kept, the first one first. best is used up.
func (b *best[T]) sorted() []T {
	slices.SortFunc(b.kept, func(x, y T) int {
		switch {
		case b.less(x, y):
			return -1
		case b.less(y, x):
			return 1
		}
		return 0
	})
	return b.kept
}
