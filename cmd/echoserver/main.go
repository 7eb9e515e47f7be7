// Command echoserver is the reference server of this module: the engine with four small handlers, every limit
// within reach of a flag. Run it with -h for the flags and the exit codes; internal/echoserver is what it runs.
package main

import (
	"context"
	"os"

	"github.com/servercore-go/servercore/internal/echoserver"
)

func main() {
	echoserver.LimitHeap()
	os.Exit(echoserver.Main(context.Background(), os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}
