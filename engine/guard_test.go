package engine

import (
	"errors"
	"net/netip"
	"strings"
	"testing"

	"github.com/servercore-go/servercore/session"
)

func prefixList(s ...string) (list []netip.Prefix) {
	for _, p := range s {
		list = append(list, netip.MustParsePrefix(p))
	}
	return list
}

func TestT6BadAdmission(t *testing.T) {
	e, err := New(Options{})
	if err != nil {
		t.Fatal(err)
	}
	factory := func() session.Handler { return new(plain) }
	yes := func(netip.AddrPort) error { return nil }
	behind := ProxyProtocol(prefixList("::/0")...)
	for want, o := range map[string]Option{
		"Admit":                Admit(nil),
		"ProxyProtocol":        ProxyProtocol(),
		"ProxyProtocol: inv":   ProxyProtocol(netip.Prefix{}),
		"Rules.Allow":          Guard(Rules{Allow: make([]netip.Prefix, 1)}),
		"Rules.Deny":           Guard(Rules{Deny: make([]netip.Prefix, 1)}),
		"Rules.MaxPerAddress":  Guard(Rules{MaxPerAddress: -1}),
		"Rules.AcceptRate is":  Guard(Rules{AcceptRate: -1}),
		"Rules.AcceptRate":     Guard(Rules{AcceptBurst: 1}),
		"Rules.AcceptBurst i":  Guard(Rules{AcceptRate: 1, AcceptBurst: -1}),
		"Rules.RefusalMessage": Guard(Rules{RefusalMessage: make([]byte, 4097)}),
		"Guard is given twice": func(o *origin) error { return errors.Join(Guard(Rules{})(o), Guard(Rules{})(o)) },
		"Admit is given twice": func(o *origin) error { return errors.Join(Admit(yes)(o), Admit(yes)(o)) },
		"ProxyProtocol is giv": func(o *origin) error { return errors.Join(behind(o), behind(o)) },
	} {
		if _, err := e.Listen("tcp", "127.0.0.1:0", factory, o); err == nil || !strings.Contains(err.Error(), want) {
			t.Errorf("%v, want an error with %q", err, want)
		}
	}
	if o, err := newOrigin("tcp", factory, []Option{Guard(Rules{RefusalMessage: make([]byte, 4096)})}); err != nil || len(o.entry.refusalMessage) != 4096 {
		t.Errorf("a message of 4,096 bytes: %v", err)
	}
	for name, o := range map[string]Option{"Guard": Guard(Rules{}), "ProxyProtocol": behind, "Admit": Admit(yes)} {
		if _, err := e.Listen("unix", "@nobody", factory, o); (err == nil) != (name == "Admit") {
			t.Errorf("%s on a unix socket: %v", name, err)
		}
		if _, err := e.Dial(t.Context(), "tcp", "127.0.0.1:1", factory, o); err == nil || !strings.Contains(err.Error(), "options of Listen") {
			t.Errorf("Dial with %s: %v", name, err)
		}
	}
}
