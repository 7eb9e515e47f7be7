package enginekit

import (
	"context"
	"log/slog"
	"slices"
	"sync"
)

// Log is a slog.Handler that keeps what it is given.
type Log struct {
	mu    sync.Mutex
	lines []map[string]slog.Value
}

// Enabled implements slog.Handler.
func (*Log) Enabled(context.Context, slog.Level) bool { return true }

// WithAttrs implements slog.Handler.
func (l *Log) WithAttrs([]slog.Attr) slog.Handler { return l }

// WithGroup implements slog.Handler.
func (l *Log) WithGroup(string) slog.Handler { return l }

// Handle implements slog.Handler.
func (l *Log) Handle(_ context.Context, r slog.Record) error {
	line := map[string]slog.Value{"msg": slog.StringValue(r.Message)}
	r.Attrs(func(a slog.Attr) bool { line[a.Key] = a.Value; return true })
	l.mu.Lock()
	defer l.mu.Unlock()
	l.lines = append(l.lines, line)
	return nil
}

// Lines returns what has been logged: the attributes of each line, and its message as "msg".
func (l *Log) Lines() []map[string]slog.Value {
	l.mu.Lock()
	defer l.mu.Unlock()
	return slices.Clone(l.lines)
}
