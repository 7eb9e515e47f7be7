package servercore_test

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"math/big"
	"net"
	"testing"
	"time"

	"github.com/servercore-go/servercore/engine"
	"github.com/servercore-go/servercore/enginetest"
)

func TestTLSTmp(t *testing.T) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotAfter: time.Now().Add(time.Hour), DNSNames: []string{"test"}}
	der, err := x509.CreateCertificate(rand.Reader, template, template, &key.PublicKey, key)
	if err != nil {
		t.Fatal(err)
	}
	server := &tls.Config{Certificates: []tls.Certificate{{Certificate: [][]byte{der}, PrivateKey: key}}}
	v := enginetest.Variant{Network: "tcp4", Loops: 4,
		Client: func(c net.Conn) (net.Conn, error) {
			top := tls.Client(c, &tls.Config{InsecureSkipVerify: true})
			return top, top.Handshake()
		},
		Options: func() []engine.Option { return []engine.Option{engine.TLS(server)} },
	}
	enginetest.Run(t, v)
}
