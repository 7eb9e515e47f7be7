package echoserver

import (
	"flag"
	"log/slog"
	"testing"
	"time"
)

// Each flag for the engine sets its option.
func TestFlagsAreHandedOn(t *testing.T) {
	c, err := parseFlags([]string{"-loops", "3", "-max-sessions", "17", "-send-limit", "200000", "-idle", "90s", "-keep-alive", "5m"}, nil)
	if err != nil {
		t.Fatal(err)
	}
	log := slog.New(slog.DiscardHandler)
	o := c.options(log)
	if o.Loops != 3 || o.MaxSessions != 17 || o.SendLimit != 200_000 || o.IdleTimeout != 90*time.Second || o.DrainTimeout != drainTimeout ||
		o.KeepAlive != 5*time.Minute || o.Logger != log {
		t.Errorf("options %+v", o)
	}
	// A new flag belongs above, or into this list of flags that are not for the engine.
	known := map[string]bool{"loops": true, "max-sessions": true, "send-limit": true, "idle": true, "keep-alive": true,
		"addr": true, "mode": true, "stats": true, "log-level": true, "drain": true,
		"tls-cert": true, "tls-key": true, "tls-self-signed": true, "ws": true, "record": true, "record-ring": true,
		"observe": true, "observe-admin": true, configFlag: true}
	flagSet(new(config)).VisitAll(func(f *flag.Flag) {
		if !known[f.Name] {
			t.Errorf("-%s is neither checked here nor listed as a flag that is not for the engine", f.Name)
		}
	})
}
