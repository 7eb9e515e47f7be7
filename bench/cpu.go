package bench

import (
	"time"

	"golang.org/x/sys/unix"
)

// cpuTime is processor time used, in seconds.
type cpuTime struct{ user, system float64 }

func (c cpuTime) total() float64 { return c.user + c.system }

func (c cpuTime) since(before cpuTime) cpuTime {
	return cpuTime{max(0, c.user-before.user), max(0, c.system-before.system)}
}

// clientCPU returns the CPU time of all threads of this process so far.
func clientCPU() cpuTime {
	var u unix.Rusage
	if unix.Getrusage(unix.RUSAGE_SELF, &u) != nil {
		return cpuTime{}
	}
	return cpuTime{user: float64(u.Utime.Nano()) / 1e9, system: float64(u.Stime.Nano()) / 1e9}
}

// serverSample is the CPU time and memory of the server at one moment.
type serverSample struct {
	ok  bool
	at  time.Time
	cpu cpuTime
	rss uint64 // bytes
}
