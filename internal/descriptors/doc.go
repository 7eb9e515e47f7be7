// Package descriptors tells how many descriptors the process may have and has, and keeps a spare one for the moment when there are no
// others. It knows nothing of what they are for.
//
//   - count.go: Count, by the system's own list, or one by one where there is none.
//   - spare.go: Spare. What it opens differs between systems (spare_linux.go, spare_bsd.go).
package descriptors
