// Package watchdog decides when a loop has been held for too long, from what it is seen running at intervals. It reads no clock, starts no goroutine and
// logs nothing: the caller looks, says what time it is, and acts on what was found.
//
// A call that is seen for the whole of the warning time is a stall. Each stall is found once, after the warning time or a quarter more, and once more when it
// is over. A round that comes late is not held against the calls: the process was stopped, or the machine was overloaded, and they may not have run either.
//
// docs/decisions/0012 weighs the ways to find a stall.
package watchdog
