package engine

import "golang.org/x/sys/unix"

const (
	tcpKeepIdle     = unix.TCP_KEEPALIVE // its name on macOS
	tcpKeepInterval = unix.TCP_KEEPINTVL
	tcpKeepCount    = unix.TCP_KEEPCNT
)
