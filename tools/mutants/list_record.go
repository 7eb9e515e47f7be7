package main

// inRecord has mistakes of recordings.
var inRecord = []mutant{
	{"what came is not recorded", "session/driver.go", "		t.Received(data)\n", "		_ = t\n", "./engine TestRecordEcho"},
	{"what the kernel did not take is recorded", "session/write.go", "		t.Sent(iov, n)\n", "		t.Sent(iov, n+1)\n", "./engine TestRecordEcho"},
	{"the end is not recorded", "session/finish.go", "			t.Closed(reset, s.Err())\n", "			_ = t\n", "./engine TestRecordResets"},
	{"the upgrade is not recorded", "engine/handshake.go", "		h.pending.recording.wireIn(in[:used])\n", "", "./engine TestRecordLayers"},
	{"what TLS seals is not recorded", "engine/recording.go", "		a.recording.note(true, plain)\n", "", "./engine TestRecordLayers"},
	{"a file that others can read stays so", "record/writer.go", "		_ = f.Chmod(0o600) // of", "		_ = 0o600 // of", "./record TestOptionsThatCannotBe"},
	{"a sequence number forgets the payload", "record/stream.go", "		s.next[d] += uint32(size)\n", "", "./record TestRecordedIsRead"},
	{"a checksum forgets the length", "record/packet.go", "+6+uint64(length)))", "+6))", "./record TestRecordedIsRead"},
	{"a gap does not show", "record/writer.go", "		s.lost++\n", "", "./record TestSlowDisk"},
	{"a full memory grows", "record/chunks.go", "	if c.held >= c.most && !c.ring {\n", "	if c.held >= c.most+1000 && !c.ring {\n", "./record TestSlowDisk"},
	{"a full disk leaves half a record", "record/writer.go", "		_ = w.file.Truncate(w.offset) // half", "		_ = w.offset // half", "./record TestFullDisk"},
	{"a chunk that a Dump reads is used again", "record/chunks.go", "	if oldest.pinned == 0 {\n", "	if oldest.pinned >= 0 {\n", "./record TestChunksOfADumpStay"},
	{"a ring forgets who a session is", "record/writer.go", "w.memory.ring && s.toldIn != c.serial", "w.memory.ring && s.toldIn == 0", "./record TestRing"},
	{"what a hostile file has too long is read", "record/parse.go", "	if length > mostRead {\n", "	if length > mostRead<<20 {\n", "./record TestHostileFiles"},
	{"sessions have no bound", "record/open.go", "len(a.recording.Sessions) == a.most", "len(a.recording.Sessions) < 0", "./record TestHostileFiles"},
	{"a file that has changed is believed", "record/events.go", "	if s.order.Uint32(block) != blockPacket || ", "	if false && s.order.Uint32(block) != blockPacket || false && ", "./record TestFileChanges"},
	{"compared answers stay in memory", "cmd/netreplay/answers.go", "		a.from += n\n", "		a.from += n\n		a.b = append(make([]byte, 0, cap(a.b)+n), a.b...)\n", "./cmd/netreplay TestAnswersStayInTheFile"},
	{"a difference in the last byte is missed", "cmd/netreplay/compare.go", "	if len(a) != len(b) {\n", "	if len(a) > len(b)+1 {\n", "./cmd/netreplay TestDiffers"},
	{"a reset that shutdown(2) meets is no reset", "internal/reactor/socket.go", "	if err != unix.ENOTCONN {\n", "	if err != nil || err == nil {\n", "./internal/reactor TestCloseWriteAfterReset"},
	{"a broken connection has finished", "record/stream.go", "	case s.broken:\n", "	case s.broken && s.over:\n", "./record TestEnds"},
	{"the EOF of a reset is a FIN", "session/driver.go", "err == nil && !s.severed {\n", "err == nil {\n", "./session TestTap"},
	{"the end of a shutdown is waited for before the client's", "cmd/netreplay/script.go", "over = !s.stopped", "over = true", "./cmd/netreplay TestRecordedShutdown"},
	{"the end of a shutdown is waited for", "cmd/netreplay/script.go", "			if !sc.stopped {\n", "			if !sc.stopped || sc.stopped {\n", "./cmd/netreplay TestRecordedShutdown"},
	{"a client ends before it has its answers", "cmd/netreplay/play.go", "p.lockstep || s.kind != record.Data", "p.lockstep", "./cmd/netreplay TestClientWaitsForTheEnd"},
}
