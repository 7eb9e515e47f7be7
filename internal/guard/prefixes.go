package guard

import (
	"fmt"
	"net/netip"
	"slices"
)

// Prefixes is a set of address prefixes. A look-up takes as long as there are different lengths of prefixes, however many there are.
// The zero value is the empty set. It does not change after NewPrefixes, so any goroutine may read it.
type Prefixes struct {
	set     map[netip.Prefix]struct{}
	lengths [2][]int // of IPv4 and of IPv6 prefixes
}

// NewPrefixes returns the set, or an error that names the first prefix that is not valid. A prefix of IPv4-mapped addresses counts as the
// IPv4 prefix.
func NewPrefixes(list []netip.Prefix) (*Prefixes, error) {
	s := &Prefixes{set: make(map[netip.Prefix]struct{}, len(list))}
	for _, p := range list {
		if p.Addr().Is4In6() && p.Bits() >= 96 {
			p = netip.PrefixFrom(p.Addr().Unmap(), p.Bits()-96)
		}
		if !p.IsValid() || p.Addr().Is4In6() {
			return nil, fmt.Errorf("%v is not a prefix", p)
		}
		p = p.Masked()
		s.set[p] = struct{}{}
		if of := &s.lengths[family(p.Addr())]; !slices.Contains(*of, p.Bits()) {
			*of = append(*of, p.Bits())
		}
	}
	return s, nil
}

func family(a netip.Addr) int {
	if a.Is4() {
		return 0
	}
	return 1
}

// Contains reports whether the address is in one of the prefixes. An IPv4-mapped address is an IPv4 one; zones do not matter.
func (s *Prefixes) Contains(a netip.Addr) bool {
	a = a.Unmap().WithZone("") // prefixes have none
	for _, n := range s.lengths[family(a)] {
		if p, err := a.Prefix(n); err == nil {
			if _, ok := s.set[p]; ok {
				return true
			}
		}
	}
	return false
}
