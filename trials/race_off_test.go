//go:build linux && !race

package trials

// raced reports whether this program was built with the race detector.
const raced = false
