package echoserver

import (
	"bytes"
	"io"
	"os"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
)

func TestStatusLine(t *testing.T) {
	last := engine.Stats{Accepted: 5}
	last.Total.BytesIn, last.Total.MessagesIn = 1_000_000, 100
	now := engine.Stats{Sessions: 3, Accepted: 9, Refused: engine.Refused{Full: 1, Descriptors: 2}}
	now.Total.BytesIn, now.Total.MessagesIn = 6_000_000, 300
	now.Total.BytesOut, now.Total.MessagesOut = 25_000, 8

	const want = "sessions 3, accepted 9, refused 3; msg/s in 100 out 4; MB/s in 2.50 out 0.01"
	if got := statusLine(last, now, 2*time.Second); got != want {
		t.Errorf("\n got %s\nwant %s", got, want)
	}
}

func TestStatusLinesOfTheServer(t *testing.T) {
	s := start(t, "-stats", "10ms", "-mode", "echo", "-addr", "127.0.0.1:0")
	s.out.wait(t, "\nsessions 0, accepted 0, refused 0; msg/s in 0 out 0; MB/s in 0.00 out 0.00\n", 1)
	c := s.dial()
	if _, err := c.Write([]byte("x")); err != nil {
		t.Fatal(err)
	}
	if _, err := io.ReadFull(c, make([]byte, 1)); err != nil {
		t.Fatal(err)
	}
	s.out.wait(t, "\nsessions 1, accepted 1, refused 0; ", 1)
	c.Close()
	s.out.wait(t, "\nsessions 0, accepted 1, refused 0; ", 1)
}

func TestScreen(t *testing.T) {
	t.Run("plain lines without a terminal", func(t *testing.T) {
		var out, err bytes.Buffer
		s := newScreen(&out, &err)
		s.status("one")
		io.WriteString(s.log(), "record\n")
		s.status("two")
		s.endStatus()
		s.close(patience)
		if out.String() != "one\ntwo\n" || err.String() != "record\n" {
			t.Errorf("out %q, err %q", &out, &err)
		}
	})
	t.Run("redrawn in place on a terminal", func(t *testing.T) {
		var both bytes.Buffer // as on a terminal
		s := newScreen(&both, &both)
		s.columns = func() int { return 8 }
		io.WriteString(s.log(), "before\n")
		s.status("one")
		s.status("two, which is long")
		io.WriteString(s.log(), "record\n")
		s.endStatus()
		io.WriteString(s.log(), "after\n")
		s.close(patience)
		const want = "before\n" + clearLine + "one" + clearLine + "two, wh" + // 7 of 8 columns
			clearLine + "record\n" + "two, wh" + "\n" + "after\n"
		if both.String() != want {
			t.Errorf("\n got %q\nwant %q", &both, want)
		}
	})
	t.Run("a log elsewhere leaves the terminal alone", func(t *testing.T) {
		var out, err bytes.Buffer
		s := newScreen(&out, &err)
		s.columns = func() int { return 80 }
		s.status("one")
		io.WriteString(s.log(), "record\n")
		s.endStatus()
		s.close(patience)
		if want := clearLine + "one\n"; out.String() != want || err.String() != "record\n" {
			t.Errorf("out %q, err %q", &out, &err)
		}
	})
	t.Run("a file is no terminal", func(t *testing.T) {
		f, err := os.Open(os.DevNull)
		if err != nil {
			t.Fatal(err)
		}
		defer f.Close()
		if n := terminalColumns(f); n != 0 {
			t.Errorf("%s has %d columns", os.DevNull, n)
		}
	})
}
