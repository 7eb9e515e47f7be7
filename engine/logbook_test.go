package engine

import (
	"context"
	"log/slog"
	"slices"
	"sync"
)

// logBook is a slog.Handler that keeps the records it is given.
type logBook struct {
	mu      sync.Mutex
	records []map[string]slog.Value
}

func (b *logBook) WithAttrs([]slog.Attr) slog.Handler       { return b }
func (b *logBook) WithGroup(string) slog.Handler            { return b }
func (b *logBook) Enabled(context.Context, slog.Level) bool { return true }

func (b *logBook) Handle(_ context.Context, r slog.Record) error {
	line := map[string]slog.Value{"msg": slog.StringValue(r.Message), "level": slog.AnyValue(r.Level)}
	r.Attrs(func(a slog.Attr) bool { line[a.Key] = slog.StringValue(a.Value.String()); return true })
	b.mu.Lock()
	defer b.mu.Unlock()
	b.records = append(b.records, line)
	return nil
}

func (b *logBook) all() []map[string]slog.Value {
	b.mu.Lock()
	defer b.mu.Unlock()
	return slices.Clone(b.records)
}
