package main

// inTrials has mistakes in the trials' oracle: a trial that cannot fail proves nothing.
var inTrials = []mutant{
	{"the oracle lets a session lose what it has accepted", "trials/judge_test.go",
		"c.in.bytes == l.Sent && l.Sent == l.Accepted,", "c.in.bytes == l.Sent,", "./trials TestOracleFindsFaults"},
	{"the oracle lets OnSend tell more than was accepted", "trials/judge_test.go",
		"c.in.bytes <= l.Sent && l.Sent <= l.Accepted,", "c.in.bytes <= l.Sent,", "./trials TestOracleFindsFaults"},
	{"the oracle lets a session end twice", "trials/oracle_test.go", "twice := o.lives[l.ID]; twice {", "twice := o.lives[l.ID]; twice && l.ID == 0 {", "./trials TestOracleFindsFaults"},
	{"the oracle does not look at the bystanders' errors", "trials/judge_test.go", "len(c.Errors) == 0, ", "len(c.Errors) >= 0, ", "./trials TestOracleFindsFaults"},
	{"the oracle judges latency by a bound that is five times too high", "trials/judge_test.go", "5*o.before.P99", "25*o.before.P99", "./trials TestOracleJudgesLatency"},
	{"the oracle takes a record without its checksum", "trials/stream_test.go", "sum != binary.LittleEndian.Uint32(data[16:]) {", "sum == 0 {", "./trials TestStreamFindsWhatIsWrong"},
}
