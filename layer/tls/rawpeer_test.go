package tls

import (
	"bytes"
	"crypto/aes"
	"crypto/cipher"
	"crypto/hkdf"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/tls"
	"encoding/binary"
	"encoding/hex"
	"strings"
	"testing"
)

// half is one direction of a TLS 1.3 connection with TLS_AES_128_GCM_SHA256 (RFC 8446 sections 5 and 7).
type half struct {
	t      testing.TB
	secret []byte
	aead   cipher.AEAD
	iv     []byte
	number uint64
}

func (h *half) expand(label string, n int) []byte {
	label = "tls13 " + label
	info := append([]byte{byte(n >> 8), byte(n), byte(len(label))}, label...)
	key, err := hkdf.Expand(sha256.New, h.secret, string(append(info, 0)), n)
	if err != nil {
		h.t.Fatal(err)
	}
	return key
}

func (h *half) setSecret(secret []byte) {
	h.secret, h.number = secret, 0
	block, err := aes.NewCipher(h.expand("key", 16))
	if err == nil {
		h.aead, err = cipher.NewGCM(block)
	}
	if err != nil {
		h.t.Fatal(err)
	}
	h.iv = h.expand("iv", 12)
}

func (h *half) update() { h.setSecret(h.expand("traffic upd", 32)) }

func (h *half) nonce() []byte {
	nonce := bytes.Clone(h.iv)
	for i, b := range binary.BigEndian.AppendUint64(nil, h.number) {
		nonce[4+i] ^= b
	}
	h.number++
	return nonce
}

// record makes one record.
func (h *half) record(kind byte, content []byte) []byte {
	n := len(content) + 1 + h.aead.Overhead()
	header := []byte{23, 3, 3, byte(n >> 8), byte(n)}
	return h.aead.Seal(header, h.nonce(), append(bytes.Clone(content), kind), header)
}

// keyUpdate makes the record, and changes to the next keys.
func (h *half) keyUpdate(answer bool) []byte {
	content := []byte{24, 0, 0, 1, 0}
	if answer {
		content[4] = 1
	}
	r := h.record(typeHandshake, content)
	h.update()
	return r
}

// open returns the kind and content of the first record of b, and the rest.
func (h *half) open(b []byte) (kind byte, content, rest []byte) {
	h.t.Helper()
	n := headerSize + int(b[3])<<8 + int(b[4])
	content, err := h.aead.Open(nil, h.nonce(), b[headerSize:n], b[:headerSize])
	if err != nil {
		h.t.Fatalf("a record of %d bytes: %v", n, err)
	}
	content = bytes.TrimRight(content, "\x00")
	return content[len(content)-1], content[:len(content)-1], b[n:]
}

// rawClient is an established layer of a server, and the two halves of its client, to send what crypto/tls never sends.
func rawClient(t testing.TB) (s *end, out, in *half) {
	t.Helper()
	var log bytes.Buffer
	server, client := serverConfig(), clientConfig()
	server.MinVersion, server.SessionTicketsDisabled, server.KeyLogWriter = tls.VersionTLS13, true, &log
	s, c := pair(t, server, client)
	if suite := c.layer.ConnectionState().CipherSuite; suite != tls.TLS_AES_128_GCM_SHA256 {
		t.Fatalf("cipher suite %s: this test needs a processor with AES instructions", tls.CipherSuiteName(suite))
	}
	secret := func(label string) []byte {
		for line := range strings.Lines(log.String()) {
			if f := strings.Fields(line); f[0] == label {
				b, err := hex.DecodeString(f[2])
				if err != nil {
					t.Fatal(err)
				}
				return b
			}
		}
		t.Fatalf("no %s in the key log", label)
		return nil
	}
	out, in = &half{t: t}, &half{t: t}
	out.setSecret(secret("CLIENT_TRAFFIC_SECRET_0"))
	in.setSecret(secret("SERVER_TRAFFIC_SECRET_0"))
	return s, out, in
}

const typeData = 23

// A KeyUpdate that asks for an answer gets it before the data that is sealed next.
func TestKeyUpdate(t *testing.T) {
	for _, cut := range []int{1, 7, 4096} {
		s, out, in := rawClient(t)
		s.cut = cut
		for round := range 5 {
			s.kept = append(out.keyUpdate(true), out.record(typeData, []byte("new keys"))...)
			s.got, s.out = nil, nil
			if s.open(); s.failed() || string(s.got) != "new keys" || !s.layer.Pending() {
				t.Fatalf("round %d: got %q, error %v, pending %t", round, s.got, s.err, s.layer.Pending())
			}
			if round%2 == 0 {
				s.own()
			} // else Seal puts the answer in front
			s.seal([]byte("answer"))
			kind, content, rest := in.open(s.out)
			if kind != typeHandshake || !bytes.Equal(content, []byte{24, 0, 0, 1, 0}) {
				t.Fatalf("round %d: the first record is of type %d, %x", round, kind, content)
			}
			in.update()
			if kind, content, rest = in.open(rest); kind != typeData || string(content) != "answer" || len(rest) > 0 {
				t.Fatalf("round %d: the second record is of type %d, %q, %d bytes behind it", round, kind, content, len(rest))
			}
			if s.layer.Pending() {
				t.Error("Pending after Seal")
			}
		}
		s.kept, s.got = append(out.keyUpdate(false), out.record(typeData, []byte("x"))...), nil
		if s.open(); string(s.got) != "x" || s.layer.Pending() {
			t.Errorf("after a KeyUpdate without a question: %q, pending %t", s.got, s.layer.Pending())
		}
	}
}

// Peers that make work without data are stopped: crypto/tls allows 16 such records in a row, the layer 64 answers that nobody takes.
func TestFloods(t *testing.T) {
	var empties, updates, mixed, warnings []byte
	s, out, in := rawClient(t)
	for range 17 {
		updates = append(updates, out.keyUpdate(true)...)
	}
	s.kept = updates
	if s.open(); s.err == nil || !strings.Contains(s.err.Error(), "too many") {
		t.Errorf("after 17 KeyUpdates: %v", s.err)
	}
	s.own()
	var kinds []byte
	for b := s.out; len(b) > 0; {
		var kind byte
		kind, _, b = in.open(b)
		if kinds = append(kinds, kind); kind == typeHandshake {
			in.update()
		}
	}
	if len(kinds) != 17 || kinds[16] != typeAlert {
		t.Errorf("records of the types %v were sent, want 16 answers and an alert", kinds)
	}
	s.layer.Finish(s.err)
	if s.layer.Pending() {
		t.Error("close_notify after an alert")
	}

	s, out, _ = rawClient(t)
	for range 17 {
		empties = append(empties, out.record(typeData, nil)...)
	}
	s.kept = empties
	if s.open(); s.err == nil || !strings.Contains(s.err.Error(), "too many") {
		t.Errorf("after 17 empty records: %v", s.err)
	}

	s, out, _ = rawClient(t)
	for range 17 {
		warnings = append(warnings, out.record(typeAlert, []byte{1, 90})...)
	}
	s.kept = warnings
	if s.open(); s.err == nil || !strings.Contains(s.err.Error(), "too many") {
		t.Errorf("after 17 warnings: %v", s.err)
	}

	s, out, in = rawClient(t)
	for range 100 {
		mixed = append(append(mixed, out.keyUpdate(true)...), out.record(typeData, []byte("x"))...)
	}
	s.kept = mixed
	if s.open(); s.err != errFlood || len(s.got) != mostAnswers+1 {
		t.Errorf("after 100 KeyUpdates with data between: %v, %d bytes", s.err, len(s.got))
	}
	s.layer.Finish(s.err)
	s.own()
	kinds = nil
	for b := s.out; len(b) > 0; {
		var kind byte
		kind, _, b = in.open(b)
		if kinds = append(kinds, kind); kind == typeHandshake {
			in.update()
		}
	}
	if len(kinds) != mostAnswers+2 || kinds[mostAnswers+1] != typeAlert {
		t.Errorf("%d records were sent, want %d answers and close_notify", len(kinds), mostAnswers+1)
	}

	// The same, with the answers taken in between, is no flood.
	s, out, _ = rawClient(t)
	for i := range 300 {
		s.kept = append(out.keyUpdate(true), out.record(typeData, []byte("x"))...)
		if s.open(); s.failed() || !s.own() {
			t.Fatalf("KeyUpdate %d: %v", i, s.err)
		}
	}
}

// After Finish the peer may go on, and ask: nothing is answered.
func TestNoAnswerAfterTheLastWord(t *testing.T) {
	s, out, in := rawClient(t)
	s.layer.Finish(nil)
	s.own()
	if kind, content, rest := in.open(s.out); kind != typeAlert || !bytes.Equal(content, []byte{1, 0}) || len(rest) > 0 {
		t.Fatalf("the last word is %d, %x", kind, content)
	}
	s.kept = append(out.keyUpdate(true), out.record(typeData, []byte("still here"))...)
	s.kept = append(s.kept, out.record(99, []byte("garbage"))...)
	if s.open(); string(s.got) != "still here" || s.err == nil || s.layer.Pending() {
		t.Errorf("got %q, %v, pending %t", s.got, s.err, s.layer.Pending())
	}
}

// A bad record: what came before it is delivered, the alert leaves, and there is no other last word.
func TestBadRecords(t *testing.T) {
	for name, tt := range map[string]struct {
		change func(record []byte) []byte
		alert  byte
	}{
		"wrong checksum":  {func(r []byte) []byte { r[len(r)-1] ^= 1; return r }, 20},
		"wrong type":      {func(r []byte) []byte { r[0] = 22; return r }, 20},
		"wrong version":   {func(r []byte) []byte { r[2] = 9; return r }, 70},
		"too long":        {func(r []byte) []byte { r[3] = 0xff; return r }, 22},
		"plain text":      {func([]byte) []byte { return []byte("GET / HTTP/1.1\r\n\r\n") }, 70},
		"no client hello": {func([]byte) []byte { return []byte{22, 3, 3, 0, 4, 1, 0, 0, 0} }, 20},
	} {
		s, out, in := rawClient(t)
		s.kept = append(out.record(typeData, []byte("good")), tt.change(out.record(typeData, []byte("bad")))...)
		s.open()
		if string(s.got) != "good" || s.err == nil {
			t.Errorf("%s: got %q, error %v", name, s.got, s.err)
			continue
		}
		s.layer.Finish(s.err)
		s.own()
		if kind, content, rest := in.open(s.out); kind != typeAlert || !bytes.Equal(content, []byte{2, tt.alert}) || len(rest) > 0 {
			t.Errorf("%s: record of type %d, %x and %d bytes, want alert %d alone", name, kind, content, len(rest), tt.alert)
		}
		if _, err := s.layer.Seal(nil, []byte("x")); err == nil {
			t.Errorf("%s: Seal succeeds after the alert", name)
		}
	}
	// The peer's alert is an error, and has no answer.
	s, out, _ := rawClient(t)
	s.kept = out.record(typeAlert, []byte{2, 80})
	if s.open(); s.err == nil || !strings.Contains(s.err.Error(), "remote error") {
		t.Errorf("after the peer's alert: %v", s.err)
	}
	if s.layer.Finish(s.err); s.layer.Pending() || s.layer.Ended() == nil {
		t.Errorf("after the peer's alert: pending %t, Ended %v", s.layer.Pending(), s.layer.Ended())
	}
}

// prf is TLS 1.2's (RFC 5246 section 5).
func prf(secret, seed []byte, n int) (out []byte) {
	sum := func(p ...[]byte) []byte {
		mac := hmac.New(sha256.New, secret)
		for _, b := range p {
			mac.Write(b)
		}
		return mac.Sum(nil)
	}
	for a := sum(seed); len(out) < n; a = sum(a) {
		out = append(out, sum(a, seed)...)
	}
	return out[:n]
}

// record12 makes the first record of TLS 1.2 behind Finished, with AES-128-GCM (RFC 5288).
func record12(t *testing.T, key, salt []byte, kind byte, content []byte) []byte {
	block, err := aes.NewCipher(key)
	if err != nil {
		t.Fatal(err)
	}
	aead, err := cipher.NewGCM(block)
	if err != nil {
		t.Fatal(err)
	}
	number := []byte{0, 0, 0, 0, 0, 0, 0, 1} // Finished was 0
	n := len(content) + 8 + aead.Overhead()
	r := append([]byte{kind, 3, 3, byte(n >> 8), byte(n)}, number...)
	extra := append(bytes.Clone(number), kind, 3, 3, byte(len(content)>>8), byte(len(content)))
	return aead.Seal(r, append(bytes.Clone(salt), number...), content, extra)
}

// A server of TLS 1.2 refuses to negotiate anew; so does a client. Both say so.
func TestRenegotiationIsRefused(t *testing.T) {
	for _, side := range []string{"server", "client"} {
		var log bytes.Buffer
		server, client := serverConfig(), clientConfig()
		server.MaxVersion, server.KeyLogWriter = tls.VersionTLS12, &log
		client.CipherSuites = []uint16{tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256}
		s, c := pair(t, server, client)
		line := strings.Fields(log.String())
		var parts [2][]byte
		for i := range parts {
			var err error
			if parts[i], err = hex.DecodeString(line[i+1]); err != nil {
				t.Fatal(err)
			}
		}
		const random = headerSize + 4 + 2 // where the random is in a ServerHello's record
		seed := append([]byte("key expansion"), s.first[random:random+32]...)
		keys := prf(parts[1], append(seed, parts[0]...), 2*16+2*4)
		asked, key, salt, message := s, keys[:16], keys[32:36], []byte{1, 0, 0, 0} // ClientHello
		if side == "client" {
			asked, key, salt, message = c, keys[16:32], keys[36:], []byte{0, 0, 0, 0} // HelloRequest
		}
		asked.kept = record12(t, key, salt, typeHandshake, message)
		asked.open()
		if asked.err == nil || strings.Contains(asked.err.Error(), "MAC") || !asked.layer.Pending() {
			t.Errorf("%s: error %v, pending %t; want a refusal and an alert", side, asked.err, asked.layer.Pending())
		}
		if asked.layer.Finish(asked.err); len(asked.layer.Own(nil, true)) == 0 {
			t.Errorf("%s: no alert", side)
		}
	}
}
