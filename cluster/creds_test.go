package cluster

import (
	"bytes"
	"crypto/tls"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/nats-io/jwt/v2"
	"github.com/nats-io/nats-server/v2/server"
	"github.com/nats-io/nkeys"
)

// account is an account of an operator, which issues users.
type account struct {
	t      *testing.T
	key    nkeys.KeyPair
	public string
}

func newAccount(t *testing.T) *account {
	t.Helper()
	key, err := nkeys.CreateAccount()
	must(t, err)
	public, err := key.PublicKey()
	must(t, err)
	return &account{t, key, public}
}

// user returns a file of a user that the account has issued: its JWT, and a seed, which is its own if none is given.
func (a *account) user(name string, expires time.Time, seed []byte) (file string) {
	a.t.Helper()
	key, err := nkeys.CreateUser()
	must(a.t, err)
	public, err := key.PublicKey()
	must(a.t, err)
	claims := jwt.NewUserClaims(public)
	claims.Name, claims.Expires = name, expires.Unix()
	token, err := claims.Encode(a.key)
	must(a.t, err)
	own, err := key.Seed()
	must(a.t, err)
	content, err := jwt.FormatUserConfig(token, own)
	must(a.t, err)
	if seed != nil {
		content = bytes.Replace(content, own, seed, 1)
	}
	file = filepath.Join(a.t.TempDir(), name+".creds")
	must(a.t, os.WriteFile(file, content, 0o600))
	return file
}

// N5: the file of a user that an account of the server has issued lets a node in. One of another account, one that has expired, and one whose
// seed is not the user's do not.
func TestOpenWithCreds(t *testing.T) {
	operator, err := nkeys.CreateOperator()
	must(t, err)
	trusted, err := operator.PublicKey()
	must(t, err)
	ours, theirs := newAccount(t), newAccount(t)
	claims := jwt.NewAccountClaims(ours.public)
	token, err := claims.Encode(operator)
	must(t, err)
	accounts := &server.MemAccResolver{}
	must(t, accounts.Store(ours.public, token))
	s := natsServer(t, server.Options{TrustedKeys: []string{trusted}, AccountResolver: accounts})
	soon := time.Now().Add(time.Hour)
	another, err := nkeys.CreateUser()
	must(t, err)
	seed, err := another.Seed()
	must(t, err)
	for _, tt := range []struct {
		what, file string
		err        error
	}{
		{"right", ours.user("right", soon, nil), nil},
		{"of another account", theirs.user("other", soon, nil), ErrRefused},
		{"expired", ours.user("late", time.Now().Add(-time.Hour), nil), ErrRefused},
		{"with the seed of another user", ours.user("stolen", soon, seed), ErrRefused},
	} {
		c, err := Open(Options{URL: s.ClientURL(), Credentials: tt.file, Logger: quiet})
		if err == nil {
			must(t, c.Close())
		}
		if want(t, tt.what, err, tt.err); err != nil && strings.Contains(err.Error(), string(seed)) {
			t.Errorf("%s: the error has a seed: %v", tt.what, err)
		}
	}
	a := open(t, Options{URL: s.ClientURL(), Credentials: ours.user("a", soon, nil)})
	b := open(t, Options{URL: s.ClientURL(), Credentials: ours.user("b", soon, nil)})
	know(t, a, b)
}

// N5: a server with TLS is verified with the authorities of Options.TLS, and one that wants a certificate gets that of Options.TLS. What is
// wrong there is told.
func TestOpenWithTLS(t *testing.T) {
	ours, theirs := certificates(t), certificates(t)
	s := natsServer(t, server.Options{TLSConfig: ours, TLSTimeout: 5})
	mutual := ours.Clone()
	mutual.ClientAuth, mutual.ClientCAs = tls.RequireAndVerifyClientCert, ours.RootCAs
	strict := natsServer(t, server.Options{TLSConfig: mutual, TLSTimeout: 5})
	plain := natsServer(t, server.Options{})
	secure := func(s *server.Server) string { return "tls://" + s.Addr().String() }
	trusts := func(c *tls.Config) *tls.Config { return &tls.Config{RootCAs: c.RootCAs} }
	for _, tt := range []struct {
		what, url string
		tls       *tls.Config
		err       error
	}{
		{"right", secure(s), trusts(ours), nil},
		{"right, by nats://", "nats://" + s.Addr().String(), trusts(ours), nil},
		{"another authority", secure(s), trusts(theirs), ErrRefused},
		{"the system's authorities", secure(s), nil, ErrRefused},
		{"with a certificate", secure(strict), ours, nil},
		{"without a certificate", secure(strict), trusts(ours), ErrRefused},
		{"with a certificate of another authority", secure(strict), &tls.Config{RootCAs: ours.RootCAs, Certificates: theirs.Certificates}, ErrRefused},
		{"a server without TLS", secure(plain), trusts(ours), ErrRefused},
	} {
		c, err := Open(Options{URL: tt.url, TLS: tt.tls, Logger: quiet})
		if err == nil {
			must(t, c.Close())
		}
		if want(t, tt.what, err, tt.err); tt.err != nil && err != nil && !strings.Contains(err.Error(), "Options.TLS") {
			t.Errorf("%s: the error does not say where to look: %v", tt.what, err)
		}
	}
	a, b := open(t, Options{URL: secure(strict), TLS: ours}), open(t, Options{URL: secure(strict), TLS: ours})
	know(t, a, b)
}
