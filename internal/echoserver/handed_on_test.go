package echoserver

import (
	"flag"
	"log/slog"
	"testing"
	"time"
)

// Each flag that is about the engine reaches the engine as the option that is meant.
func TestFlagsAreHandedOn(t *testing.T) {
	c, err := parseFlags([]string{"-loops", "3", "-max-sessions", "17", "-send-limit", "200000", "-idle", "90s"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	o := c.options(log)
	if o.Loops != 3 || o.MaxSessions != 17 || o.SendLimit != 200_000 || o.IdleTimeout != 90*time.Second || o.DrainTimeout != drainTimeout ||
		o.Logger != log {
		t.Errorf("options %+v", o)
	}
	// A flag that is added belongs above, or into this list of those that are not the engine's.
	known := map[string]bool{"loops": true, "max-sessions": true, "send-limit": true, "idle": true,
		"addr": true, "mode": true, "stats": true, "log-level": true, "drain": true, configFlag: true}
	flagSet(new(config)).VisitAll(func(f *flag.Flag) {
		if !known[f.Name] {
			t.Errorf("what becomes of -%s?", f.Name)
		}
	})
}
