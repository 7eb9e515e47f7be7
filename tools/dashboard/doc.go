// Package dashboard checks observe/grafana/dashboard.json against Grafana's own description of dashboards. It is a package of tests: .ci/run
// runs them with those of all modules. What the queries return is checked by .ci/prometheus.
package dashboard
