package observe

import (
	"cmp"
	"fmt"
	"maps"
	"net"
	"net/netip"
	"net/url"
	"slices"
	"strconv"
	"strings"

	"github.com/servercore-go/servercore/engine"
)

// The number of sessions in an answer: without limit, and at most, skipped ones included. NATS has the same default for its /connz.
const (
	usualLimit = 1024
	mostLimit  = 65536
)

// query is what /sessions was asked for.
type query struct {
	less                 func(a, b engine.SessionStats) bool
	limit, offset        int
	listener             string
	remote               netip.Prefix // the zero prefix: any
	minPending           int
	slow, paused, ending bool
}

// orders has what sessions can be sorted by: each compares two of them.
var orders = map[string]func(a, b engine.SessionStats) int{
	"id":           func(a, b engine.SessionStats) int { return cmp.Compare(a.ID, b.ID) },
	"opened":       func(a, b engine.SessionStats) int { return a.Opened.Compare(b.Opened) },
	"active":       func(a, b engine.SessionStats) int { return a.Active.Compare(b.Active) },
	"pending":      func(a, b engine.SessionStats) int { return cmp.Compare(a.Pending, b.Pending) },
	"bytes_in":     func(a, b engine.SessionStats) int { return cmp.Compare(a.BytesIn, b.BytesIn) },
	"bytes_out":    func(a, b engine.SessionStats) int { return cmp.Compare(a.BytesOut, b.BytesOut) },
	"dropped":      func(a, b engine.SessionStats) int { return cmp.Compare(a.BytesDropped, b.BytesDropped) },
	"messages_in":  func(a, b engine.SessionStats) int { return cmp.Compare(a.MessagesIn, b.MessagesIn) },
	"messages_out": func(a, b engine.SessionStats) int { return cmp.Compare(a.MessagesOut, b.MessagesOut) },
}

// sortedBy returns an order, in which sessions that are equal come by their number.
func sortedBy(name string, down bool) func(a, b engine.SessionStats) bool {
	compare := orders[name]
	return func(a, b engine.SessionStats) bool {
		c := compare(a, b)
		if down {
			c = -c
		}
		return c < 0 || c == 0 && a.ID < b.ID
	}
}

// parseQuery reads what /sessions was asked for. Its errors say what is possible.
func parseQuery(v url.Values) (q query, err error) {
	err = known(v, "sort", "order", "limit", "offset", "listener", "remote", "min_pending", "slow", "paused", "ending")
	if err != nil {
		return q, err
	}
	sort, order := cmp.Or(v.Get("sort"), "id"), v.Get("order")
	if orders[sort] == nil {
		return q, fmt.Errorf("sort=%q: want one of %s", sort, strings.Join(slices.Sorted(maps.Keys(orders)), ", "))
	}
	if order == "" { // people want the largest of everything, but numbers from the first on
		order = "desc"
		if sort == "id" {
			order = "asc"
		}
	}
	if order != "asc" && order != "desc" {
		return q, fmt.Errorf("order=%q: want asc or desc", order)
	}
	q.less = sortedBy(sort, order == "desc")
	q.listener = v.Get("listener")
	if q.remote, err = parsePrefix(v.Get("remote")); err != nil {
		return q, err
	}
	numbers := []struct {
		name        string
		usual, most int
		to          *int
	}{{"limit", usualLimit, mostLimit, &q.limit}, {"offset", 0, mostLimit, &q.offset}, {"min_pending", 0, 1 << 40, &q.minPending}}
	for _, n := range numbers {
		if *n.to, err = number(v, n.name, n.usual, n.most); err != nil {
			return q, err
		}
	}
	if q.limit+q.offset > mostLimit {
		return q, fmt.Errorf("limit and offset together: %d at most", mostLimit)
	}
	for name, to := range map[string]*bool{"slow": &q.slow, "paused": &q.paused, "ending": &q.ending} {
		if *to, err = flag(v, name); err != nil {
			return q, err
		}
	}
	return q, nil
}

// matches reports whether a session is wanted.
func (q *query) matches(s engine.SessionStats) bool {
	return (q.listener == "" || q.listener == s.Listener) && s.Pending >= q.minPending &&
		(!q.slow || s.Slow) && (!q.paused || s.Paused) && (!q.ending || s.Ending) &&
		(!q.remote.IsValid() || q.remote.Contains(ipOf(s.Remote)))
}

// ipOf returns the zero Addr for what has none.
func ipOf(a net.Addr) netip.Addr {
	if t, ok := a.(*net.TCPAddr); ok {
		return t.AddrPort().Addr().Unmap().WithZone("")
	}
	return netip.Addr{}
}

// closedQuery is what /closed was asked for.
type closedQuery struct {
	cause string
	limit int
}

func parseClosedQuery(v url.Values) (q closedQuery, err error) {
	if err = known(v, "cause", "limit"); err != nil {
		return q, err
	}
	q.cause = v.Get("cause")
	q.limit, err = number(v, "limit", usualLimit, mostLimit)
	return q, err
}

// known refuses what the page does not have: a filter that was misspelt would pass for one that nothing fits.
func known(v url.Values, names ...string) error {
	for name := range v {
		if !slices.Contains(names, name) {
			return fmt.Errorf("%q is not known here: want %s", name, strings.Join(names, ", "))
		}
	}
	return nil
}

func number(v url.Values, name string, usual, most int) (int, error) {
	text := v.Get(name)
	if text == "" {
		return usual, nil
	}
	n, err := strconv.Atoi(text)
	if err != nil || n < 0 || n > most {
		return 0, fmt.Errorf("%s=%q: want a number from 0 to %d", name, text, most)
	}
	return n, nil
}

func flag(v url.Values, name string) (bool, error) {
	text := v.Get(name)
	if text == "" {
		return false, nil
	}
	on, err := strconv.ParseBool(text)
	if err != nil {
		return false, fmt.Errorf("%s=%q: want 1 or 0", name, text)
	}
	return on, nil
}

// parsePrefix reads an address or a range of them, as in 10.0.0.0/8.
func parsePrefix(text string) (netip.Prefix, error) {
	if text == "" {
		return netip.Prefix{}, nil
	}
	if a, err := netip.ParseAddr(text); err == nil {
		return netip.PrefixFrom(a.Unmap().WithZone(""), a.Unmap().BitLen()), nil
	}
	p, err := netip.ParsePrefix(text)
	if err != nil {
		return p, fmt.Errorf("remote=%q: want an address, or a range as in 10.0.0.0/8 or 2001:db8::/32", text)
	}
	return p.Masked(), nil
}
