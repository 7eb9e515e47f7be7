package bench

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"time"
)

// SchemaVersion is the version of the JSON form of Result. It changes when a key changes its meaning or goes away,
// not when one is added. schema.json beside this file describes it.
//
// Version 2: messages, cycles and what is computed from them count what came within the measured part. Version 1 counted
// replies to messages of the measured part whenever they came, which is more than an overloaded server did in it.
const SchemaVersion = 2

// Result is what one run measured. Its JSON form is stable and holds all that is needed to draw a report. The unit of
// every figure is in its key: _s, _us, _bytes, _per_s, _pct; what has none is a count. Throughput, and CPU per message,
// count the replies that came within the measured part. Latencies are those of the messages that were due, or for a closed
// loop sent, within the measured part, whenever their replies came.
type Result struct {
	Schema      int         `json:"schema_version"`
	Mode        Mode        `json:"mode"`
	Started     time.Time   `json:"started"`
	Interrupted bool        `json:"interrupted"` // the run was ended early, on request
	Failure     string      `json:"failure"`     // why the run could not be carried out in full; "" if it was
	Parameters  Parameters  `json:"parameters"`
	Machine     Machine     `json:"machine"`
	Totals      Totals      `json:"totals"`
	Errors      ErrorCounts `json:"errors"` // of the whole run, warm-up included
	// ErrorSamples describes the first errors, up to 20.
	ErrorSamples []ErrorSample `json:"error_samples"`
	// Distributions are the times measured; the first is the one the mode is judged by.
	Distributions []Distribution `json:"distributions"`
	Series        []Point        `json:"series"`
	// Addresses has what came at each address of Plan.Subscribe, in its order. It is empty without.
	Addresses []Address `json:"addresses"`
	Client    Client    `json:"client"`
	Server    *Server   `json:"server"`   // nil without Plan.PID
	Steps     []Step    `json:"steps"`    // search only, in the order they were run
	Warnings  []string  `json:"warnings"` // what a reader must know before using the figures
}

// Parameters is the plan as it was run, defaults set.
type Parameters struct {
	Addr            string  `json:"addr"`
	Conns           int     `json:"conns"`
	SizeBytes       int     `json:"size_bytes"`
	DurationS       float64 `json:"duration_s"`
	WarmupS         float64 `json:"warmup_s"`
	Threads         int     `json:"threads"`
	Sources         int     `json:"sources"`
	TimeoutS        float64 `json:"timeout_s"`
	Seed            uint64  `json:"seed"`
	Depth           int     `json:"depth"`
	RatePerS        float64 `json:"rate_per_s"`
	Arrival         string  `json:"arrival"`
	Messages        int     `json:"messages_per_conn"`
	Linger0         bool    `json:"linger0"`
	Active          int     `json:"active_conns"`
	EchoAll         bool    `json:"echo_all"`
	ConnectRatePerS float64 `json:"connect_rate_per_s"`
	EveryS          float64 `json:"every_s"`
	Stream          bool    `json:"stream"`
	WindowBytes     int     `json:"window_bytes"`
	Subscribe       string  `json:"subscribe"` // fanout: addresses of the subscribers; "": that of the publisher
	P99LimitUS      float64 `json:"p99_limit_us"`
	StepS           float64 `json:"step_s"`
	PID             int     `json:"pid"`
	SeriesIntervalS float64 `json:"series_interval_s"`
	TLS             bool    `json:"tls"`
	TLSResume       bool    `json:"tls_resume"`
	TLSName         string  `json:"tls_name"`
	WS              string  `json:"ws"` // path; "" without WebSocket
	WSText          bool    `json:"ws_text"`
}

// Machine is where the client ran.
type Machine struct {
	OS              string `json:"os"`
	Arch            string `json:"arch"`
	Kernel          string `json:"kernel"`
	CPU             string `json:"cpu_model"`
	Cores           int    `json:"cores"`
	MaxProcs        int    `json:"max_procs"` // of those, what this process may use: less under a CPU quota
	GoVersion       string `json:"go_version"`
	DescriptorLimit uint64 `json:"descriptor_limit"`
	Date            string `json:"date"` // local, RFC 3339
}

// Totals are the sums of a run.
type Totals struct {
	MeasuredS     float64 `json:"measured_s"`     // length of the measured part
	AskedPerS     float64 `json:"asked_per_s"`    // rate, idle, ramp: what the plan asks for; fanout with a rate: deliveries; 0 for closed loops
	SentPerS      float64 `json:"sent_per_s"`     // messages that left within the measured part
	Messages      uint64  `json:"messages"`       // replies, or for fanout deliveries, that came within the measured part and were right
	MessagesPerS  float64 `json:"messages_per_s"` // achieved: Messages by MeasuredS
	BytesPerS     float64 `json:"received_bytes_per_s"`
	FellBehind    bool    `json:"fell_behind"`         // the server did not keep up with what was asked
	Planned       uint64  `json:"messages_planned"`    // rate, idle, ramp, fanout with a rate (deliveries): due in the measured part
	AfterEnd      uint64  `json:"messages_after_end"`  // right replies to messages of the measured part that came after it
	Sent          uint64  `json:"messages_sent"`       // whole run
	Unanswered    uint64  `json:"messages_unanswered"` // whole run: under way or due when their connection ended
	Cycles        uint64  `json:"cycles"`              // churn: connections; fanout: rounds; completed in the measured part
	CyclesPerS    float64 `json:"cycles_per_s"`
	ConnsOpened   uint64  `json:"conns_opened"`         // whole run
	ConnsInTime   uint64  `json:"conns_opened_in_time"` // of those, within the measured part
	ConnsAtStart  int     `json:"conns_at_start"`
	ConnsEchoed   uint64  `json:"conns_echoed"`   // idle with echo_all: those whose message before the load came back
	BytesVerified uint64  `json:"bytes_verified"` // in the measured part
	Handshakes    uint64  `json:"tls_handshakes"` // whole run
	Resumed       uint64  `json:"tls_resumed"`    // of those
	Upgrades      uint64  `json:"ws_upgrades"`    // whole run
}

// ErrorSample describes one error.
type ErrorSample struct {
	At     float64 `json:"at_s"` // from the beginning of the measured part; may be negative
	Kind   string  `json:"kind"`
	Conn   int     `json:"conn"`
	Detail string  `json:"detail"`
}

// Summary is what is told of a distribution in a table. Percentiles are of all values together; none is an average
// of others. They have three significant digits. All are 0 when Count is.
type Summary struct {
	Count uint64  `json:"count"`
	Min   float64 `json:"latency_min_us"`
	P50   float64 `json:"latency_p50_us"`
	P90   float64 `json:"latency_p90_us"`
	P99   float64 `json:"latency_p99_us"`
	P999  float64 `json:"latency_p999_us"`
	P9999 float64 `json:"latency_p9999_us"`
	Max   float64 `json:"latency_max_us"`
	Mean  float64 `json:"latency_mean_us"`
}

// Distribution is one kind of time that was measured.
type Distribution struct {
	Name  string `json:"name"`  // reply, planned, pacing_lag, connect, cycle, delivery, round, handshake, upgrade
	About string `json:"about"` // what is measured, in a sentence
	Summary
	Curve []CurvePoint `json:"curve"` // the full percentile curve

	times *histogram
}

// Address is what the subscribers at one address got from the publisher: fanout. Deliveries are those of the measured part, and the latency is
// that of the messages that were due, or sent, there. All other counts are of the whole run; each is among Errors too.
type Address struct {
	Addr           string  `json:"addr"`
	Subscribers    int     `json:"subscribers"` // connected when the load began
	Deliveries     uint64  `json:"deliveries"`
	DeliveriesPerS float64 `json:"deliveries_per_s"`
	Lost           uint64  `json:"lost"`         // skipped: a later message came instead
	Doubled        uint64  `json:"doubled"`      // came again
	OutOfOrder     uint64  `json:"out_of_order"` // came after one that was sent later; counted as lost before that
	Wrong          uint64  `json:"wrong"`        // bytes, or for WebSocket a message, that were never sent
	Overdue        uint64  `json:"overdue"`      // did not come within Plan.Timeout, nor later
	Summary
}

// CurvePoint is a point of the percentile curve: Percentile of the values are at most Latency; Count of them.
type CurvePoint struct {
	Percentile float64 `json:"percentile_pct"`
	Latency    float64 `json:"latency_us"`
	Count      uint64  `json:"count"`
}

// Point is one interval of the series. Latencies are those of the mode's first distribution.
type Point struct {
	At        float64  `json:"t_s"` // beginning, from that of the measured part
	Length    float64  `json:"length_s"`
	Messages  float64  `json:"messages_per_s"`
	Bytes     float64  `json:"received_bytes_per_s"`
	P50       float64  `json:"latency_p50_us"`
	P99       float64  `json:"latency_p99_us"`
	Max       float64  `json:"latency_max_us"`
	Errors    uint64   `json:"errors"`
	Conns     int      `json:"conns"`
	Opened    float64  `json:"conns_opened_per_s"`
	ServerCPU *float64 `json:"server_cpu_pct"` // of one core; null if not known
	ServerRSS *uint64  `json:"server_rss_bytes"`
}

// Client is what the load cost on this side, in the measured part.
type Client struct {
	UserS        float64 `json:"cpu_user_s"`
	SystemS      float64 `json:"cpu_system_s"`
	PerMessageUS float64 `json:"cpu_us_per_message"` // 0 without messages
	SharePct     float64 `json:"cpu_share_pct"`      // of the cores its threads can use
	Threads      int     `json:"threads"`
}

// Server is what the load cost on the other side. CPU and the largest memory are of the measured part.
type Server struct {
	PID          int     `json:"pid"`
	UserS        float64 `json:"cpu_user_s"`
	SystemS      float64 `json:"cpu_system_s"`
	PerMessageUS float64 `json:"cpu_us_per_message"`
	SharePct     float64 `json:"cpu_share_pct"`    // of one core: 200 is two cores
	RSSBefore    uint64  `json:"rss_before_bytes"` // before the first connection
	RSSMax       uint64  `json:"rss_max_bytes"`
	RSSEnd       uint64  `json:"rss_end_bytes"`
	RSSPerConn   float64 `json:"rss_bytes_per_conn"` // growth from before to the end, per open connection
}

// Step is one rate that a search tried.
type Step struct {
	RatePerS       float64 `json:"rate_per_s"`     // asked for
	AchievedPerS   float64 `json:"achieved_per_s"` // replies that came within the measured part
	P50            float64 `json:"latency_p50_us"` // from the planned time
	P99            float64 `json:"latency_p99_us"`
	Max            float64 `json:"latency_max_us"`
	Errors         uint64  `json:"errors"`
	ClientSharePct float64 `json:"client_cpu_share_pct"`
	Passed         bool    `json:"passed"`
	Why            string  `json:"why"` // why it did not; "" if it did
}

// Main returns the distribution the mode is judged by.
func (r *Result) Main() *Distribution {
	if len(r.Distributions) == 0 {
		return &Distribution{Name: "none"}
	}
	return &r.Distributions[0]
}

// Find returns the distribution of that name, or nil.
func (r *Result) Find(name string) *Distribution {
	for i := range r.Distributions {
		if r.Distributions[i].Name == name {
			return &r.Distributions[i]
		}
	}
	return nil
}

// WriteJSON writes the result as indented JSON.
func (r *Result) WriteJSON(w io.Writer) error {
	e := json.NewEncoder(w)
	e.SetIndent("", " ")
	e.SetEscapeHTML(false)
	return e.Encode(r)
}

// WriteHGRM writes the main distribution in HdrHistogram's text format, in microseconds. It needs the result of a
// run: one that was read from JSON does not hold the histogram any more.
func (r *Result) WriteHGRM(w io.Writer) error {
	d := r.Main()
	if d.times == nil {
		return errors.New("bench: there is no latency to write")
	}
	return d.times.writeHGRM(w)
}

// ReadResult reads what WriteJSON wrote.
func ReadResult(r io.Reader) (*Result, error) {
	var result Result
	if err := json.NewDecoder(r).Decode(&result); err != nil {
		return nil, fmt.Errorf("bench: not a result: %w", err)
	}
	switch result.Schema {
	case SchemaVersion:
		return &result, nil
	case 1:
		return nil, fmt.Errorf("bench: schema_version is 1, this program reads %d: the older netbench also counted replies "+
			"that came after the measured part; measure again", SchemaVersion)
	}
	return nil, fmt.Errorf("bench: schema_version is %d, this program reads %d", result.Schema, SchemaVersion)
}
