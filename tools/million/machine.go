package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"time"

	"github.com/servercore-go/servercore/tools/million/figures"
)

const (
	qemu = "qemu-system-x86_64"
	// overtime is what a machine may take besides the limit of its phase and the time to close all connections: to boot, to write its result.
	overtime = 5 * time.Minute
	// A machine needs memory for itself, and for each connection both ends in the kernel, the session and the client's part.
	memoryBase    = 768       // MiB
	memoryPerConn = 14 * 1024 // bytes
)

// megabytes is the memory of the machine.
func (c *config) megabytes() int {
	if c.memory > 0 {
		return c.memory
	}
	return memoryBase + c.conns*memoryPerConn>>20
}

// arguments are those of qemu. The console is its standard output, the result goes to a file.
func (c *config) arguments(phase, kernel, image, result string) []string {
	boot := []string{
		"console=ttyS0", "quiet", "panic=-1", "mitigations=off", "tsc=reliable", "rdinit=/init",
		"slab_nomerge", // each cache of the kernel by its own name
		fmt.Sprintf("thash_entries=%d", max(1<<16, 2*c.conns)), // both ends of each connection are in one table
		"--", "-phase=" + phase, fmt.Sprintf("-conns=%d", c.conns), fmt.Sprintf("-active=%d", c.active), fmt.Sprintf("-rate=%g", c.rate),
		fmt.Sprintf("-loops=%d", c.loops), "-duration=" + c.duration.String(), "-limit=" + c.limit.String(),
	}
	if c.gogc != "" {
		boot = append(boot, "-gogc="+c.gogc)
	}
	if c.memlimit != "" {
		boot = append(boot, "-memlimit="+c.memlimit)
	}
	return []string{
		"-nodefaults", "-no-user-config", "-no-reboot", "-display", "none",
		"-accel", c.accel, "-cpu", c.cpu, "-smp", fmt.Sprint(c.cpus), "-m", fmt.Sprintf("%dM", c.megabytes()),
		"-serial", "stdio", "-serial", "file:" + result,
		"-kernel", kernel, "-initrd", image, "-append", strings.Join(boot, " "),
	}
}

// boot runs a phase in a machine and returns what it has measured.
func (c *config) boot(ctx context.Context, phase, image string) (*figures.Result, error) {
	if _, err := exec.LookPath(qemu); err != nil {
		return nil, errors.New("there is no " + qemu + ": apt-get install --no-install-recommends qemu-system-x86")
	}
	kernel, err := c.findKernel(ctx)
	if err != nil {
		return nil, err
	}
	result := filepath.Join(c.cache, "serial")
	if err := os.RemoveAll(result); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, c.limit+figures.Closing(c.conns)+overtime)
	defer cancel()
	machine := exec.CommandContext(ctx, qemu, c.arguments(phase, kernel, image, result)...)
	machine.Stdout, machine.Stderr = os.Stdout, os.Stderr
	if err := machine.Run(); err != nil {
		return nil, fmt.Errorf("the machine ended: %w", errors.Join(err, context.Cause(ctx)))
	}
	data, err := os.ReadFile(result)
	if err != nil {
		return nil, err
	}
	r := new(figures.Result)
	if err := json.Unmarshal(data, r); err != nil {
		return nil, fmt.Errorf("the machine has left no result: %w", err)
	}
	r.Machine.Accel, _, _ = strings.Cut(c.accel, ",")
	r.Machine.Emulator, r.Machine.Host, r.Machine.Revision = version(ctx), host(), revision(ctx)
	return r, nil
}

// version is what the emulator says of itself.
func version(ctx context.Context) string {
	out, err := exec.CommandContext(ctx, qemu, "--version").Output()
	if err != nil {
		return qemu
	}
	first, _, _ := strings.Cut(string(out), "\n")
	return first
}

// host describes the machine outside.
func host() string {
	info, err := os.ReadFile("/proc/cpuinfo")
	if err != nil {
		return fmt.Sprintf("%s, %d cores", runtime.GOARCH, runtime.NumCPU())
	}
	_, model, _ := strings.Cut(string(info), "model name")
	model, _, _ = strings.Cut(model, "\n")
	return fmt.Sprintf("%s, %d cores", strings.Trim(model, " \t:"), runtime.NumCPU())
}
