// Package layer puts one layer of a session on top of another. The layers themselves are in the packages below it: layer/tls and
// layer/websocket.
//
//	both := layer.Stack(tls.Server(config, h, local, remote), server.Layer(nil)) // wss
//
// The wire's bytes are opened by the layer below, and what comes out by the layer above. What the application sends is made into messages
// by the framing of the layer above, and sealed by the one below.
package layer
