package chat

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	_ "embed" // page
	"math/big"
	"net"
	"net/http"
	"os"
	"time"

	"github.com/servercore-go/servercore/engine"
)

// page is all that a browser loads.
//
//go:embed page.html
var page []byte

// webOptions returns the options of a listener for browsers: the page at /, its WebSocket at /chat. A page of another host cannot connect.
func webOptions(secure bool) ([]engine.Option, error) {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /{$}", servePage)
	options := []engine.Option{engine.WebSocket(engine.WebSocketOptions{
		Path: "/chat", Text: true, MaxMessage: maxLine, Compression: true, HTTP: mux,
	})}
	if !secure {
		return options, nil
	}
	cert, err := selfSigned()
	return append(options, engine.TLS(&tls.Config{Certificates: []tls.Certificate{cert}})), err
}

func servePage(w http.ResponseWriter, _ *http.Request) {
	h := w.Header()
	h.Set("Content-Type", "text/html; charset=utf-8")
	h.Set("Cache-Control", "no-cache")
	// What users say becomes text and never HTML. Should it, it can load nothing from elsewhere.
	h.Set("Content-Security-Policy", "default-src 'none'; style-src 'unsafe-inline'; script-src 'unsafe-inline'; connect-src 'self'; img-src data:")
	_, _ = w.Write(page) // the browser may have gone
}

// PageURL returns where a browser on this machine finds the page.
func PageURL(a net.Addr, secure bool) string {
	host, port, _ := net.SplitHostPort(a.String())
	if ip := net.ParseIP(host); host == "" || ip != nil && ip.IsUnspecified() {
		host = "127.0.0.1"
	}
	scheme := "http://"
	if secure {
		scheme = "https://"
	}
	return scheme + net.JoinHostPort(host, port)
}

// selfSigned makes a certificate for this machine, valid for a month.
func selfSigned() (tls.Certificate, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return tls.Certificate{}, err
	}
	now := time.Now()
	template := &x509.Certificate{
		Subject:      pkix.Name{CommonName: "chat -tls-self-signed"}, // curl refuses a certificate whose issuer has no name
		SerialNumber: big.NewInt(now.UnixNano()), NotBefore: now.Add(-time.Hour), NotAfter: now.AddDate(0, 1, 0),
		DNSNames: []string{"localhost"}, IPAddresses: []net.IP{net.IPv4(127, 0, 0, 1), net.IPv6loopback},
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth}, BasicConstraintsValid: true,
	}
	if host, err := os.Hostname(); err == nil && host != "" && host != "localhost" {
		template.DNSNames = append(template.DNSNames, host)
	}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		return tls.Certificate{}, err
	}
	return tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}, nil
}
