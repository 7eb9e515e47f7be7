package main

// inObserve has the mistakes in what shows an engine: package observe, and -observe of the reference server.
var inObserve = []mutant{
	{"an action is open to other machines", "observe/admin.go", "local.IP.IsLoopback() && remote.Addr().Unmap().IsLoopback()", "local.IP.IsLoopback() && remote.IsValid()", "./observe TestAdminElsewhere"},
	{"a name that leads to 127.0.0.1 may act", "observe/admin.go", " && loopbackHost(r.Host)", "", "./observe TestAdminRefuses"},
	{"what a proxy passes on may act", "observe/admin.go", " && !forwarded", " && (forwarded || true)", "./observe TestAdminRefuses"},
	{"a page of another site may act", "observe/admin.go", "case origins.Check(r) != nil:", "case origins.Check(r) != nil && false:", "./observe TestAdminRefuses"},
	{"any token will do", "observe/admin.go", "return ok && subtle.ConstantTimeCompare(a[:], b[:]) == 1", "return ok && subtle.ConstantTimeCompare(a[:], a[:]) == 1 && b[0] == b[0]", "./observe TestAdminToken"},
	{"a draining engine is ready", "observe/health.go", "s != engine.StateRunning {", "s == engine.StateNew {", "./observe TestHealth"},
	{"an engine whose listeners are all closed is ready", "observe/health.go", "len(listeners) > 0 &&", "len(listeners) > 99 &&", "./observe TestHealth"},
	{"a listener that is closed listens", "engine/stats.go", "	if l.bound.Load() {\n", "	if l.bound.Load() || l.closed {\n", "./observe TestHealth"},
	{"a loop that is held is healthy", "observe/health.go", "l.Unresponsive >= h.UnhealthyAfter", "l.Unresponsive >= 1000*h.UnhealthyAfter", "./observe TestHealth"},
	{"a slow watcher holds up the others", "observe/stream.go", "snapshots = make(chan []byte, 1)", "snapshots = make(chan []byte, 10)", "./observe TestSlowWatcher"},
	{"snapshots are taken without a watcher", "observe/stream.go", "	if len(s.watchers) == 0 {\n", "	if len(s.watchers) < 0 {\n", "./observe TestSlowWatcher"},
	{"a misspelt filter passes", "observe/query.go", "		if !slices.Contains(names, name) {\n", "		if !slices.Contains(names, name) && name == \"\" {\n", "./observe TestBadQueries"},
	{"the least comes first", "observe/query.go", "		if down {\n", "		if !down {\n", "./observe TestSessions"},
	{"the best are not the best", "observe/sessions.go", "	case b.size > 0 && b.less(v, b.kept[0]):\n", "	case b.size > 0 && b.less(b.kept[0], v):\n", "./observe TestBest"},
	{"buckets of a histogram are not cumulative", "observe/collector.go", "		count += h.Buckets[i]\n", "		count = h.Buckets[i]\n", "./observe TestHistogram"},

	{"the old process answers on -observe after the hand-over", "internal/echoserver/service.go", "	s.pages.handOver()\n", "", "./internal/echoserver TestObserveAcrossARestart"},
	{"the new process does not get the socket of -observe", "internal/echoserver/restart.go", "	if shown != nil {\n", "	if shown != nil && n == nil {\n", "./internal/echoserver TestObserveAcrossARestart"},
	{"the socket of another -observe is taken over", "internal/echoserver/observe.go", "	if of != addr {\n", "	if of != addr && of == \"\" {\n", "./internal/echoserver TestObserveAtAnotherAddress"},
	{"the old process removes the path of the new one's -observe", "internal/echoserver/observe.go", "		o.path = nil\n", "", "./internal/echoserver TestObserveAcrossARestart"},
	{"a process that the old one goes on in place of removes the path of -observe", "internal/echoserver/observe.go", "		o.taken = c.observeAddress\n", "		o.path = unixpath.Bound(c.observeAddress)\n", "./internal/echoserver TestObserveLeavesThePathToItsPredecessor"},
	{"a request that was accepted is not answered", "internal/echoserver/observe.go", "		o.awaitAnswers()\n", "", "./internal/echoserver TestObserveAnswersWhatItAccepted"},
	{"an open page holds up the end", "internal/echoserver/observe.go", "		o.stop()\n", "", "./internal/echoserver TestObserveAnswersWhatItAccepted"},
}
