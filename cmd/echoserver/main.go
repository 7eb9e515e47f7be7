// Command echoserver is the reference server of this module: the engine with four small handlers, and a flag for every limit. Run it
// with -h for the flags, the signals and the exit codes. Its code is package internal/echoserver.
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
