// Package bench loads a TCP server, verifies every byte that comes back, and measures. It imports nothing of this module,
// so that a fault of the engine cannot hide in the tool, and can load any server. Command netbench is a thin layer
// over it.
//
// # A run
//
// A [Plan] says what to do; [Run] carries it out and returns a [Result]. In between:
//
//	plan.go       what to run, validated
//	run.go        the phases: connect, warm up, measure, wait for replies; the goroutines
//	worker.go     a reactor: one thread, its share of the connections (poller_*.go, socket_*.go, dial.go, conn.go)
//	loops.go      what a worker does with its connections: closed loop, open loop, churn; fanout.go
//	pacer.go      planned send times
//	stream.go     the bytes that are sent; verify.go, what is made of those that come back
//	recorder.go   what one worker measured in one interval; histogram.go
//	collect.go    totals and series
//	assemble.go   the result (result.go, schema.json); report.go and compare.go write it for people
//	html.go       the same as a page: tiles.go, charts.go and comparepage.go choose what it shows, chart.go, axis.go and
//	              bars.go draw, figures.go writes numbers, thin.go shortens long series, page.html is the frame
//	summary.go    a line for each of several results
//	search.go     several runs, to find a rate
//
// # What is counted
//
// Throughput counts replies that came within the measured part, and CPU per message divides the CPU time of that part by
// them. So a server is never reported with more than it did. A reply that comes after the end is counted apart
// (Totals.AfterEnd) and is in no point of the series.
//
// Latency counts messages that were due in the measured part, whenever their replies came. It ends with the read that brought
// the last byte. In an open loop it begins when the message was due ("planned"), and beside it, when it left ("reply");
// in the other modes, when it left. Messages that were due and never answered enter "planned" with their age. Percentiles
// are taken of all values together, never averaged.
//
// An open loop asks for a rate (Totals.AskedPerS). If clearly fewer messages are answered in the measured part than were due
// in it, the server did not keep up: Totals.FellBehind is set, the first line, the page and a warning say so, and a search
// does not pass that rate. Up to a few percent count as the edges of the measured part.
//
// Whatever is unanswered when the run has waited for Plan.Timeout after the end is a timeout.
//
// Errors are counted by [Kind] over the whole run, warm-up and waiting included, and end a run only when nothing is
// left to load.
//
// # Guaranteed
//
// No wait is without bound: a connect and a reply have Plan.Timeout, a worker looks up every 20 ms. The byte path
// allocates nothing. A run leaves no goroutine, descriptor or signal handler behind.
//
// A connection that reaches itself is no server: it counts as refused. That happens on a port of the range that local
// ports are chosen from.
//
// # Not guaranteed
//
// That the client is not the limit: Result.Client tells what it cost, and a warning says when it was busy. That messages
// shorter than a header (16 bytes) are told apart: a lost one shows as wrong bytes.
package bench
