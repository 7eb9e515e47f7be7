package observe

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/engine"
)

var (
	metricName = regexp.MustCompile(`servercore_[a-z_]+`)
	labelMatch = regexp.MustCompile(`(cause|reason)(?:=|!=|=~|!~)\\?"([a-z_|]+)\\?"`)
)

// The dashboard and the alerts ask only for metrics, causes and reasons that the engine has.
func TestGrafanaKnowsTheMetrics(t *testing.T) {
	names, values := make(map[string]bool), make(map[string]bool)
	for _, m := range engine.Metrics() {
		names[m.Name] = true
	}
	all := engine.Stats{Loops: make([]engine.LoopStats, 1)}
	for s := range all.Samples() {
		for i, label := range s.Labels {
			values[label+" "+s.LabelValues[i]] = true
		}
	}
	files, err := filepath.Glob("grafana/*.*")
	must(t, err)
	checked := 0
	for _, file := range files {
		text, err := os.ReadFile(file)
		must(t, err)
		for _, name := range metricName.FindAllString(string(text), -1) {
			checked++
			base := name
			for _, part := range []string{"_bucket", "_count", "_sum"} {
				base = strings.TrimSuffix(base, part)
			}
			if !names[name] && !names[base] {
				t.Errorf("%s asks for %s, which the engine does not have", file, name)
			}
		}
		for _, m := range labelMatch.FindAllStringSubmatch(string(text), -1) {
			for value := range strings.SplitSeq(m[2], "|") {
				if !values[m[1]+" "+value] {
					t.Errorf("%s asks for %s=%s, which the engine does not have", file, m[1], value)
				}
			}
		}
	}
	if checked < 50 {
		t.Errorf("%d names were found in %v, want more", checked, files)
	}
}
