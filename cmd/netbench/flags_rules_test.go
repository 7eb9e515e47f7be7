package main

import (
	"os"
	"path/filepath"
	"testing"
)

// A zero, or a number below, that somebody has typed is refused. It does not stand for the default, as it does in a plan.
func TestZeroIsRefused(t *testing.T) {
	for _, name := range []string{"echo", "rate", "churn", "idle", "fanout", "ramp", "search"} {
		cmd, ok := find(name)
		if !ok {
			t.Fatalf("no command %s", name)
		}
		numbers := map[string]bool{"conns": true, "size": true, "threads": true, "depth": true, "rate": true, "messages": true, "connect-rate": true,
			"window": true, "duration": true, "timeout": true, "every": true, "p99": true, "step": true}
		known := append(append([]string(nil), common...), cmd.flags...)
		for _, flag := range known {
			if !numbers[flag] {
				continue
			}
			for _, value := range []string{"0", "-1"} {
				if flag == "duration" || flag == "timeout" || flag == "every" || flag == "p99" || flag == "step" {
					value += "s"
				}
				if _, err := parse(cmd, []string{"-addr", "127.0.0.1:1", "-" + flag, value}); err == nil {
					t.Errorf("%s -%s %s is accepted", name, flag, value)
				}
			}
		}
	}
}

// A file that is replaced keeps its mode, whatever the process's umask makes of new ones.
func TestReplacedFileKeepsItsMode(t *testing.T) {
	path := filepath.Join(t.TempDir(), "result.json")
	if err := os.WriteFile(path, []byte("old"), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, mode := range []os.FileMode{0o600, 0o666, 0o640} {
		if err := os.Chmod(path, mode); err != nil {
			t.Fatal(err)
		}
		f, err := newFile(path)
		if err != nil {
			t.Fatal(err)
		}
		f.text.WriteString("new")
		if err := f.commit(); err != nil {
			t.Fatal(err)
		}
		info, err := os.Stat(path)
		if err != nil || info.Mode().Perm() != mode {
			t.Errorf("mode %v, %v, want %v", info.Mode().Perm(), err, mode)
		}
	}
}
