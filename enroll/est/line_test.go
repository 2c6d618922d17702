package est_test

import (
	"bufio"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"net/url"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// line is one TLS connection on which requests are written byte by byte.
type line struct {
	t    testing.TB
	conn *tls.Conn
	in   *bufio.Reader
	host string
}

// dial connects with one version of TLS; 0 leaves the choice to the two.
func (d *door) dial(by party, version uint16) *line {
	d.t.Helper()
	u, err := url.Parse(d.url)
	if err != nil {
		d.t.Fatal(err)
	}
	roots := x509.NewCertPool()
	roots.AddCert(d.cas.Root)
	cfg := &tls.Config{RootCAs: roots, MinVersion: version, MaxVersion: version, Certificates: by.pair()}
	conn, err := tls.Dial("tcp", u.Host, cfg)
	if err != nil {
		d.t.Fatal(err)
	}
	d.t.Cleanup(func() { conn.Close() })
	// Only a server that never answers meets it.
	if err := conn.SetDeadline(time.Now().Add(time.Minute)); err != nil {
		d.t.Fatal(err)
	}
	return &line{d.t, conn, bufio.NewReader(conn), u.Host}
}

func (l *line) write(format string, args ...any) {
	l.t.Helper()
	if _, err := fmt.Fprintf(l.conn, format, args...); err != nil {
		l.t.Fatal(err)
	}
}

// read reads one answer to the method, to its end.
func (l *line) read(method string) answer {
	l.t.Helper()
	res, err := http.ReadResponse(l.in, &http.Request{Method: method})
	if err != nil {
		l.t.Fatal(err)
	}
	defer res.Body.Close()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		l.t.Fatal(err)
	}
	return answer{res, string(body)}
}

// text reads the bytes of an answer, up to the end of the connection.
func (l *line) text() string {
	l.t.Helper()
	b, err := io.ReadAll(l.in)
	if err != nil {
		l.t.Fatal(err)
	}
	return string(b)
}

// post sends a request as a client does that does nothing special.
func (l *line) post(operation string, csr []byte) answer {
	l.t.Helper()
	body := base64.StdEncoding.EncodeToString(csr)
	l.write("POST /.well-known/est/%s HTTP/1.1\r\nHost: %s\r\nContent-Type: application/pkcs10\r\nContent-Length: %d\r\n\r\n%s", operation, l.host, len(body), body)
	return l.read("POST")
}

// traces counts all that a request could leave behind.
func (d *door) traces() string {
	d.t.Helper()
	ctx, s := context.Background(), d.world.Store
	registrations, err := s.Registrations(ctx, vetting.RegistrationFilter{}, vetting.Page{Limit: 1000})
	if err != nil {
		d.t.Fatal(err)
	}
	evidence, err := s.Evidence(ctx, vetting.EvidenceFilter{}, vetting.Page{Limit: 1000})
	if err != nil {
		d.t.Fatal(err)
	}
	devices, err := s.Devices(ctx, vetting.DeviceFilter{}, vetting.Page{Limit: 1000})
	if err != nil {
		d.t.Fatal(err)
	}
	var states strings.Builder
	for _, dev := range devices {
		fmt.Fprintf(&states, " %s", dev.State)
	}
	order, err := s.Order(ctx, "po-1")
	if err != nil {
		d.t.Fatal(err)
	}
	var head *audit.Tree
	if err := s.Snapshot(ctx, func(src audit.Source) (err error) { head, err = src.Head(ctx); return err }); err != nil {
		d.t.Fatal(err)
	}
	return fmt.Sprintf("%d registrations, %d pieces of evidence, %d leaves, %d issued, devices%s", len(registrations), len(evidence), head.Size(), order.Issued, &states)
}
