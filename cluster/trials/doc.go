// Package trials proves the promises of package cluster (N1 to N5) with processes of their own.
package trials
