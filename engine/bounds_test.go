package engine

import (
	"bytes"
	"errors"
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"golang.org/x/sys/unix"
)

// The descriptors in use are counted where the system does not list them, and what looks like a list is not believed.
func TestCountDescriptors(t *testing.T) {
	limit, listed, err := descriptors()
	if err != nil || limit < 1 || listed < 3 {
		t.Fatal(limit, listed, err)
	}
	var r unix.Rlimit
	if err := unix.Getrlimit(unix.RLIMIT_NOFILE, &r); err != nil || uint64(limit) != min(uint64(r.Cur), 1<<30) {
		t.Errorf("the limit is %d, the system says %d, %v", limit, r.Cur, err)
	}
	before := countDescriptors(limit)
	for range 20 {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
	}
	if n := countDescriptors(limit); n != before+20 {
		t.Errorf("%d are counted, want %d", n, before+20)
	}
	if _, n, _ := descriptors(); n != listed+20 || n != before+20 {
		t.Errorf("%d are listed, before %d, and %d were counted", n, listed, before)
	}
	if n := countDescriptors(2); n != 2 {
		t.Errorf("%d of the first two", n)
	}
	fake := t.TempDir() // as FreeBSD's is
	for _, name := range []string{"0", "1", "2"} {
		if err := os.WriteFile(filepath.Join(fake, name), nil, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if n, ok := listDescriptors(fake); ok {
		t.Errorf("any folder is believed: %d", n)
	}
	if _, ok := listDescriptors(filepath.Join(fake, "none")); ok {
		t.Error("no folder is believed")
	}
}

// T2: MaxSessions is bounded by the descriptors there are.
func TestSetBounds(t *testing.T) {
	limit, used, err := descriptors()
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
