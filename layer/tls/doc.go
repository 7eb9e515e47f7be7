// Package tls is TLS as a layer under a session: crypto/tls, unchanged, without a goroutine per session.
package tls
