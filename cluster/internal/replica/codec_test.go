package replica

import (
	"reflect"
	"testing"
)

var example = Message{Kind: Snapshot, From: 7, To: 1 << 63, Version: 300, Clock: 1 << 60, Draining: true, Serial: 1 << 40, Part: 1, Parts: 3,
	Acks: []Applied{{1, 2}, {3, 1 << 50}},
	Changes: []Change{{Op: PutClaim, Name: "alice", ID: 99}, {Op: DeleteMember, Name: "", ID: 0},
		{Op: PutMember, Name: "room", ID: 5, Value: []byte{0, 1}}}}

// What was appended is what is decoded, and nothing that is cut short or too long is decoded.
func TestCodec(t *testing.T) {
	b := example.Append(nil)
	m, err := Decode(b)
	if err != nil || !reflect.DeepEqual(*m, example) {
		t.Fatalf("%+v, %v", m, err)
	}
	for n := range b {
		if _, err := Decode(b[:n]); err == nil {
			t.Errorf("%d of %d bytes are decoded", n, len(b))
		}
	}
	if _, err := Decode(append(b, 0)); err == nil {
		t.Error("a byte too many is decoded")
	}
	b[0]++
	if _, err := Decode(b); err != ErrProtocol {
		t.Errorf("another protocol: %v", err)
	}
}

// No bytes make Decode panic or take more memory than they justify, and what is decoded can be received.
func FuzzDecode(f *testing.F) {
	f.Add(example.Append(nil))
	f.Add((&Message{Kind: Heartbeat, From: 1, Acks: []Applied{{2, 3}}}).Append(nil))
	f.Fuzz(func(t *testing.T, b []byte) {
		m, err := Decode(b)
		if err != nil {
			return
		}
		again, err := Decode(m.Append(nil))
		if err != nil || !reflect.DeepEqual(m, again) {
			t.Errorf("%+v becomes %+v, %v", m, again, err)
		}
		n := New(Config{ID: 1, PartSize: 100}, 0)
		n.Receive(m, 1)
		n.Messages()
	})
}
