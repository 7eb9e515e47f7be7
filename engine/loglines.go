package engine

import (
	"time"

	"github.com/servercore-go/servercore/internal/asynclog"
)

// The kinds of log lines that a peer can provoke, each of which is logged once a second at most.
const (
	acceptLine asynclog.Kind = iota
	fullLine
	factoryLine
	panicLine
	reconnectLine
	giveUpLine
	guardLine
	admitLine
	proxyLine
	handshakeLine
	spareLine
	blockingLine
)

// flushTime bounds how long the end of an engine waits for Options.Logger.
const flushTime = 100 * time.Millisecond
