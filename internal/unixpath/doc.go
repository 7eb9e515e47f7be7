// Package unixpath binds the path of a unix socket, and removes it at the end, without harm to what other processes put there.
//
// The path of a unix socket outlives the process that bound it. Listen takes over the path of a dead socket, and Binding.Remove
// removes the path that Listen has bound. Between a look at a path and its removal another process may put something else there. Two
// things guard against that. Processes that use this package lock the folder while they look, remove and bind. And a path is moved
// aside, in one step, and looked at again before it is removed.
//
// The way through the package:
//
//   - binding.go: Listen and Binding, in the order of the steps, and the lock of a folder.
//   - dead.go: is the socket at a path dead?
//   - remove.go: remove a path only if it is the right socket. The last step differs between systems (remove_linux.go, remove_bsd.go).
//
// docs/decisions/0002 weighs the ways.
package unixpath
