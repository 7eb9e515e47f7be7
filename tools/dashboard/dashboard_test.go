package dashboard

import (
	"bytes"
	"errors"
	"os"
	"testing"

	"github.com/grafana/grafana-foundation-sdk/go/cog"
	"github.com/grafana/grafana-foundation-sdk/go/dashboard"
	"github.com/grafana/grafana-foundation-sdk/go/prometheus"
	"github.com/grafana/grafana-foundation-sdk/go/timeseries"
)

const path = "../../observe/grafana/dashboard.json"

// check decodes a dashboard by the types that Grafana makes of its schema, strictly: a field that it does not know, one that is missing and one
// of a wrong type are errors, in panels and queries too. Then it checks the values.
func check(text []byte) error {
	plugins := cog.NewRuntime()
	plugins.RegisterPanelcfgVariant(timeseries.VariantConfig())
	plugins.RegisterDataqueryVariant(prometheus.VariantConfig())
	//lint:ignore SA1019 the file has the format that every Grafana imports; that of dashboardv2 is for version 12 and later
	var d dashboard.Dashboard
	var none cog.BuildErrors // what UnmarshalJSONStrict returns if there are none
	if err := d.UnmarshalJSONStrict(text); err != nil && (!errors.As(err, &none) || len(none) > 0) {
		return err
	}
	return d.Validate()
}

// The dashboard is one by Grafana's schema.
func TestDashboardIsOneOfGrafana(t *testing.T) {
	text, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := check(text); err != nil {
		t.Errorf("%s: %v", path, err)
	}
	// The check sees mistakes in each layer: the dashboard, a panel, its options, a query.
	for _, mistake := range [][2]string{
		{`"schemaVersion":`, `"schemaVersions":`},
		{`"gridPos":`, `"gridPosition":`},
		{`"showLegend": true`, `"showLegend": "yes"`},
		{`"expr":`, `"expression":`},
	} {
		wrong := bytes.Replace(text, []byte(mistake[0]), []byte(mistake[1]), 1)
		if bytes.Equal(wrong, text) {
			t.Errorf("%s has no %s", path, mistake[0])
		} else if check(wrong) == nil {
			t.Errorf("%s in place of %s is not noticed", mistake[1], mistake[0])
		}
	}
}
