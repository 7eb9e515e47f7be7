package echoserver

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"net"
	"os"
	"time"
)

// A tlsServer has what TLS needs besides the engine: a certificate, and the keys of the session tickets. Both go to the successor at a
// restart; a certificate from files does not, the successor reads the files.
type tlsServer struct {
	config  *tls.Config
	tickets *tickets
	own     *tls.Certificate // of -tls-self-signed, else nil
}

// newTLS returns what -tls-cert, -tls-key and -tls-self-signed ask for, nil for none of them. before is what the predecessor has handed
// over, nil for nothing. Its error says what to change.
func newTLS(c *config, before *secrets, log *slog.Logger) (*tlsServer, error) {
	t := &tlsServer{config: &tls.Config{}}
	switch {
	case c.tlsSelfSigned && (c.tlsCert != "" || c.tlsKey != ""):
		return nil, errors.New("-tls-self-signed makes a certificate: leave out either it, or -tls-cert and -tls-key")
	case (c.tlsCert == "") != (c.tlsKey == ""):
		return nil, errors.New("-tls-cert and -tls-key belong together: set both")
	case c.tlsCert != "":
		files, err := newCertFiles(c.tlsCert, c.tlsKey, log)
		if err != nil {
			return nil, fmt.Errorf("-tls-cert: %w", err)
		}
		t.config.GetCertificate = files.get
	case c.tlsSelfSigned:
		cert, err := before.certificate()
		if cert == nil && err == nil {
			cert, err = selfSigned(time.Now())
		}
		if err != nil {
			return nil, fmt.Errorf("-tls-self-signed: %w", err)
		}
		describeCert(log, cert.Leaf)
		t.own, t.config.Certificates = cert, []tls.Certificate{*cert}
	default:
		return nil, nil
	}
	var err error
	t.tickets, err = newTickets(t.config, before.ticketKeys())
	return t, err
}

// describeCert logs what a client may want to pin, and until when the certificate is valid.
func describeCert(log *slog.Logger, leaf *x509.Certificate) {
	names := append([]string(nil), leaf.DNSNames...)
	for _, ip := range leaf.IPAddresses {
		names = append(names, ip.String())
	}
	level, text := slog.LevelInfo, "TLS certificate"
	if time.Now().After(leaf.NotAfter) {
		level, text = slog.LevelWarn, "TLS certificate that has expired: clients will refuse it"
	}
	log.Log(context.Background(), level, text, "sha256", fingerprint(leaf), "names", names, "until", leaf.NotAfter.Format(time.RFC3339))
}

// fingerprint returns the SHA-256 of the certificate in hexadecimal.
func fingerprint(leaf *x509.Certificate) string { return fmt.Sprintf("%x", sha256.Sum256(leaf.Raw)) }

// selfSignedTime is how long a certificate of -tls-self-signed is valid. Some clients refuse more than 398 days.
const selfSignedTime = 365 * 24 * time.Hour

// selfSigned makes a certificate for this machine: ECDSA with P-256, for localhost, 127.0.0.1, ::1 and the name of the host.
func selfSigned(now time.Time) (*tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, err
	}
	serial, err := rand.Int(rand.Reader, new(big.Int).Lsh(big.NewInt(1), 127))
	if err != nil {
		return nil, err
	}
	template := &x509.Certificate{
		SerialNumber: serial, Subject: pkix.Name{CommonName: "echoserver -tls-self-signed"},
		NotBefore: now.Add(-time.Hour), NotAfter: now.Add(selfSignedTime), // an hour for clocks that are behind
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	if host, err := os.Hostname(); err == nil && host != "" && host != "localhost" {
		template.DNSNames = append(template.DNSNames, host)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return nil, err
	}
	leaf, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key, Leaf: leaf}, nil
}
