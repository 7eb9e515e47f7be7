package engine

import (
	"context"
	"log/slog"
	"sync"
	"time"
)

// line is a kind of log line that an outsider can provoke, and that is therefore written at most once a second;
// the next one tells how many were left out.
type line uint8

const (
	acceptLine line = iota
	fullLine
	factoryLine
	panicLine
	reconnectLine
	giveUpLine
	guardLine
	admitLine
	proxyLine
	lines
)

const lineEvery = time.Second

// logger is the engine's voice.
type logger struct {
	out *slog.Logger

	mu    sync.Mutex
	state [lines]struct {
		last time.Time
		left int
	}
}

func newLogger(out *slog.Logger) *logger { return &logger{out: out} }

// limited writes a warning unless one of its kind was written within the last second.
func (l *logger) limited(kind line, message string, args ...any) {
	now := time.Now()
	l.mu.Lock()
	s := &l.state[kind]
	if !s.last.IsZero() && now.Sub(s.last) < lineEvery {
		s.left++
		l.mu.Unlock()
		return
	}
	left := s.left
	s.last, s.left = now, 0
	l.mu.Unlock()
	if left > 0 {
		args = append(args, "left_out", left)
	}
	level := slog.LevelWarn
	if kind == panicLine {
		level = slog.LevelError
	}
	l.out.Log(context.Background(), level, message, args...)
}

func (l *logger) error(message string, err error, args ...any) {
	l.out.Error(message, append(args, "err", err)...)
}
