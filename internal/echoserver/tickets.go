package echoserver

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"sync"
	"time"
)

// The times of crypto/tls for the keys that it makes by itself (ticketKeyRotation and ticketKeyLifetime).
const (
	ticketRotation = 24 * time.Hour     // age at which a key encrypts no more tickets
	ticketLifetime = 7 * ticketRotation // age at which it decrypts no more: no ticket is valid for longer
	mostTicketKeys = 8                  // also after the clock was set
)

// tickets are the keys of the session tickets of a config. crypto/tls would make keys that no other process has; these go to the successor,
// so that clients resume their sessions after a restart. They are rotated when a ticket is made: no goroutine is needed.
type tickets struct {
	config *tls.Config
	mu     sync.Mutex
	keys   []ticketKey // newest first, at least one
}

type ticketKey struct {
	Key  []byte
	Made time.Time
}

func newTickets(config *tls.Config, keys []ticketKey) (*tickets, error) {
	t := &tickets{config: config, keys: keys}
	for _, k := range keys {
		if len(k.Key) != 32 {
			return nil, fmt.Errorf("a ticket key of the predecessor has %d bytes, not 32", len(k.Key))
		}
	}
	if !t.rotate(time.Now()) {
		t.install()
	}
	config.WrapSession = t.wrap
	return t, nil
}

// wrap makes a session ticket.
func (t *tickets) wrap(state tls.ConnectionState, session *tls.SessionState) ([]byte, error) {
	t.mu.Lock()
	t.rotate(time.Now())
	t.mu.Unlock()
	return t.config.EncryptTicket(state, session)
}

// rotate makes a new key if the newest is too old, or seems to come from the future, and removes those past their lifetime. It reports
// whether it did.
func (t *tickets) rotate(now time.Time) bool {
	if len(t.keys) > 0 {
		if age := now.Sub(t.keys[0].Made); age >= 0 && age < ticketRotation {
			return false
		}
	}
	key := make([]byte, 32)
	rand.Read(key) // never fails
	t.keys = slices.DeleteFunc(t.keys, func(k ticketKey) bool { return now.Sub(k.Made) >= ticketLifetime })
	t.keys = append([]ticketKey{{key, now}}, t.keys[:min(len(t.keys), mostTicketKeys-1)]...)
	t.install()
	return true
}

func (t *tickets) install() {
	keys := make([][32]byte, len(t.keys))
	for i, k := range t.keys {
		keys[i] = [32]byte(k.Key)
	}
	t.config.SetSessionTicketKeys(keys)
}

// secretsFD is the variable with the number of a descriptor: a pipe with the secrets of the predecessor. Only the successor has it, so
// nobody else can read them; they are in no file, no argument and no variable.
const secretsFD = "ECHOSERVER_TLS_SECRETS"

// mostSecrets is how many bytes go through the pipe. Each system takes as many without a reader (PIPE_BUF of Linux).
const mostSecrets = 4096

// secrets is what a process hands over to its successor.
type secrets struct {
	Tickets     []ticketKey
	Certificate []byte `json:",omitempty"` // of -tls-self-signed
	Key         []byte `json:",omitempty"` // PKCS #8
}

// handOver returns a pipe with the secrets for the successor, nil without TLS. The caller must close it.
func (t *tlsServer) handOver() (*os.File, error) {
	if t == nil {
		return nil, nil
	}
	s := secrets{}
	if t.own != nil {
		var err error
		s.Certificate = t.own.Certificate[0]
		if s.Key, err = x509.MarshalPKCS8PrivateKey(t.own.PrivateKey); err != nil {
			return nil, err
		}
	}
	t.tickets.mu.Lock()
	s.Tickets = slices.Clone(t.tickets.keys)
	t.tickets.mu.Unlock()
	data, err := json.Marshal(s)
	if err != nil {
		return nil, err
	}
	if len(data) > mostSecrets {
		return nil, fmt.Errorf("the secrets for the new process have %d bytes, more than %d", len(data), mostSecrets)
	}
	r, w, err := os.Pipe()
	if err != nil {
		return nil, err
	}
	_, err = w.Write(data)
	if err = errors.Join(err, w.Close()); err != nil {
		_ = r.Close()
		return nil, err
	}
	return r, nil
}

// takeSecrets returns what the predecessor has handed over, nil if it had no TLS.
func takeSecrets(environ []string) (*secrets, error) {
	value := lookup(environ, secretsFD)
	if value == "" {
		return nil, nil
	}
	fd, err := strconv.Atoi(value)
	if err != nil || fd <= firstInherited {
		return nil, fmt.Errorf("cannot take over from a predecessor: %s=%q, want the number of a descriptor; unset it", secretsFD, value)
	}
	pipe := inherited(fd, "secrets of the predecessor")
	defer pipe.Close()
	s := new(secrets)
	data, err := io.ReadAll(io.LimitReader(pipe, mostSecrets))
	if err == nil {
		err = json.Unmarshal(data, s)
	}
	if err != nil {
		return nil, fmt.Errorf("cannot take the secrets for TLS over from a predecessor: %w", err)
	}
	return s, nil
}

func (s *secrets) ticketKeys() []ticketKey {
	if s == nil {
		return nil
	}
	return s.Tickets
}

// certificate returns the self-signed certificate, nil if there is none or it has expired.
func (s *secrets) certificate() (*tls.Certificate, error) {
	if s == nil || s.Certificate == nil {
		return nil, nil
	}
	leaf, err := x509.ParseCertificate(s.Certificate)
	if err != nil || time.Now().After(leaf.NotAfter) {
		return nil, err
	}
	key, err := x509.ParsePKCS8PrivateKey(s.Key)
	if err != nil {
		return nil, err
	}
	return &tls.Certificate{Certificate: [][]byte{s.Certificate}, PrivateKey: key, Leaf: leaf}, nil
}
