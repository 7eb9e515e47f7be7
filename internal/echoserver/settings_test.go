package echoserver

import (
	"flag"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// writeFile writes a settings file and returns its path.
func writeFile(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "echoserver.toml")
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// A flag overrides a variable, and a variable overrides the file.
func TestSettingsPrecedence(t *testing.T) {
	const file, env = "idle = \"1s\"\nmax-sessions = 10\n", "ECHOSERVER_IDLE=2s"
	for _, tt := range []struct {
		name, file, args string
		environ          []string
		idle             time.Duration
		max              int
	}{
		{"nothing", "", "", nil, 0, 0},
		{"file", file, "", nil, time.Second, 10},
		{"environment", "", "", []string{env}, 2 * time.Second, 0},
		{"flag", "", "-idle 3s", nil, 3 * time.Second, 0},
		{"environment over file", file, "", []string{env}, 2 * time.Second, 10},
		{"flag over file", file, "-idle 3s", nil, 3 * time.Second, 10},
		{"flag over environment", "", "-idle 3s", []string{env}, 3 * time.Second, 0},
		{"flag over all", file, "-idle 3s", []string{env}, 3 * time.Second, 10},
		{"a flag at its default is set", file, "-idle 0", []string{env}, 0, 10},
		{"an empty variable is not", file, "", []string{"ECHOSERVER_IDLE="}, time.Second, 10},
		{"the last of two variables", "", "", []string{env, "ECHOSERVER_IDLE=4s"}, 4 * time.Second, 0},
		{"variables of others", "", "", []string{"ECHOSERVER_PORT=tcp://10.0.0.1:80", "IDLE=1s", "echoserver_idle=1s", "x"}, 0, 0},
		{"a number in quotes", `max-sessions = "10"`, "", nil, 0, 10},
	} {
		t.Run(tt.name, func(t *testing.T) {
			args, environ := strings.Fields(tt.args), tt.environ
			if tt.file != "" { // by flag and by variable in turn
				if path := writeFile(t, tt.file); len(args) > 0 {
					environ = append(slices.Clone(environ), "ECHOSERVER_CONFIG="+path)
				} else {
					args = append(args, "-config", path)
				}
			}
			c, err := parseFlags(args, environ)
			if err != nil {
				t.Fatal(err)
			}
			if c.idle != tt.idle || c.maxSessions != tt.max {
				t.Errorf("idle %v, max-sessions %d, want %v, %d", c.idle, c.maxSessions, tt.idle, tt.max)
			}
		})
	}
}

// The environment can set every flag, and the file every flag but -config.
func TestSettingsKnowEveryFlag(t *testing.T) {
	values := map[string]string{"addr": "127.0.0.1:1", "loops": "2", "mode": "game", "max-sessions": "3", "send-limit": "131072",
		"idle": "4s", "keep-alive": "8s", "stats": "5s", "log-level": "warn", "drain": "6s",
		"tls-cert": "/c", "tls-key": "/k", "tls-self-signed": "true", "ws": "/w", "record": "/r", "record-ring": "7",
		"observe": "127.0.0.1:2", "observe-admin": "true"}
	var file strings.Builder
	var environ []string
	flagSet(new(config)).VisitAll(func(f *flag.Flag) {
		if f.Name == configFlag {
			return
		}
		if values[f.Name] == "" {
			t.Fatalf("no value for -%s", f.Name)
		}
		file.WriteString(f.Name + " = '" + values[f.Name] + "'\n")
		environ = append(environ, variable(f.Name)+"="+values[f.Name])
	})
	byFile, err := parseFlags([]string{"-config", writeFile(t, file.String())}, nil)
	if err != nil {
		t.Fatal(err)
	}
	byFile.file = ""
	byEnviron, err := parseFlags(nil, environ)
	if err != nil {
		t.Fatal(err)
	}
	if *byFile != *byEnviron || byFile.drain != 6*time.Second || byFile.address != "127.0.0.1:1" || byFile.loops != 2 {
		t.Errorf("by file %+v, by environment %+v", *byFile, *byEnviron)
	}
}

// An error of a setting names the variable, or the file and the line, and says what to use.
func TestBadSettings(t *testing.T) {
	for _, tt := range []struct{ name, file, environ, advice string }{
		{"unknown key", "idle = '1s'\n\nmax-session = 1\n", "", `line 3: unknown key "max-session"`},
		{"the file itself", "config = 'x'\n", "", `line 1: unknown key "config"`},
		{"a table", "[server]\nidle = '1s'\n", "", `unknown key "server`},
		{"no TOML", "idle: 1s\n", "", "line 1: "},
		{"twice", "idle = '1s'\nidle = '2s'\n", "", "idle"},
		{"bad value", "idle = 'soon'\n", "", `idle = "soon": use 0 (never) or a time with its unit`},
		{"a number without unit", "idle = 90\n", "", `idle = "90": use 0 (never)`},
		{"bad kind", "loops = [1]\n", "", `"loops": want text in quotes, a whole number, true or false`},
		{"bad variable", "", "ECHOSERVER_LOOPS=many", `ECHOSERVER_LOOPS="many": use 0 (one for each CPU)`},
		{"bad address", "addr = '7777'\n", "", "use host:port"},
		{"no file", "", "ECHOSERVER_CONFIG=/does/not/exist", "-config: open /does/not/exist"},
	} {
		var args, environ []string
		if tt.file != "" {
			args = []string{"-config", writeFile(t, tt.file)}
		}
		if tt.environ != "" {
			environ = []string{tt.environ}
		}
		_, err := parseFlags(args, environ)
		if err == nil || !strings.Contains(err.Error(), tt.advice) {
			t.Errorf("%s: error %v does not say %q", tt.name, err, tt.advice)
		} else if tt.file != "" && !strings.Contains(err.Error(), args[1]) && tt.name != "bad address" {
			t.Errorf("%s: %v does not name the file", tt.name, err)
		}
	}
}

func FuzzParseFile(f *testing.F) {
	for _, s := range []string{"", "idle = '1s'\n", "loops = 2", "loops = 2.5", "[loops]", "loops = [1]", "loops", "x = 1", "\xff", "loops = 1979-05-27",
		"'loops' = 0x10", "loops.x = 1", "LOOPS = 1", "loops = '''\n3'''", "[[idle]]"} {
		f.Add([]byte(s))
	}
	names := []string{"config", "idle", "loops"}
	f.Fuzz(func(t *testing.T, data []byte) {
		values, err := parseFile(data, names)
		if err != nil && values != nil {
			t.Fatalf("%q: both %v and %v", data, values, err)
		}
		for name := range values {
			if name == configFlag || !slices.Contains(names, name) {
				t.Fatalf("%q sets %q", data, name)
			}
		}
	})
}
