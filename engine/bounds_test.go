package engine

import (
	"bytes"
	"errors"
	"log/slog"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/internal/descriptors"
)

// T2: MaxSessions is bounded by the descriptors there are.
func TestSetBounds(t *testing.T) {
	limit, used, err := descriptors.Count()
	if err != nil {
		t.Fatal(err)
	}
	const loops = 3
	most := limit - used - min(max(limit/10, 8+loops), 64+loops)
	for _, tt := range []struct {
		asked, want int
		warns       bool
	}{
		{0, most, false},
		{1, 1, false},
		{most, most, false},
		{most + 1, most, true},
		{1 << 40, most, true},
		{-1, -1, false},
	} {
		log := new(bytes.Buffer)
		e, err := New(Options{Loops: loops, MaxSessions: tt.asked, Logger: slog.New(slog.NewTextHandler(log, nil))})
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(e.setBounds()); err != nil || e.maxSessions != tt.want {
			t.Errorf("MaxSessions %d becomes %d, %v, want %d", tt.asked, e.maxSessions, err, tt.want)
		}
		logged(t, e)
		if warns := strings.Contains(log.String(), "MaxSessions"); warns != tt.warns {
			t.Errorf("MaxSessions %d: the log says %q", tt.asked, log)
		}
	}
}
