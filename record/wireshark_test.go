//go:build wireshark

package record

import (
	"bytes"
	"encoding/hex"
	"errors"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"
)

// These tests need tshark and tcpdump: go test -tags wireshark ./record

// tool runs a program and returns what it prints. What it says on standard error is for the failure.
func tool(t *testing.T, name string, args ...string) string {
	t.Helper()
	c := exec.Command(name, args...)
	var said bytes.Buffer
	c.Stderr = &said
	out, err := c.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, said.String())
	}
	return string(out)
}

// tshark reads a file with all checks on.
func tshark(t *testing.T, path string, args ...string) string {
	t.Helper()
	return tool(t, "tshark", append([]string{"-r", path, "-n", "-o", "tcp.check_checksum:TRUE", "-o", "ip.check_checksum:TRUE"}, args...)...)
}

// followed returns what both sides of n streams sent, as tshark reassembles it: the client's and the server's of the first, and so on.
func followed(t *testing.T, path string, n int) (sides [][2][]byte) {
	t.Helper()
	args := []string{"-q"}
	for i := range n {
		args = append(args, "-z", "follow,tcp,raw,"+strconv.Itoa(i))
	}
	byNumber := make(map[int][2][]byte)
	number := -1
	for line := range strings.Lines(tshark(t, path, args...)) {
		if filter, found := strings.CutPrefix(line, "Filter: tcp.stream eq "); found {
			var err error
			number, err = strconv.Atoi(strings.TrimSpace(filter))
			must(t, err)
			continue
		}
		side := 0
		if strings.HasPrefix(line, "\t") {
			side = 1
		}
		if b, err := hex.DecodeString(strings.TrimSpace(line)); err == nil && number >= 0 {
			both := byNumber[number]
			both[side] = append(both[side], b...)
			byNumber[number] = both
		}
	}
	for i := range n {
		sides = append(sides, byNumber[i])
	}
	return sides
}

// writeKinds records a session of each kind, with a long answer.
func writeKinds(t *testing.T) (path string) {
	t.Helper()
	w, path := create(t, Options{Memory: 64 << 20})
	long := pattern(50_001, 3)
	for _, i := range kinds() {
		s := w.Begin(i)
		s.Received(time.Time{}, []byte("hello"))
		s.Sent(time.Time{}, [][]byte{long}, len(long))
		s.Received(time.Time{}, long[:20_000])
		if i.ID%2 == 0 {
			s.PeerFinished()
			s.Closed(false, errors.New("the peer has closed the connection"))
		} else {
			s.Closed(true, errors.New("kicked"))
		}
	}
	must(t, w.Close())
	return path
}

// tshark finds nothing wrong with any packet, reassembles each stream to what was recorded, and shows the comments.
func TestWiresharkReads(t *testing.T) {
	path := writeKinds(t)
	if bad := tshark(t, path, "-Y", "_ws.malformed || _ws.short || tcp.checksum.status != 1 || ip.checksum.status == 0 || tcp.analysis.flags"); bad != "" {
		t.Errorf("tshark finds fault with:\n%s", bad)
	}
	r := open(t, path)
	for i, got := range followed(t, path, len(r.Sessions)) {
		if s := r.Sessions[i]; !bytes.Equal(got[0], s.stream(t, true)) || !bytes.Equal(got[1], s.stream(t, false)) {
			t.Errorf("stream %d: %d and %d bytes, want %d and %d", i, len(got[0]), len(got[1]), len(s.stream(t, true)), len(s.stream(t, false)))
		}
	}
	fields := tshark(t, path, "-T", "fields", "-e", "frame.packet_flags_direction", "-e", "frame.comment")
	if n := strings.Count(fields, "\n"); n != checkPackets(t, path) {
		t.Errorf("tshark finds %d packets", n)
	}
	for _, want := range []string{"0x00000001\tsession 1, accepted\n",
		"0x00000001\tsession 6, accepted, on a unix socket, so the addresses are made up: /run/game.sock\n", "0x00000002\tsession 7, dialed\n",
		"0x00000002\tsession 7, dialed, has ended: kicked\n"} {
		if !strings.Contains(fields, want) {
			t.Errorf("no packet has direction and comment %q:\n%s", want, fields)
		}
	}
}

// tcpdump reads it, and finds the checksums right.
func TestTcpdumpReads(t *testing.T) {
	path := writeKinds(t)
	out := tool(t, "tcpdump", "-r", path, "-nn", "-v")
	if n := strings.Count(out, "(correct)"); n != checkPackets(t, path) || strings.Contains(out, "incorrect") || strings.Contains(out, "bad") {
		t.Errorf("tcpdump finds %d checksums right:\n%.3000s", n, out)
	}
}

// A session that tshark has cut out is read like the whole file.
func TestCutByTshark(t *testing.T) {
	path := writeKinds(t)
	whole := open(t, path)
	cut := filepath.Join(t.TempDir(), "cut.pcapng")
	tshark(t, path, "-Y", "tcp.stream == 3", "-w", cut)
	r := open(t, cut)
	if len(r.Sessions) != 1 {
		t.Fatalf("%d sessions", len(r.Sessions))
	}
	got, want := r.Sessions[0], whole.Sessions[3]
	if got.ID != want.ID || got.Dialed != want.Dialed || got.sequence(t) != want.sequence(t) || got.Reason != want.Reason || !bytes.Equal(got.stream(t, true), want.stream(t, true)) ||
		!got.Since.Equal(want.Since) {
		t.Errorf("cut out is %+v, want %+v", got, want)
	}
}

// What a ring and a slow disk leave out is a gap for tshark, and nothing else is wrong.
func TestWiresharkReadsGaps(t *testing.T) {
	w, path := create(t, Options{Ring: 256 << 10})
	for id := range uint64(3) {
		s := w.Begin(info(id + 1))
		for i := range 100 {
			s.Received(time.Time{}, pattern(1000, i))
		}
	}
	must(t, w.Dump(""))
	if bad := tshark(t, path, "-Y", "_ws.malformed || _ws.short || tcp.checksum.status == 0"); bad != "" {
		t.Errorf("tshark finds fault with:\n%s", bad)
	}
}
