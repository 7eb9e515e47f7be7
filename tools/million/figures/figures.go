// Package figures is what make million measures: the settings of the machine, the samples that its first program takes, and the result of a
// phase. The program inside the machine writes a Result as JSON; the one outside reads it and makes tables (table.go).
package figures

// The phases. Each has a machine of its own, so that its memory begins at the same level.
const (
	Idle   = "idle"   // echoserver -mode echo, netbench idle -echo-all: all are verified, some are active
	Fanout = "fanout" // echoserver -mode broadcast, netbench fanout: one message to all
)

// Result is what one phase has measured. The unit of each figure is in its key. Memory is in bytes.
type Result struct {
	Phase    string  `json:"phase"`
	Conns    int     `json:"conns"`    // asked for
	Held     int     `json:"held"`     // largest number of sessions that were open together
	Verified uint64  `json:"verified"` // idle: connections whose first message came back; fanout: subscribers in the last broadcast
	Complete bool    `json:"complete"` // all were held and verified, nothing failed
	Failure  string  `json:"failure"`  // what was wrong; "" if nothing was
	Started  string  `json:"started"`  // UTC, RFC 3339
	Took     float64 `json:"took_s"`

	Machine  Machine   `json:"machine"`
	Settings []Setting `json:"settings"`

	Base   Mark `json:"base"`   // the server runs, nobody is connected
	Opened Mark `json:"opened"` // the last one is connected, and for idle has its echo
	Last   Mark `json:"last"`   // just before the clients close
	Closed Mark `json:"closed"` // no session is left

	// CloseBegan is when the number of sessions was first seen to fall, on the clock of the samples.
	CloseBegan float64 `json:"close_began_s"`
	PeakRSS    uint64  `json:"peak_rss_bytes"`        // of the server
	PeakSocket uint64  `json:"peak_socket_mem_bytes"` // what waited in the sockets of both ends

	GC     GC       `json:"gc"`
	Client Client   `json:"client"`
	Series []Sample `json:"series"`
}

// Machine is where the phase ran.
type Machine struct {
	Host     string `json:"host"` // processor, cores and system under the emulation
	Emulator string `json:"emulator"`
	Accel    string `json:"accel"` // tcg: every instruction is translated, so times are ten times those of a real machine or more
	CPUs     int    `json:"cpus"`
	Memory   uint64 `json:"memory_bytes"`
	Kernel   string `json:"kernel"`
	Go       string `json:"go"`
	Revision string `json:"revision"` // of the repository; + says that files differ
	Loops    int    `json:"loops"`
	GOGC     string `json:"gogc"`     // "" stands for echoserver's own
	MemLimit string `json:"memlimit"` // GOMEMLIMIT; "" for none
}

// Sample is one look at the machine.
type Sample struct {
	At          float64 `json:"at_s"` // since the first program began
	Sessions    int     `json:"sessions"`
	MessagesIn  uint64  `json:"messages_in"`
	MessagesOut uint64  `json:"messages_out"`
	Server      Process `json:"server"`
	Client      Process `json:"client"`
	Kernel      Kernel  `json:"kernel"`
}

// Process is what a process has used.
type Process struct {
	RSS  uint64  `json:"rss_bytes"`
	CPU  float64 `json:"cpu_s"`  // user and system
	User float64 `json:"user_s"` // of it
}

// Kernel is the kernel's own memory. Both ends of each connection are in it.
type Kernel struct {
	Available   uint64 `json:"available_bytes"` // MemAvailable
	Slab        uint64 `json:"slab_bytes"`
	PageTables  uint64 `json:"page_tables_bytes"`
	Percpu      uint64 `json:"percpu_bytes"`
	SocketMem   uint64 `json:"socket_mem_bytes"` // of TCP in sockstat: what waits in sockets
	TCP         int    `json:"tcp_in_use"`
	TimeWait    int    `json:"tcp_time_wait"`
	Descriptors int    `json:"descriptors"` // fs.file-nr
}

// Total is what the kernel needs for itself.
func (k Kernel) Total() uint64 { return k.Slab + k.PageTables + k.Percpu + k.SocketMem }

// Mark is a sample at a moment that matters, with what costs more to look at.
type Mark struct {
	Sample
	Lag   Lag    `json:"loop_lag"` // since the server began
	Slabs []Slab `json:"slabs"`    // of the kernel, the largest first
}

// Lag is how late the server's loops looked at their probes: counts by upper bound, of all loops together.
type Lag struct {
	Bounds []float64 `json:"bounds_s"` // ascending
	Counts []uint64  `json:"counts"`   // of each bucket alone; one more than Bounds: those above all of them
}

// Since returns what was counted after earlier.
func (l Lag) Since(earlier Lag) Lag {
	d := Lag{Bounds: l.Bounds, Counts: append([]uint64(nil), l.Counts...)}
	for i := range min(len(d.Counts), len(earlier.Counts)) {
		d.Counts[i] -= min(d.Counts[i], earlier.Counts[i])
	}
	return d
}

// Quantile returns the upper bound in seconds of the bucket that holds the q-th part of all; 1 stands for the largest. It is negative if
// nothing was counted, and the last bound if the value is above all of them.
func (l Lag) Quantile(q float64) float64 {
	var all, sum uint64
	for _, n := range l.Counts {
		all += n
	}
	if all == 0 || len(l.Bounds) == 0 {
		return -1
	}
	for i, n := range l.Counts {
		if sum += n; n > 0 && float64(sum) >= q*float64(all) {
			return l.Bounds[min(i, len(l.Bounds)-1)]
		}
	}
	return l.Bounds[len(l.Bounds)-1]
}

// Slab is one cache of the kernel's allocator.
type Slab struct {
	Name    string `json:"name"`
	Objects uint64 `json:"objects"` // in use
	Size    uint64 `json:"size_bytes"`
	Bytes   uint64 `json:"bytes"` // of all its pages
}

// GC is the work of the server's garbage collector, from the lines of GODEBUG=gctrace=1.
type GC struct {
	Cycles   int     `json:"cycles"`
	CPU      float64 `json:"cpu_s"`
	MaxPause float64 `json:"max_pause_s"` // the longest time for which one cycle stopped everything, its two stops together
	// Forced is the cycle that was asked for while all sessions were held.
	Forced Cycle `json:"forced"`
}

// Cycle is one garbage collection.
type Cycle struct {
	Wall  float64 `json:"wall_s"`
	CPU   float64 `json:"cpu_s"`
	Pause float64 `json:"pause_s"`
	Live  float64 `json:"live_mb"` // heap that it has left
}

// Client is what netbench says.
type Client struct {
	Errors     uint64  `json:"errors"`
	Active     int     `json:"active"`
	AskedPerS  float64 `json:"asked_per_s"`
	PerS       float64 `json:"answered_per_s"`
	P50        float64 `json:"p50_us"` // of replies, or of deliveries
	P99        float64 `json:"p99_us"`
	Max        float64 `json:"max_us"`
	ConnectP50 float64 `json:"connect_p50_us"`
	ConnectP99 float64 `json:"connect_p99_us"`
	Rounds     uint64  `json:"rounds"`  // fanout: broadcasts that were timed
	Round      float64 `json:"round_s"` // fanout: the longest, from the send to the last subscriber
	Says       string  `json:"says"`    // first line of its table
}
