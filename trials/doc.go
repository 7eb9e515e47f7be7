// Package trials proves from outside that an engine cannot be brought down by its peers, by the system, or by handlers.
// It holds tests only: go test ./trials runs each at a tenth of its scale, make trials at full scale.
//
// Every trial has a server process of its own, the test program started once more, so that its exit code, its output,
// descriptors, goroutines, memory and processor time can be judged from outside, and so that it can be stopped, killed,
// traced and limited. One oracle judges every trial by the same eight criteria, besides those of its own:
//
//	O1  the process is alive until it is told to end, exits with 0, and says nothing of a panic, fault or race
//	O2  after the fault a fresh connection has its echo within 1 s
//	O3  one OnConnected and one OnDisconnected per admitted session, nothing after it, no two callbacks at once
//	O4  what either side received is a prefix of what the other has sent, and all of it after an orderly end; the sum of
//	    OnSend is what the peer has read then
//	O5  5 s after the last client left, descriptors, goroutines, buffers and heap are what they were before the first
//	O6  50 bystanders at 20 messages per second each see no error, and 99 % of their answers within 20 ms, or 5 times what
//	    they took before the fault
//	O7  in the faulty state, without traffic, the process takes at most 5 % of one core
//	O8  at most 10 lines are logged in any second
//
// The clients stand for other machines. As root they run with the scheduler's least share, so that the servers and the
// bystanders have theirs.
//
// Each trial prints its figures with the criterion beside them, and the table of all stands at the end of a run with -v.
// Some need root, or strace, ss or nmap; where one is missing the trial is skipped and stands in the table as not run.
// docs/reliability.md has the table of the last full run.
package trials
