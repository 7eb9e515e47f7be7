package engine

import (
	"errors"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/servercore-go/servercore/internal/descriptors"
)

// hint says what to do about an error of Start, in brackets, if there is something to say.
func hint(network string, err error) string {
	for _, h := range hints {
		if errors.Is(err, h.err) && strings.HasPrefix(network, h.network) {
			return " (" + h.text + ")"
		}
	}
	return ""
}

// hints are tried in order. The network is the beginning of one, or empty for all.
var hints = []struct {
	err     error
	network string
	text    string
}{
	{unix.EMFILE, "", "the process's limit of descriptors is reached; " + descriptors.RaiseLimit},
	{unix.ENFILE, "", "the system's limit of open files is reached; raise fs.file-max, or close what is open"},
	{unix.ENOBUFS, "", "the system has no memory left for sockets"},
	{unix.ENOMEM, "", "the system has no memory left for sockets"},
	{unix.EADDRINUSE, "tcp", "another process, or another listener of this one, has it"},
	{unix.EACCES, "tcp", "ports below 1024 need a privilege this process lacks: CAP_NET_BIND_SERVICE on Linux, or another port"},
	{unix.EPERM, "tcp", "a policy of the system, or a sandbox, forbids it"},
	{unix.EADDRNOTAVAIL, "tcp", "no interface of this machine has that address"},
	{unix.EAFNOSUPPORT, "tcp", "the system has no such protocol; where IPv6 is off, use tcp4 or an IPv4 address"},
	{unix.EAFNOSUPPORT, "unix", "the system, or a sandbox, allows no unix sockets"},
	{unix.EACCES, "unix", "the process must be allowed to search the folders of the path and to write to the last one"},
	{unix.EPERM, "unix", "the file system, or a sandbox, allows no sockets there"},
	{unix.ENOENT, "unix", "the folder of the path does not exist; make it first"},
	{unix.ENOTDIR, "unix", "a part of the path that should be a folder is none"},
	{unix.ELOOP, "unix", "the symbolic links in the path lead in a circle"},
	{unix.EROFS, "unix", "the file system is read-only"},
	{unix.ENOSPC, "unix", "the file system is full"},
	{unix.ENAMETOOLONG, "unix", "a part of the path is too long for the file system"},
}
