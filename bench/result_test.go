package bench

import (
	"bytes"
	"encoding/json"
	"os"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/santhosh-tekuri/jsonschema/v6"
)

// schema compiles schema.json in a stricter form: keys it does not name are errors. So the schema names them all.
func schema(t testing.TB) *jsonschema.Schema {
	t.Helper()
	f, err := os.Open("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	doc, err := jsonschema.UnmarshalJSON(f)
	if err != nil {
		t.Fatal(err)
	}
	var close func(any)
	close = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if _, ok := v["properties"]; ok {
				v["additionalProperties"] = false
			}
			for _, inner := range v {
				close(inner)
			}
		case []any:
			for _, inner := range v {
				close(inner)
			}
		}
	}
	close(doc)
	c := jsonschema.NewCompiler()
	c.AssertFormat()
	if err := c.AddResource("schema.json", doc); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestResultsMatchTheSchema(t *testing.T) {
	s := schema(t)
	echo := peer(t, plainEcho)
	flip := peer(t, echoes(64, func(n int, m []byte) []byte { m[20] ^= 1; return m }))
	for name, p := range map[string]Plan{
		"echo": short(Echo, echo), "rate": short(Rate, echo), "churn": short(Churn, echo), "idle": short(Idle, echo),
		"fanout": short(Fanout, peer(t, broadcast())), "nodes": fanoutOverNodes(t, 2, 0, nil), "errors": short(Rate, flip),
		"search": {Mode: Search, Addr: echo, Conns: 2, Step: 100 * time.Millisecond, Duration: 200 * time.Millisecond, Warmup: -1},
	} {
		if _, err := newProbe(os.Getpid()); err == nil {
			p.PID = os.Getpid()
		}
		r := carryOut(t, p)
		var b bytes.Buffer
		if err := r.WriteJSON(&b); err != nil {
			t.Fatal(err)
		}
		doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(b.Bytes()))
		if err != nil {
			t.Fatal(err)
		}
		if err := s.Validate(doc); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		again, err := ReadResult(&b)
		if err != nil {
			t.Fatal(err)
		}
		for i := range r.Distributions {
			r.Distributions[i].times = nil
		}
		again.Started, r.Started = time.Time{}, time.Time{} // the monotonic part and the zone's pointer are not written
		if !reflect.DeepEqual(r, again) {
			t.Errorf("%s: what was read differs from what was written", name)
		}
		if name == "errors" && r.Errors.Total() == 0 || len(r.Series) == 0 || len(r.Main().Curve) == 0 && name != "idle" {
			t.Errorf("%s: %d errors, %d points", name, r.Errors.Total(), len(r.Series))
		}
	}
}

func TestSchemaCanFail(t *testing.T) {
	r := carryOut(t, short(Echo, peer(t, plainEcho)))
	var b bytes.Buffer
	if err := r.WriteJSON(&b); err != nil {
		t.Fatal(err)
	}
	for _, change := range []func(map[string]any){
		func(m map[string]any) { delete(m, "totals") },
		func(m map[string]any) { m["unheard_of"] = 1 },
		func(m map[string]any) { m["schema_version"] = 1 },
	} {
		var m map[string]any
		if err := json.Unmarshal(b.Bytes(), &m); err != nil {
			t.Fatal(err)
		}
		change(m)
		if schema(t).Validate(m) == nil {
			t.Error("the schema takes anything")
		}
	}
}

// The points of the series and the totals are two views of the same messages.
func TestSeriesAddsUp(t *testing.T) {
	r := carryOut(t, short(Rate, peer(t, plainEcho)))
	sum, length := 0.0, 0.0
	for _, p := range r.Series {
		sum += p.Messages * p.Length
		length += p.Length
	}
	if !near(sum, float64(r.Totals.Messages)) || !near(length, r.Totals.MeasuredS) {
		t.Errorf("the series has %v messages in %v s, the totals %d in %v s", sum, length, r.Totals.Messages, r.Totals.MeasuredS)
	}
}

func TestReadResultErrors(t *testing.T) {
	for text, want := range map[string]string{"": "not a result", "{}": "schema_version is 0", `{"schema_version": 99}`: "is 99", `{"schema_version": 1}`: "measure again"} {
		if _, err := ReadResult(strings.NewReader(text)); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%q: %v", text, err)
		}
	}
}

func TestHGRMNeedsTheRun(t *testing.T) {
	if err := new(Result).WriteHGRM(&bytes.Buffer{}); err == nil {
		t.Error("no error")
	}
}
