// Package bench loads a TCP server, verifies every byte that comes back, and measures throughput, latency and cost. It imports no other
// package of this module, so that a fault of the engine cannot hide in the tool, and can load any server. Command netbench is a thin
// layer over it.
//
// # A run
//
// A [Plan] says what to do. [Run] carries it out and returns a [Result], which writes itself as JSON, as a table and as a page. The files
// have three parts: the load, the figures, and the report.
//
// The load:
//
//	plan.go       the plan: modes, defaults, validation
//	run.go        the phases of a run (connect, warm up, measure, wait for replies) and its goroutines
//	worker.go     a reactor: one thread and its share of the connections (poller_*.go, socket_*.go, dial.go, conn.go)
//	loops.go      what a worker does with its connections: closed loop, open loop, churn; fanout.go for fanout, with its publisher in
//	              fan.go, planned times in fanpace.go, and several addresses in fanplaces.go
//	pacer.go      planned send times
//	stream.go     the bytes that are sent; verify.go checks those that come back
//	tls.go        TLS on a connection
//	websocket.go  WebSocket on top of it: upgrade.go begins it, frames.go parses, framed.go checks messages in place of verify.go
//	search.go     several runs, to find a rate
//
// The figures:
//
//	recorder.go   what one worker has measured in one interval; histogram.go for times, errors.go for errors
//	collect.go    totals and series; cpu.go and procfs_*.go read CPU time and memory
//	assemble.go   makes the result from them
//	result.go     the result; schema.json describes its JSON form
//
// The report, which uses nothing but results:
//
//	report.go     a table for a terminal; compare.go for several results, summary.go with one line for each, live.go during a run
//	html.go       a page: tiles.go, charts.go and comparepage.go choose what it shows, page.html is the template
//	chart.go      drawing: axis.go for axes, bars.go for bars, thin.go shortens long series, figures.go writes numbers
//
// # What is counted
//
// Throughput counts the replies that come within the measured part. CPU per message divides the CPU time of that part by them. So a server
// is never reported with more than it did. A reply that comes after the end is counted separately (Totals.AfterEnd) and is in no point of
// the series.
//
// Latency counts the messages that are due in the measured part, whenever their replies come. It ends with the read of the reply's last
// byte. In an open loop there are two latencies: "planned" begins when the message is due, and "reply" when it leaves. In the other modes
// latency begins when the message leaves. A message that is never answered enters "planned" with its age. Percentiles are those of all
// values together; they are never averaged.
//
// An open loop asks for a rate (Totals.AskedPerS). If clearly fewer messages are answered in the measured part than are due in it, the server
// did not keep up. Then Totals.FellBehind is set, the first line, the page and a warning say so, and a search rejects that rate. A
// difference of a few percent is attributed to the edges of the measured part.
//
// A message that is still unanswered Plan.Timeout after the end is a timeout.
//
// Errors are counted by [Kind] over the whole run, with warm-up and the wait for replies. They end a run only when nothing is left to load.
//
// # Guaranteed
//
// Every wait is bounded: a connect and a reply have Plan.Timeout, and a worker checks every 20 ms whether the run has ended. The byte path
// allocates nothing. A run leaves no goroutine, descriptor or signal handler behind.
//
// A connection that reaches itself counts as refused. It can occur on a port of the range of local ports on which no server listens.
//
// # Not guaranteed
//
// That the client is not the limit. Result.Client has its CPU time, and a warning says when it was busy.
//
// That lost messages shorter than a header (16 bytes) are recognized. They show as wrong bytes.
package bench
