package main

import (
	"context"
	"io"
	"net"
	"sync/atomic"
)

// startBalancer passes connections at address on to one node after the other until ctx ends. A node that refuses is left out: it has ended,
// or is about to. It returns where it listens. In production this is your load balancer, or a Service of Kubernetes.
func startBalancer(ctx context.Context, address string, nodes []config, of func(config) string) (string, error) {
	l, err := net.Listen("tcp", address)
	if err != nil {
		return "", err
	}
	context.AfterFunc(ctx, func() { l.Close() })
	var next atomic.Uint64
	go func() {
		for {
			client, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer client.Close()
				first := next.Add(1) - 1
				for i := range nodes {
					n := nodes[(first+uint64(i))%uint64(len(nodes))]
					if node, err := net.Dial("tcp", of(n)); err == nil {
						join(client, node)
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String(), nil
}

// join passes on what either says until one of the two has said all.
func join(client, node net.Conn) {
	go func() {
		_, _ = io.Copy(node, client)
		_ = node.(*net.TCPConn).CloseWrite()
	}()
	_, _ = io.Copy(client, node)
	node.Close()
}
