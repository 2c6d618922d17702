package devicesim

import (
	"bytes"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptrace"
	"path"
	"strings"

	"github.com/touchmark/touchmark/device"
)

// cut is when a line breaks.
type cut int

const (
	noCut     cut = iota
	cutSent       // as soon as the request has left: the server may notice, and may have begun
	cutAnswer     // when the answer has come: the server has done its work
)

var cuts = [...]cut{cutSent, cutAnswer}

var errLineCut = errors.New("the line was cut before the answer was read")

// line carries one exchange, notes the certificates in its answer, and may
// break.
type line struct {
	next     *http.Transport
	cut      cut
	answered func(*x509.Certificate)
}

// RoundTrip implements http.RoundTripper.
func (l *line) RoundTrip(request *http.Request) (*http.Response, error) {
	defer l.next.CloseIdleConnections()
	if l.cut == cutSent {
		request = request.WithContext(httptrace.WithClientTrace(request.Context(), hangUp()))
	}
	response, err := l.next.RoundTrip(request)
	if err != nil {
		return nil, err
	}
	defer response.Body.Close()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, err
	}
	if response.StatusCode == http.StatusOK && strings.HasSuffix(path.Base(request.URL.Path), "enroll") {
		for _, cert := range certificates(body) {
			l.answered(cert)
		}
	}
	if l.cut != noCut {
		return nil, errLineCut
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	return response, nil
}

// hangUp closes the connection once the request was written to it, without
// a farewell.
func hangUp() *httptrace.ClientTrace {
	var conn net.Conn
	return &httptrace.ClientTrace{
		GotConn:      func(i httptrace.GotConnInfo) { conn = i.Conn },
		WroteRequest: func(httptrace.WroteRequestInfo) { _ = bare(conn).Close() },
	}
}

// bare is the connection below TLS.
func bare(c net.Conn) net.Conn {
	if over, ok := c.(interface{ NetConn() net.Conn }); ok {
		return over.NetConn()
	}
	return c
}

// certificates are those in an enrolment's answer; none if it is broken,
// which the device itself will say.
func certificates(body []byte) []*x509.Certificate {
	der, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(string(body)), ""))
	if err != nil {
		return nil
	}
	certs, err := device.ParseCertsOnly(der)
	if err != nil {
		return nil
	}
	return certs
}

var errPowerCut = errors.New("power was cut")

// writes is how many writes to its store a first power-on makes: the pending
// key, its certificate, the promotion.
const writes = 3

// failingStore loses power at one of its writes: before it, or after it but
// before the unit knows.
type failingStore struct {
	device.KeyStore
	left  int // writes that still succeed
	after bool
}

func (s *failingStore) write(do func() error) error {
	s.left--
	if s.left >= 0 {
		return do()
	}
	if s.left == -1 && s.after {
		_ = do() // nobody is there to hear about it
	}
	return errPowerCut
}

// Create implements device.KeyStore.
func (s *failingStore) Create(slot device.Slot, kind device.KeyKind) (c *device.Credential, err error) {
	err = s.write(func() (err error) { c, err = s.KeyStore.Create(slot, kind); return err })
	return c, err
}

// Certify implements device.KeyStore.
func (s *failingStore) Certify(slot device.Slot, chain []*x509.Certificate) error {
	return s.write(func() error { return s.KeyStore.Certify(slot, chain) })
}

// Promote implements device.KeyStore.
func (s *failingStore) Promote() error { return s.write(s.KeyStore.Promote) }

// Drop implements device.KeyStore.
func (s *failingStore) Drop(slot device.Slot) error {
	return s.write(func() error { return s.KeyStore.Drop(slot) })
}
