package server

import (
	"bytes"
	"context"
	"crypto/tls"
	"encoding/base64"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"
)

// A header that is too large is refused as soon as that is plain.
func TestHeaderIsCapped(t *testing.T) {
	s, c := served(t, func(c *Config) { c.EST.MaxHeader, c.API.MaxHeader = 4<<10, 4<<10 }, nil)
	for _, door := range []string{"est", "api"} {
		for what, header := range map[string]string{
			"one field":   "X-A: " + strings.Repeat("a", 64<<10),
			"many fields": strings.Repeat("X-A: a\r\n", 8<<10),
			"the path":    "",
		} {
			path := "/.well-known/est/cacerts"
			if header == "" {
				path = "/" + strings.Repeat("a", 64<<10)
			}
			v, err := visit(t, s, c, door, "127.0.0.1")
			if err != nil {
				t.Fatal(err)
			}
			go io.WriteString(v, "GET "+path+" HTTP/1.1\r\nHost: localhost\r\n"+header) // its end never comes
			if resp, err := http.ReadResponse(v.in, nil); err != nil || resp.StatusCode != 431 {
				t.Errorf("%s at %s: %v %v", what, door, resp, err)
			}
		}
	}
}

// A header that trickles in is cut off by header_timeout, a body by
// request_timeout.
func TestWhatNeverEnds(t *testing.T) {
	const soon, late = Duration(300 * time.Millisecond), Duration(time.Hour)
	for what, c := range map[string]struct {
		header, request     Duration
		begin, more, answer string
	}{
		"header": {soon, late, "GET /.well-known/est/cacerts HTTP/1.1\r\n", "X-A: b\r\n", ""},
		"body":   {late, soon, "POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/pkcs10\r\nContent-Length: 20000\r\n\r\n", "A", "408"},
		"chunks": {late, soon, "POST /.well-known/est/simpleenroll HTTP/1.1\r\nHost: localhost\r\nContent-Type: application/pkcs10\r\nTransfer-Encoding: chunked\r\n\r\n", "1\r\nA\r\n", "408"},
	} {
		w := opened(t, func(conf *Config) { conf.EST.HeaderTimeout, conf.EST.RequestTimeout = c.header, c.request })
		unit := w.build("S-1", w.now().Add(time.Hour))
		config := w.speaks(tls.VersionTLS13, unit).Transport.(*http.Transport).TLSClientConfig
		conn, err := tls.Dial("tcp", w.server.Addrs()["est"], config)
		for err != nil && t.Context().Err() == nil { // the limit is short for a slow machine's handshake, too
			conn, err = tls.Dial("tcp", w.server.Addrs()["est"], config)
		}
		if err != nil {
			t.Fatal(err)
		}
		defer conn.Close()
		conn.SetReadDeadline(time.Now().Add(time.Minute)) // only a server that hangs meets it
		ended := make(chan struct{})
		go func() { // as slowly as it takes: each write waits for nothing but the server's end
			io.WriteString(conn, c.begin)
			tick := time.NewTicker(10 * time.Millisecond)
			defer tick.Stop()
			for {
				select {
				case <-tick.C:
					io.WriteString(conn, c.more)
				case <-ended:
					return
				}
			}
		}()
		answer, _ := io.ReadAll(conn)
		close(ended)
		if !strings.Contains(string(answer), c.answer) || strings.Contains(string(answer), "200 OK") {
			t.Errorf("%s: %q", what, answer)
		}
		others := &http.Client{Transport: &http.Transport{TLSClientConfig: config, DisableKeepAlives: true}}
		for !serves(others, w) {
			if t.Context().Err() != nil {
				t.Fatalf("%s: others are not served", what)
			}
		}
	}
}

// serves reports whether a client gets an answer.
func serves(client *http.Client, w *works) bool {
	resp, err := client.Get("https://" + w.server.Addrs()["est"] + "/.well-known/est/cacerts")
	if err != nil {
		return false
	}
	resp.Body.Close()
	return resp.StatusCode == 200
}

func TestClientChainIsCapped(t *testing.T) {
	w := opened(t)
	soon := w.now().Add(time.Hour)
	unit := w.build("S-1", soon)
	fat := w.issued(strings.Repeat("x", 20<<10), pair{}, soon)
	show := func(version uint16, more ...[]byte) error {
		config := w.speaks(version, unit).Transport.(*http.Transport).TLSClientConfig
		config.Certificates[0].Certificate = append(config.Certificates[0].Certificate, more...)
		conn, err := tls.Dial("tcp", w.server.Addrs()["est"], config)
		if err != nil {
			return err
		}
		defer conn.Close()
		fmt.Fprint(conn, "GET /.well-known/est/cacerts HTTP/1.0\r\n\r\n")
		_, err = io.ReadAll(conn) // on TLS 1.3 the client learns only here
		return err
	}
	own := unit.cert.Raw
	for name, v := range tlsVersions {
		if err := show(v, own, own, own); err != nil {
			t.Errorf("%s: a chain of 4: %v", name, err)
		}
		if err := show(v, own, own, own, own, own, own, own, own); err == nil {
			t.Errorf("%s: a chain of 9 was taken", name)
		}
		if err := show(v, fat.cert.Raw); err == nil {
			t.Errorf("%s: a chain of %d bytes was taken", name, len(fat.cert.Raw))
		}
		if err := show(v, bytes.Repeat([]byte{0x30}, 300<<10)); err == nil {
			t.Errorf("%s: 300 KiB were taken", name)
		}
	}
	w.enrol(tls.VersionTLS13, unit, "simpleenroll", nil)
}

// nested fills about size bytes with SEQUENCEs one inside the other.
func nested(size int) []byte {
	var der []byte
	for len(der) < size {
		n := len(der)
		der = append([]byte{0x30, 0x82, byte(n >> 8), byte(n)}, der...)
	}
	return der
}

// What claims to be a request and is a puzzle is refused as a bad request.
func TestRequestBombs(t *testing.T) {
	w := opened(t)
	unit := w.build("S-1", w.now().Add(time.Hour))
	_, good := w.request(nil)
	for what, csr := range map[string][]byte{
		"nested 4,000 deep":   nested(16000),
		"indefinite lengths":  bytes.Repeat([]byte{0x30, 0x80}, 8000),
		"a length of 4 GiB":   {0x30, 0x84, 0xff, 0xff, 0xff, 0xff, 1},
		"a request and more":  append(bytes.Clone(good), good...),
		"as long as may be":   bytes.Repeat([]byte{0x31}, 16<<10),
		"half of a request":   good[:len(good)/2],
		"nothing but a start": {0x30},
	} {
		code, kind, body := w.est(tls.VersionTLS13, unit, "simpleenroll", csr)
		if code != 400 || !strings.HasPrefix(kind, "text/plain") {
			t.Errorf("%s: %d %s", what, code, body)
		}
	}
	if code, _, body := w.est(tls.VersionTLS13, unit, "simpleenroll", bytes.Repeat([]byte{0x30, 0x80}, 1<<20)); code != 413 {
		t.Errorf("two MiB: %d %s", code, body)
	}
	if code, _, _ := w.est(tls.VersionTLS13, unit, "simpleenroll", []byte(base64.StdEncoding.EncodeToString(good))); code != 400 {
		t.Errorf("base64 twice: %d", code)
	}
	w.enrol(tls.VersionTLS13, unit, "simpleenroll", nil)
}

// A defect in the work in the background ends one step of it.
func TestBackgroundGoesOn(t *testing.T) {
	log := new(lockedBuffer)
	s := made(t, initialized(t, Plan{}))
	s.env.Log = textLog(log)
	ctx, cancel := context.WithCancel(t.Context())
	steps := 0
	s.every(ctx, time.Millisecond, func(ctx context.Context, ticks <-chan time.Time) {
		for range ticks {
			if steps++; steps == 3 {
				cancel()
				return
			}
			panic("a defect")
		}
	})
	s.working.Wait()
	if n := testutil.ToFloat64(s.metrics.panics); steps != 3 || n != 2 {
		t.Errorf("%d steps, %v panics", steps, n)
	}
	wantContains(t, log.String(), "a defect", "caps_test.go")
}
