package engine

import (
	"fmt"
	"net/netip"
	"slices"
)

// prefixes is a set of address prefixes. A look-up costs as many steps as there are different lengths, however many prefixes.
type prefixes struct {
	set     map[netip.Prefix]struct{}
	lengths [2][]int // of IPv4 and of IPv6 prefixes
}

// newPrefixes returns the set, or an error that names the first one that is none.
func newPrefixes(list []netip.Prefix) (*prefixes, error) {
	s := &prefixes{set: make(map[netip.Prefix]struct{}, len(list))}
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

// contain reports whether a, which is not IPv4-mapped, is in one of them.
func (s *prefixes) contain(a netip.Addr) bool {
	a = a.WithZone("") // prefixes have none
	for _, n := range s.lengths[family(a)] {
		if p, err := a.Prefix(n); err == nil {
			if _, ok := s.set[p]; ok {
				return true
			}
		}
	}
	return false
}
