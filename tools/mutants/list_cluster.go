package main

// replicated names the tests for mistakes that the simulator of nodes finds.
const replicated = "./cluster/internal/replica TestSimulator"

// inCluster has the mistakes in module cluster, and in the state machine of its nodes.
var inCluster = []mutant{
	{"a message of another node that comes again reaches members again", "cluster/deliver.go", "case at.epoch < last.epoch || at.number <= last.number:", "case at.epoch < last.epoch:", "./cluster TestRepeatsAndGaps"},
	{"messages of other nodes that are missing are not counted", "cluster/deliver.go", "		c.stats.missed.Add(at.number - last.number - 1)\n", "", "./cluster TestRepeatsAndGaps"},
	{"what was sent while there was no member counts as missed", "cluster/deliver.go", "	case last.by == m.Sub:\n", "	case last.by != nil:\n", "./cluster TestSubscribedAgain"},
	{"a node stays subscribed to a room without members", "cluster/deliver.go", "	case !want && sub != nil:\n", "	case !want && sub != nil && c == nil:\n", "./cluster TestSubscribedWhileThereAreMembers"},
	{"a Broadcast without a bus says nothing of it", "cluster/room.go", "	if !c.Available() {\n", "	if !c.Available() && r == nil {\n", "./cluster TestN2BusGone"},
	{"a Broadcast that the bus does not take is queued", "cluster/room.go", "len(p) > most {", "len(p) > 4*most {", "./cluster TestTooLarge"},
	{"a room that nobody uses is kept", "cluster/room.go", "	if c.rooms[name] == ref {\n", "	if c.rooms[name] == ref && ref == nil {\n", "./cluster TestRoomsAreGarbage"},
	{"a room with members is not counted", "cluster/room.go", "if f.uses += n; f.uses > 0 {", "if f.uses += n; f.uses > 1<<20 {", "./cluster TestSamplesAreTheNode"},
	{"a member that leaves stays known to the others", "cluster/room.go", "	c.machine.Leave(r.name, s.ID())\n", "", "./cluster TestPresence"},
	{"rooms whose names begin alike are one", "cluster/room.go", "EncodeToString([]byte(name))", "EncodeToString([]byte(name[:1]))", "./cluster TestRoomNames"},
	{"the queue to the bus has no bound", "cluster/queue.go", "q.closed || q.bytes+size+itemOverhead > q.limit", "q.closed", "./cluster TestN4SlowBus"},
	{"what was dropped seems less while a subscription ends", "cluster/stats.go", "		if n <= before {\n", "		if n == before {\n", "./cluster TestSamplesAreTheNode"},

	{"a session gets messages before its claim is granted", "cluster/claim.go", "	case !cl.granted:\n", "	case !cl.granted && c.closed:\n", "./cluster TestSendWaitsForTheClaim"},
	{"a claim that was given up holds the key", "cluster/claim.go", "	c.machine.Release(key, cl.ticket)\n	c.drop(cl)\n	cl.finish(ctx.Err())\n", "	c.drop(cl)\n	cl.finish(ctx.Err())\n", "./cluster TestClaimTakenBack"},
	{"the session that loses a key goes on", "cluster/cluster.go", "				cl.session.DisconnectWith(ErrReplaced)\n", "", "./cluster TestClaimReplacesElsewhere"},
	{"a session that has ended holds its keys", "cluster/sessions.go", "		c.machine.Release(cl.key, cl.ticket)\n", "", "./cluster TestStress"},
	{"a node that ends does not say so", "cluster/cluster.go", "	c.machine.End()\n", "", "./cluster TestCloseIsTold"},
	{"a key that nobody holds is reported as a bus that is gone", "cluster/send.go", "			return ErrNoHolder\n		default:\n", "			return ErrUnavailable\n		default:\n", "./cluster TestClaimReplacesElsewhere|TestClaimTakenBack"},
	{"the node of a holder that has moved on says that it has accepted", "cluster/send.go", "	case err == nil:\n		return []byte{answerOK}\n", "	case err == nil || errors.Is(err, ErrNoHolder):\n		return []byte{answerOK}\n", "./cluster TestDrain"},

	{"a session whose queue is full is reported as one that has accepted", "cluster/send.go", "	case len(b) == 1 && b[0] == answerFull:\n		return s, session.ErrSendLimit\n", "	case len(b) == 1 && b[0] == answerFull:\n		return s, nil\n", "./cluster TestSendToAFullSession"},
	{"a draining node takes claims", "cluster/claim.go", "	case c.draining:\n", "	case c.draining && c.closed:\n", "./cluster TestDrain"},
	{"a draining node tells its sessions nothing", "cluster/drain.go", "			tell(h)\n", "			_ = h\n", "./cluster TestDrain"},
	{"Drain does not wait for sessions", "cluster/drain.go", "	if len(c.sessions) == 0 {\n", "	if len(c.sessions) >= 0 {\n", "./cluster TestDrain"},
	{"Watch tells of nobody who leaves", "cluster/presence.go", "if _, in := now[m]; !in {", "if _, in := now[m]; !in && m.Node == 0 {", "./cluster TestPresence"},

	{"the earlier of two claims wins", "cluster/internal/replica/claim.go", "c.stamp.Less(theirs)", "theirs.Less(c.stamp)", replicated},
	{"a claim is granted before all have heard of it", "cluster/internal/replica/claim.go", "		acked = min(acked, p.acked)\n", "", replicated},
	{"a claim is granted before the logs of all are known", "cluster/internal/replica/claim.go", "		if p.applied < p.need {\n", "		if p.applied < p.need && !m.up {\n", "./cluster/internal/replica TestR5LogsAreKnownBeforeAGrant"},
	{"two claims of a node have one stamp", "cluster/internal/replica/claim.go", "m.clock = max(m.clock+1, wall<<16)", "m.clock = max(m.clock, wall<<16)", replicated},
	{"a claim that failed stays in the log", "cluster/internal/replica/claim.go", "			m.remove(c)\n			m.emit(Event{What: Failed", "			c.over = true\n			m.emit(Event{What: Failed", replicated},
	{"an acknowledgement from before a stop grants a claim", "cluster/internal/replica/view.go", "		m.lastTick = now\n		m.restart(now)\n", "		m.lastTick = now\n", "./cluster/internal/replica TestAStopIsNoticed"},
	{"a node that is silent is never down", "cluster/internal/replica/view.go", "now-p.lastHeard > m.cfg.FailAfter", "now-p.lastHeard > 1000*m.cfg.FailAfter", replicated},
	{"changes after a gap are left out", "cluster/internal/replica/peer.go", "		p.applied, p.asked = msg.Version, false\n", "		p.applied, p.asked = msg.Version+1, false\n", replicated},
	{"parts of two snapshots are mixed", "cluster/internal/replica/peer.go", "a.parts == nil || a.serial != msg.Serial || ", "a.parts == nil || ", replicated},
	{"the log that was lost is not asked for", "cluster/internal/replica/peer.go", "		if msg.Version > p.applied {\n", "		if msg.Version > p.applied+1000 {\n", replicated},
}
