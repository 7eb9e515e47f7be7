//go:build race

package tls

const raceDetector = true // it makes allocations larger and more
