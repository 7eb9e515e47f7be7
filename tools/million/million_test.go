package main

import (
	"bytes"
	"context"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"
)

// The archive has each name and content where the format wants it: headers and contents begin at multiples of four.
func TestCpio(t *testing.T) {
	var out bytes.Buffer
	w := &cpioWriter{out: &out}
	w.add("dev", modeDir, nil)
	w.add("init", modeProgram, []byte("12345"))
	if err := w.close(); err != nil {
		t.Fatal(err)
	}
	type entry struct{ name, content string }
	var got []entry
	for rest := out.Bytes(); len(rest) > 0; {
		if string(rest[:6]) != "070701" || len(rest)%4 != 0 {
			t.Fatalf("no header at %q", rest)
		}
		field := func(n int) (v int) {
			for _, digit := range rest[6+8*n : 14+8*n] {
				v = v<<4 + strings.IndexByte("0123456789abcdef", digit)
			}
			return v
		}
		size, named := field(6), field(11)
		name := string(rest[110 : 110+named-1])
		at := (110 + named + 3) &^ 3
		got = append(got, entry{name, string(rest[at : at+size])})
		if name == "init" && field(1) != modeProgram {
			t.Errorf("the mode of %s is %o", name, field(1))
		}
		rest = rest[(at+size+3)&^3:]
	}
	if want := []entry{{"dev", ""}, {"init", "12345"}, {"TRAILER!!!", ""}}; !slices.Equal(got, want) {
		t.Errorf("%q, want %q", got, want)
	}
}

// What a machine is asked for reaches its first program; its memory grows with the connections.
func TestArguments(t *testing.T) {
	c := &config{conns: 1_000_000, active: 10, rate: 2.5, duration: time.Minute, limit: time.Hour, cpus: 2, accel: "tcg", cpu: "max", gogc: "100"}
	args := c.arguments("idle", "kernel", "image", "result")
	value := func(flag string) string {
		if i := slices.Index(args, flag); i >= 0 {
			return args[i+1]
		}
		t.Errorf("no %s in %q", flag, args)
		return ""
	}
	if m := value("-m"); m != "14439M" {
		t.Errorf("memory %s", m)
	}
	boot, first, _ := strings.Cut(value("-append"), " -- ")
	if first != "-phase=idle -conns=1000000 -active=10 -rate=2.5 -loops=0 -duration=1m0s -limit=1h0m0s -gogc=100" {
		t.Errorf("the first program gets %q", first)
	}
	if !strings.Contains(boot, "thash_entries=2000000") {
		t.Errorf("the kernel gets %q", boot)
	}
	if c.memory = 512; c.megabytes() != 512 {
		t.Errorf("memory %d MiB, want what was asked for", c.megabytes())
	}
}

// A complete result is not measured again: no machine is needed. One that is not complete stays in the tables.
func TestResumes(t *testing.T) {
	c := &config{conns: 5000, phases: "idle,fanout", cache: t.TempDir()}
	if err := os.Mkdir(filepath.Join(c.cache, "results"), 0o755); err != nil {
		t.Fatal(err)
	}
	for _, phase := range []string{"idle", "fanout"} {
		text := `{"phase": "` + phase + `", "conns": 5000, "held": 5000, "complete": true}`
		if err := os.WriteFile(c.file(phase), []byte(text), 0o644); err != nil {
			t.Fatal(err)
		}
	}
	if err := os.WriteFile(filepath.Join(c.cache, "results", "idle-9000.json"), []byte(`{"phase": "idle", "conns": 9000, "held": 7000}`), 0o644); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PATH", "") // neither go nor qemu can be started
	if err := run(t.Context(), c); err != nil {
		t.Fatal(err)
	}
	text, err := os.ReadFile(filepath.Join(c.cache, "million.md"))
	if err != nil || !strings.Contains(string(text), "| | 5,000 | 9,000 |") || !strings.Contains(string(text), "| sessions held | 5,000 | 7,000 |") {
		t.Errorf("%v\n%s", err, text)
	}
	c.fresh = true
	if err := run(t.Context(), c); err == nil {
		t.Error("-fresh measures nothing again")
	}
}

// The result comes from the serial line. A machine that ends without one, or does not end, is an error.
func TestBoot(t *testing.T) {
	dir := t.TempDir()
	kernel := filepath.Join(dir, "kernel")
	for name, tt := range map[string]struct {
		script, advice string
	}{
		"result":    {`for a; do case $a in file:*) printf '{"phase": "idle", "held": 17}\r\n' >"${a#file:}";; esac; done`, ""},
		"no result": {`for a; do case $a in file:*) : >"${a#file:}";; esac; done`, "no result"},
		"fails":     {"exit 3", "exit status 3"},
		"no end":    {"exec sleep 1000", "deadline"},
	} {
		t.Run(name, func(t *testing.T) {
			c := &config{conns: 1, limit: time.Minute, kernel: kernel, cache: t.TempDir(), accel: "tcg,thread=multi"}
			ctx := t.Context()
			if name == "no end" {
				var cancel context.CancelFunc
				ctx, cancel = context.WithTimeout(ctx, 200*time.Millisecond)
				defer cancel()
			}
			bin := t.TempDir()
			if err := os.WriteFile(filepath.Join(bin, qemu), []byte("#!/bin/sh\n[ \"$1\" = --version ] && exec echo emulator 1\n"+tt.script+"\n"), 0o755); err != nil {
				t.Fatal(err)
			}
			t.Setenv("PATH", bin+":"+os.Getenv("PATH"))
			r, err := c.boot(ctx, "idle", filepath.Join(dir, "image"))
			switch {
			case tt.advice != "":
				if err == nil || !strings.Contains(err.Error(), tt.advice) {
					t.Errorf("the error is %v, want %q in it", err, tt.advice)
				}
			case err != nil:
				t.Error(err)
			case r.Held != 17 || r.Machine.Accel != "tcg" || r.Machine.Emulator != "emulator 1" || r.Machine.Host == "":
				t.Errorf("%+v", r)
			}
		})
	}
	t.Setenv("PATH", "")
	if _, err := (&config{kernel: kernel, cache: t.TempDir()}).boot(t.Context(), "idle", "image"); err == nil || !strings.Contains(err.Error(), "apt-get install") {
		t.Errorf("without an emulator: %v", err)
	}
}
