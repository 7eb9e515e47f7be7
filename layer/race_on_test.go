//go:build race

package layer_test

// raced: the tests run under the race detector, some ten times slower.
const raced = true
