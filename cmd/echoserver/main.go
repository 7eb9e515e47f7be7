// Command echoserver is the reference server of this repository: the engine with four small handlers, a flag for every limit, and the pages
// of package observe (-observe). Run it with -h for the flags, the signals and the exit codes. Its code is package internal/echoserver.
//
// It is a module of its own, so that the library does not require Prometheus' client.
package main

import (
	"context"
	"net/http"
	"os"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/internal/echoserver"
	"github.com/servercore-go/servercore/observe"
)

func main() {
	echoserver.LimitHeap()
	os.Exit(echoserver.MainWithPages(context.Background(), pages, os.Args[1:], os.Environ(), os.Stdout, os.Stderr))
}

func pages(e *engine.Engine, o echoserver.PagesOptions) http.Handler {
	return observe.Handler(e, observe.Options{Admin: o.Admin, Token: o.Token, Level: o.Level, Logger: o.Logger})
}
