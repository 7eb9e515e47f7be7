//go:build darwin || freebsd

package unixpath

// abstractNames: every unix address is a path.
const abstractNames = false

// putBack moves a file to a path, unless there is something.
func putBack(aside, path string) error { return linkBack(aside, path) }
