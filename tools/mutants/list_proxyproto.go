package main

// inProxyproto has the mistakes in the parsing of PROXY headers.
var inProxyproto = []mutant{
	{"a header that begins like neither version is waited for", "internal/proxyproto/parse.go",
		"	return string(b[:n]) == s[:n]\n", "	return n == 0 || b[0] == s[0]\n", "./internal/proxyproto TestMalformedHeaders"},
	{"a header that cannot become valid is waited for", "internal/proxyproto/v1.go",
		"		rest, err := missing(text)\n		if err == nil && len(b)+rest > maxLine {\n", "		rest, err := missing(text)\n		if err = nil; len(b)+rest > maxLine {\n", "./internal/proxyproto TestMalformedHeaders"},
	{"a line that ends with LF alone is waited for", "internal/proxyproto/v1.go", "	case text[end] == '\\n':\n		return h, 0, errors.New(\"the line ends with LF, want CR LF\")\n",
		"	case text[end] == '\\n':\n		return h, 0, nil\n	case size < 0:\n		return h, 0, errors.New(\"\")\n", "./internal/proxyproto TestMalformedHeaders"},
	{"an IPv6 address in a TCP4 line is taken", "internal/proxyproto/v1.go", " && a.Is4() == (protocol == \"TCP4\")\n", "\n", "./internal/proxyproto TestMalformedHeaders"},
	{"a destination of the other family is refused", "internal/proxyproto/v1.go", "isDestination(string(f[2]))", "isAddress(string(f[2]), string(f[0]))", "./internal/proxyproto TestWholeHeaders"},
	{"a port with a zero before it is taken", "internal/proxyproto/v1.go", " && (s[0] != '0' || s == \"0\")\n", "\n", "./internal/proxyproto TestMalformedHeaders"},
	{"the two ports of a line are exchanged", "internal/proxyproto/v1.go", "endpoint(f[1], f[3])", "endpoint(f[1], f[4])", "./internal/proxyproto TestWholeHeaders"},
	{"source and destination are exchanged", "internal/proxyproto/v2.go",
		"netip.AddrPortFrom(netip.AddrFrom4([4]byte(a)), port(8))", "netip.AddrPortFrom(netip.AddrFrom4([4]byte(a[4:])), port(8))", "./internal/proxyproto TestWholeHeaders"},
	{"an IPv4-mapped address stays one", "internal/proxyproto/v2.go", "netip.AddrFrom16([16]byte(a)).Unmap(), port(32)", "netip.AddrFrom16([16]byte(a)), port(32)", "./internal/proxyproto TestWholeHeaders"},
	{"a wrong checksum is taken", "internal/proxyproto/v2.go", "sum != stated {", "sum != stated && stated == 0 {", "./internal/proxyproto TestMalformedHeaders|TestChecksumGuardsEveryBit"},
	{"the checksum of LOCAL is not checked", "internal/proxyproto/v2.go", "		return h, most, checkLocal(b[:most], tlvs)\n", "		return h, most, nil\n", "./internal/proxyproto TestMalformedHeaders"},
	{"LOCAL is taken for the client that its header names", "internal/proxyproto/v2.go", "	case command == local:\n", "	case command == local && family == 0:\n", "./internal/proxyproto TestWholeHeaders"},
	{"an unknown transport is taken", "internal/proxyproto/v2.go", "transport > lastTransport) {", "transport > 15) {", "./internal/proxyproto TestMalformedHeaders"},
	{"a datagram's addresses are taken for a client's", "internal/proxyproto/v2.go", "	if transport == stream {\n", "	if transport <= lastTransport {\n", "./internal/proxyproto TestWholeHeaders"},
	{"a TLV that is longer than the header is skipped", "internal/proxyproto/v2.go", "		if least > left {\n", "		if least > left+255 {\n", "./internal/proxyproto TestMalformedHeaders"},
	{"a header of more than 4 KiB is waited for", "internal/proxyproto/v2.go", "	case least > MaxSize:\n", "	case least > 1<<16:\n", "./internal/proxyproto TestMalformedHeaders"},
	{"a log line quotes all that came in place of a header", "internal/proxyproto/parse.go", "	most := 16\n", "	most := 256\n", "./internal/proxyproto TestQuote"},
}
