// Package guide_test is the code that the pages of this folder show. Each page NAME.md shows lines of name_test.go, or of a program under
// examples. Each example runs, and its output is compared.
package guide_test

import (
	"bufio"
	"fmt"
	"log"
	"net"
	"os"
	"testing"

	"go.uber.org/goleak"

	"github.com/servercore-go/servercore/pool"
)

// Nothing is left over when all examples have run.
func TestMain(m *testing.M) {
	code := m.Run()
	if n := pool.Live(); code == 0 && n != 0 {
		fmt.Fprintf(os.Stderr, "%d buffers were not released\n", n)
		code = 1
	}
	if err := goleak.Find(); code == 0 && err != nil {
		fmt.Fprintln(os.Stderr, err)
		code = 1
	}
	os.Exit(code)
}

// must ends the test program when a step of an example fails.
func must(err error) {
	if err != nil {
		log.Panic(err)
	}
}

// value is must for a step that returns something.
func value[T any](v T, err error) T {
	must(err)
	return v
}

// ask connects to a server, sends a line, and returns the first line that comes back.
func ask(addr net.Addr, line string) string {
	c := value(net.Dial(addr.Network(), addr.String()))
	defer c.Close()
	fmt.Fprintln(c, line)
	answer, err := bufio.NewReader(c).ReadString('\n')
	must(err)
	return answer[:len(answer)-1]
}
