//go:build race

package sendqueue

// raced: the race detector has sync.Pool forget at random.
const raced = true
