// A module of its own: the library needs neither an ACME client nor an authority to test it with.
module github.com/servercore-go/servercore/examples/acme

go 1.25.0

require (
	github.com/letsencrypt/pebble/v2 v2.10.0
	github.com/miekg/dns v1.1.62
	github.com/servercore-go/servercore v0.0.0
	golang.org/x/crypto v0.47.0
)

require (
	github.com/go-jose/go-jose/v4 v4.1.3 // indirect
	github.com/klauspost/compress v1.20.4 // indirect
	github.com/letsencrypt/challtestsrv v1.4.2 // indirect
	github.com/panjf2000/gnet/v2 v2.9.7 // indirect
	github.com/valyala/bytebufferpool v1.0.0 // indirect
	go.uber.org/multierr v1.11.0 // indirect
	go.uber.org/zap v1.27.0 // indirect
	golang.org/x/mod v0.31.0 // indirect
	golang.org/x/net v0.48.0 // indirect
	golang.org/x/sync v0.20.0 // indirect
	golang.org/x/sys v0.45.0 // indirect
	golang.org/x/text v0.33.0 // indirect
	golang.org/x/tools v0.40.0 // indirect
	gopkg.in/natefinch/lumberjack.v2 v2.2.1 // indirect
)

replace github.com/servercore-go/servercore => ../..
