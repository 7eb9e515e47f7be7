//go:build !race

package sendqueue

const raced = false
