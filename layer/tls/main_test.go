package tls

import (
	"fmt"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/servercore-go/servercore/pool"
)

// No test may leave a goroutine or a pooled buffer behind.
func TestMain(m *testing.M) {
	goleak.VerifyTestMain(m, goleak.Cleanup(func(code int) {
		if n := pool.Live(); n != 0 {
			fmt.Fprintf(os.Stderr, "%d pooled buffers were not released\n", n)
			code = 1
		}
		os.Exit(code)
	}))
}
