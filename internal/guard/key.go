package guard

import "net/netip"

// key is what the addresses of one source have in common.
type key [16]byte

var (
	nat64      = netip.MustParsePrefix("64:ff9b::/96")   // RFC 6052: the IPv4 address is in the last four bytes
	nat64Local = netip.MustParsePrefix("64:ff9b:1::/48") // RFC 8215: where the IPv4 address is depends on the network
	sixToFour  = netip.MustParsePrefix("2002::/16")      // RFC 3056: the IPv4 address follows the prefix
	teredo     = netip.MustParsePrefix("2001::/32")      // RFC 4380: the IPv4 address is in the last four bytes, inverted
)

// keyOf returns the key of the source that an address belongs to: an IPv4 address counts by itself, an IPv6 address as its /64, and
// an IPv6 address that stands for an IPv4 one as that one. Link-local addresses and those of nat64Local count by themselves.
func keyOf(addr netip.Addr) key {
	addr = addr.Unmap()
	b := addr.As16()
	if v4, ok := fromNAT64(addr); ok {
		return v4.As16()
	}
	switch {
	case addr.Is4() || addr.IsLinkLocalUnicast() || nat64Local.Contains(addr):
		return b
	case sixToFour.Contains(addr):
		return netip.AddrFrom4([4]byte(b[2:])).As16()
	case teredo.Contains(addr):
		return netip.AddrFrom4([4]byte{^b[12], ^b[13], ^b[14], ^b[15]}).As16()
	}
	clear(b[8:])
	return b
}

// fromNAT64 returns the IPv4 address that a NAT64 translator has put into an IPv6 address.
func fromNAT64(addr netip.Addr) (v4 netip.Addr, ok bool) {
	if !nat64.Contains(addr) {
		return v4, false
	}
	b := addr.As16()
	return netip.AddrFrom4([4]byte(b[12:])), true
}
