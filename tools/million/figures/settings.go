package figures

import (
	"strconv"
	"time"
)

// Closing is how long the clients may take to close conns connections after the limit of a phase.
func Closing(conns int) time.Duration {
	return 2*time.Minute + time.Duration(conns)*time.Millisecond
}

// Setting is a kernel setting and what it is needed for.
type Setting struct {
	Name   string `json:"name"`
	Before string `json:"before"` // what the kernel had chosen
	Value  string `json:"value"`  // what was set
	Why    string `json:"why"`
}

// Settings returns what the machine needs for conns connections, both ends of which are inside.
func Settings(conns int) []Setting {
	one := strconv.Itoa(max(1<<20, conns+conns/10))
	both := strconv.Itoa(max(1<<20, 2*conns+conns/5+1<<16))
	queue := strconv.Itoa(max(1000, conns/4))
	return []Setting{
		{Name: "fs.nr_open", Value: one, Why: "the highest limit on open files that a process may have; the server and the client need a descriptor for each connection"},
		{Name: "fs.file-max", Value: both, Why: "open files of the whole system: both ends are here"},
		{Name: "fs.epoll.max_user_watches", Value: both, Why: "descriptors in epoll sets, of one user: both ends are here"},
		{Name: "net.core.somaxconn", Value: "65535", Why: "connections that wait to be accepted"},
		{Name: "net.ipv4.tcp_max_syn_backlog", Value: "65535", Why: "handshakes under way"},
		{Name: "net.ipv4.ip_local_port_range", Value: "1024 65535", Why: "the client's ports, for each of its addresses"},
		{Name: "net.ipv4.tcp_max_tw_buckets", Value: both, Why: "connections that the client has closed, for 60 s"},
		{Name: "net.ipv4.tcp_max_orphans", Value: both, Why: "connections that the client has closed and the server has not heard of: beyond it the kernel forgets some, and the server keeps them"},
		{Name: "net.core.netdev_max_backlog", Value: queue, Why: "packets of the loopback that wait for a processor: beyond it they are lost, and what is lost when all clients close is sent again for minutes"},
	}
}
