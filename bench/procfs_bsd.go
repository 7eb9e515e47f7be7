//go:build darwin || freebsd

package bench

import (
	"strconv"

	"golang.org/x/sys/unix"
)

// A probe reads nothing on this system.
type probe struct{}

func newProbe(pid int) (*probe, error) {
	if pid != 0 {
		return nil, &PlanError{"pid", strconv.Itoa(pid), "figures of another process are available on Linux only; leave it out"}
	}
	return nil, nil
}

func (p *probe) sample() serverSample { return serverSample{} }

// machineNames returns the names of the kernel and the processor.
func machineNames() (kernel, cpu string) {
	kernel, _ = unix.Sysctl("kern.osrelease")
	for _, name := range []string{"machdep.cpu.brand_string", "hw.model"} {
		if cpu, err := unix.Sysctl(name); err == nil && cpu != "" {
			return kernel, cpu
		}
	}
	return kernel, ""
}
