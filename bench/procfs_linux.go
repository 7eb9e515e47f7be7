package bench

import (
	"bytes"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// clockTicks is the unit of /proc/PID/stat: USER_HZ, 100 on every Linux that Go runs on.
const clockTicks = 100

// A probe reads CPU time and memory of a process from /proc. A nil probe has nothing to say. Not safe for concurrent
// use of one buffer: every sample reads into memory of its own.
type probe struct{ pid int }

// newProbe returns nil for pid 0.
func newProbe(pid int) (*probe, error) {
	if pid == 0 {
		return nil, nil
	}
	p := &probe{pid}
	if !p.sample().ok {
		return nil, &PlanError{"pid", strconv.Itoa(pid), "there is no such process, or it cannot be read; give the server's process id on this machine"}
	}
	return p, nil
}

func (p *probe) sample() serverSample {
	if p == nil {
		return serverSample{}
	}
	s := serverSample{at: time.Now()}
	stat, err := os.ReadFile(fmt.Sprintf("/proc/%d/stat", p.pid))
	if err != nil {
		return s
	}
	status, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", p.pid))
	if err != nil {
		return s
	}
	s.cpu, s.ok = parseStat(stat)
	s.rss = parseRSS(status)
	return s
}

// parseStat reads fields 14 and 15, utime and stime (proc_pid_stat(5)). The second field is a name in parentheses that
// may hold anything, so counting begins after the last of them.
func parseStat(stat []byte) (cpuTime, bool) {
	fields := strings.Fields(string(stat[bytes.LastIndexByte(stat, ')')+1:]))
	if len(fields) < 13 {
		return cpuTime{}, false
	}
	user, err1 := strconv.ParseUint(fields[11], 10, 64)
	system, err2 := strconv.ParseUint(fields[12], 10, 64)
	return cpuTime{float64(user) / clockTicks, float64(system) / clockTicks}, err1 == nil && err2 == nil
}

// parseRSS reads VmRSS, which is in KiB.
func parseRSS(status []byte) uint64 {
	for line := range strings.Lines(string(status)) {
		if rest, ok := strings.CutPrefix(line, "VmRSS:"); ok {
			kib, _ := strconv.ParseUint(strings.Fields(rest + " 0")[0], 10, 64)
			return kib << 10
		}
	}
	return 0
}

// machineNames returns what the system says about its kernel and processor.
func machineNames() (kernel, cpu string) {
	var u unix.Utsname
	if unix.Uname(&u) == nil {
		kernel = unix.ByteSliceToString(u.Release[:])
	}
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return kernel, ""
	}
	for line := range strings.Lines(string(info)) {
		key, value, _ := strings.Cut(line, ":")
		if key = strings.TrimSpace(key); key == "model name" || key == "Model" {
			return kernel, strings.TrimSpace(value)
		}
	}
	return kernel, ""
}
