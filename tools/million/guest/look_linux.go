package main

import (
	"fmt"
	"os"
	"runtime"
	"strings"
	"syscall"

	"github.com/servercore-go/servercore/tools/million/figures"
)

// text returns what a file of /proc holds, "" if it cannot be read: a process may have ended.
func text(path string) string {
	data, _ := os.ReadFile(path)
	return string(data)
}

// lookAt returns what a process has used. All is 0 for process 0 and for one that has ended.
func lookAt(pid int) (p figures.Process) {
	if pid == 0 {
		return p
	}
	user, system := parseStat(text(fmt.Sprintf("/proc/%d/stat", pid)))
	p.User, p.CPU = user, user+system
	p.RSS = kilobytes(text(fmt.Sprintf("/proc/%d/status", pid)))["VmRSS"]
	return p
}

func lookAtKernel() (k figures.Kernel) {
	m := kilobytes(text("/proc/meminfo"))
	k.Available, k.Slab, k.PageTables, k.Percpu = m["MemAvailable"], m["Slab"], m["PageTables"], m["Percpu"]
	pages := 0
	k.TCP, k.TimeWait, pages = parseSockstat(text("/proc/net/sockstat"))
	k.SocketMem = uint64(pages * os.Getpagesize())
	if f := strings.Fields(text("/proc/sys/fs/file-nr")); len(f) > 0 {
		k.Descriptors = int(number(f[0]))
	}
	return k
}

// describe fills in what the machine knows of itself.
func describe(m *figures.Machine) {
	m.CPUs, m.Go = runtime.NumCPU(), runtime.Version()
	m.Memory = kilobytes(text("/proc/meminfo"))["MemTotal"]
	m.Kernel = strings.TrimSpace(text("/proc/sys/kernel/osrelease"))
}

// drain waits until a serial line has sent what was written to it: TCSBRK with 1, as tcdrain(3) does.
func drain(f *os.File) {
	const tcsbrk = 0x5409
	_, _, _ = syscall.Syscall(syscall.SYS_IOCTL, f.Fd(), tcsbrk, 1)
}
