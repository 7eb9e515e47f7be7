package main

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"unsafe"

	"github.com/servercore-go/servercore/tools/million/figures"
)

// mountAll mounts what programs expect.
func mountAll() error {
	for _, m := range []struct{ kind, at string }{{"proc", "/proc"}, {"sysfs", "/sys"}, {"devtmpfs", "/dev"}, {"tmpfs", "/tmp"}} {
		if err := os.MkdirAll(m.at, 0o755); err != nil {
			return err
		}
		if err := syscall.Mount(m.kind, m.at, m.kind, 0, ""); err != nil && err != syscall.EBUSY {
			return fmt.Errorf("mount %s: %w", m.at, err)
		}
	}
	return nil
}

// apply sets what conns connections need, and notes what was there before.
func apply(conns int) ([]figures.Setting, error) {
	list := figures.Settings(conns)
	for i := range list {
		s := &list[i]
		path := filepath.Join("/proc/sys", strings.ReplaceAll(s.Name, ".", "/"))
		before, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		s.Before = strings.Join(strings.Fields(string(before)), " ")
		if err := os.WriteFile(path, []byte(s.Value), 0o644); err != nil {
			return nil, fmt.Errorf("%s = %s: %w", s.Name, s.Value, err)
		}
	}
	limit := uint64(max(1<<20, conns+conns/10))
	if err := syscall.Setrlimit(syscall.RLIMIT_NOFILE, &syscall.Rlimit{Cur: limit, Max: limit}); err != nil {
		return nil, fmt.Errorf("limit on open files: %w", err)
	}
	return append(list, figures.Setting{Name: "RLIMIT_NOFILE", Before: "1024", Value: fmt.Sprint(limit), Why: "LimitNOFILE of a unit, ulimit -n"}), nil
}

// loopbackUp brings the interface lo up, which gives it 127.0.0.0/8.
func loopbackUp() error {
	fd, err := syscall.Socket(syscall.AF_INET, syscall.SOCK_DGRAM, 0)
	if err != nil {
		return err
	}
	defer syscall.Close(fd)
	request := struct {
		name  [syscall.IFNAMSIZ]byte
		flags uint16
		_     [22]byte // a struct ifreq has 40 bytes
	}{flags: syscall.IFF_UP | syscall.IFF_RUNNING}
	copy(request.name[:], "lo")
	if _, _, errno := syscall.Syscall(syscall.SYS_IOCTL, uintptr(fd), syscall.SIOCSIFFLAGS, uintptr(unsafe.Pointer(&request))); errno != 0 {
		return fmt.Errorf("lo up: %w", errno)
	}
	return nil
}

// powerOff ends the machine. It returns only if the kernel refuses.
func powerOff() error {
	syscall.Sync()
	return syscall.Reboot(syscall.LINUX_REBOOT_CMD_POWER_OFF)
}
