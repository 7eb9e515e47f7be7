package cluster

import (
	"log/slog"
	"sync"
	"time"
)

// limited logs a line of a kind at most once a second.
type limited struct {
	mu   sync.Mutex
	last map[string]time.Time
}

func (l *limited) warn(log *slog.Logger, line string, err error) {
	l.mu.Lock()
	if l.last == nil {
		l.last = make(map[string]time.Time)
	}
	now := time.Now()
	said := now.Sub(l.last[line]) < time.Second
	if !said {
		l.last[line] = now
	}
	l.mu.Unlock()
	if !said {
		log.Warn(line, "err", err)
	}
}
