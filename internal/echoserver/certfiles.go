package echoserver

import (
	"crypto/tls"
	"log/slog"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// certPoll is the shortest time between two looks at the files of a certificate. Tests make it shorter.
var certPoll = time.Second

// certFiles is a certificate and its key in two PEM files, which are read anew when they have changed.
//
// A handshake that needs the certificate looks at the files, if nobody has for certPoll. So there is no goroutine and no timer, and a
// server without handshakes touches no file. The price: a bad pair is logged when the next client comes, not before. A resumed session
// needs no certificate.
type certFiles struct {
	cert, key string
	log       *slog.Logger
	current   atomic.Pointer[tls.Certificate]

	mu      sync.Mutex // held by the handshake that looks at the files; others take the certificate at hand
	looked  time.Time
	loaded  stamp  // of the certificate at hand
	refused stamp  // of the pair that was refused last
	why     string // it was refused; "" for none since the last change
}

// newCertFiles reads the files for the first time.
func newCertFiles(cert, key string, log *slog.Logger) (*certFiles, error) {
	f := &certFiles{cert: cert, key: key, log: log, looked: time.Now()}
	f.loaded = f.stamp()
	return f, f.load()
}

// get is a tls.Config's GetCertificate.
func (f *certFiles) get(*tls.ClientHelloInfo) (*tls.Certificate, error) {
	if f.mu.TryLock() {
		if now := time.Now(); now.Sub(f.looked) >= certPoll {
			f.looked = now
			f.look()
		}
		f.mu.Unlock()
	}
	return f.current.Load(), nil
}

// look reads the files if they have changed. A pair that was refused is read again each time, because the files may be written at this
// moment; it is logged once.
func (f *certFiles) look() {
	at := f.stamp()
	if at.same(f.loaded) {
		return
	}
	err := f.load()
	if err == nil {
		f.loaded, f.why = at, ""
		return
	}
	if why := err.Error(); why != f.why || !at.same(f.refused) {
		f.refused, f.why = at, why
		f.log.Error("the changed TLS certificate is refused, and the one before stays", "cert", f.cert, "key", f.key, "err", err)
	}
}

func (f *certFiles) load() error {
	cert, err := tls.LoadX509KeyPair(f.cert, f.key)
	if err != nil {
		return err
	}
	f.current.Store(&cert)
	describeCert(f.log, cert.Leaf)
	return nil
}

// A stamp tells one version of the two files from another. A file that cannot be asked for is nil.
type stamp [2]os.FileInfo

func (f *certFiles) stamp() (s stamp) {
	for i, path := range []string{f.cert, f.key} {
		if info, err := os.Stat(path); err == nil {
			s[i] = info
		}
	}
	return s
}

// same reports whether both files are the same ones, with the same size and time of modification.
func (s stamp) same(other stamp) bool {
	for i, a := range s {
		b := other[i]
		switch {
		case a == nil && b == nil:
		case a == nil || b == nil || !os.SameFile(a, b) || a.Size() != b.Size() || !a.ModTime().Equal(b.ModTime()):
			return false
		}
	}
	return true
}
