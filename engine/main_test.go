package engine_test

import (
	"fmt"
	"net"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/servercore-go/servercore/pool"
)

func TestMain(m *testing.M) {
	// The runtime's own descriptors and the like exist from here on.
	if l, err := net.Listen("tcp", "127.0.0.1:0"); err == nil {
		_ = l.Close()
	}
	code := m.Run()
	if code == 0 {
		if n := pool.Live(); n != 0 {
			fmt.Fprintf(os.Stderr, "%d buffers were not released\n", n)
			code = 1
		}
		if err := goleak.Find(); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}
