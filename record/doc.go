// Package record writes what sessions receive and send to a file that Wireshark, tshark and tcpdump open, and reads it back for replay.
//
//	w, err := record.Create("players.pcapng", record.Options{})
//	...
//	l, err := e.Listen("tcp", ":7777", newPlayer, engine.Record(w))
//	...
//	err = w.Close() // after the engine has ended
//
// # What is recorded
//
// For each session the bytes that came and left, in order, with times, above TLS: the bytes of the wire if there is no TLS, and otherwise
// what was decrypted and what is to be encrypted. Headers of a framer and frames of WebSocket are part of it, the request of the upgrade
// too, so Wireshark can dissect them. What left is what the kernel took; above TLS it is what was sealed, of which a session that is reset
// may not have sent the end. Bytes of the wire that came after the session's own end, and were thrown away, are recorded as well.
//
// # The file
//
// It has the format pcapng (draft-ietf-opsawg-pcapng), with raw IP packets (LINKTYPE_RAW) and times in nanoseconds. Headers of IP and TCP
// are made up around what was recorded, because a session has no packets: the three of the beginning, one for each read or write (several
// if it has more than 16 KiB), acknowledgements, FIN and RST. Addresses, ports, sequence numbers and checksums are right. Each packet tells
// its direction. A unix socket has addresses of 198.18.0.0/15, which RFC 2544 sets aside for measurements. The first packet of a session
// has a comment with its number ([github.com/servercore-go/servercore/session.Session.ID]), the last one with the reason of its end:
//
//	session 17, accepted
//	session 17, accepted, has ended: session: the peer has closed the connection
//
// Each record goes whole to the file or not at all. A process that is killed leaves a file that is readable up to its last whole record.
// Records that find the memory full, because the disk is slow, are left out and counted; the sequence numbers go on, so that the gap shows.
//
// # The ring
//
// With Options.Ring nothing is written until [Writer.Dump]: the last bytes stay in memory, as in a flight recorder. Sessions whose
// beginning has been overwritten begin in the middle.
//
// # For those who change this package
//
//	writer.go   Create, Close; the queue between the sessions and the goroutine that writes
//	dump.go     Dump
//	chunks.go   the memory of the queue and of the ring
//	stream.go   a session: which packets an event makes
//	packet.go   one packet: headers, checksums
//	pcapng.go   the blocks of the file
//	parse.go    blocks and packets, read
//	open.go     Open: sessions, put together from packets
//	events.go   Session.Events: where a session's packets are, and what they tell
package record
