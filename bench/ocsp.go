package main

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"maps"
	"math/big"
	"net"
	"net/http"
	"net/url"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	xocsp "golang.org/x/crypto/ocsp"

	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/ocsp"
)

// answers measures what those get who ask about certificates: from the cache,
// signed when asked, and how the revoked ones are loaded and kept. Statuses
// come from memory, so there is one database for the answers.
func (b *bench) answers(ctx context.Context, db string, t *table) error {
	if db == "sqlite" {
		if err := b.answered(ctx, t); err != nil {
			return err
		}
	}
	if b.statuses == 0 {
		return nil
	}
	loaded := row{name: fmt.Sprintf("load of %d revoked certificates, %s", b.statuses, db), limit: "reading the rows", wanted: 0.50}
	for range b.runs {
		m, err := b.measureStatuses(ctx, db)
		if err != nil {
			return err
		}
		loaded.add(float64(b.statuses)/m.load.Seconds(), float64(b.statuses)/m.read.Seconds())
		t.note("memory for each of %d revoked certificates, %s: %.1f bytes kept (wanted at most 40), %.1f resident at most while they are read", b.statuses, db,
			float64(m.kept)/float64(b.statuses), float64(m.peak)/float64(b.statuses))
	}
	t.rows = append(t.rows, loaded)
	return nil
}

func (b *bench) answered(ctx context.Context, t *table) error {
	cached := row{name: "OCSP GET from the cache", limit: "net/http with a fixed body of that size", wanted: 0.85}
	signed := row{name: "OCSP answers signed when asked", limit: "ocsp.ParseRequest and CreateResponse on all cores", wanted: 0.60}
	for range b.runs {
		m, err := b.measureAnswers(ctx)
		if err != nil {
			return err
		}
		cached.add(m.cached, m.fixed)
		m.note(t)
		signed.add(m.signed, m.bare)
	}
	t.rows = append(t.rows, cached, signed)
	return nil
}

// answersTook are rates per second.
type answersTook struct {
	cached, fixed, signed, bare float64
	// Processor time of an answer with its client: from the cache, of a fixed
	// body, and of one with the header fields of OCSP.
	cpu [3]time.Duration
}

func (m *answersTook) note(t *table) {
	us := func(d time.Duration) float64 { return d.Seconds() * 1e6 }
	t.note("processor time of an OCSP GET from the cache, its client included: %.1f µs; of a fixed body %.1f µs (ratio %.2f), with OCSP's header fields %.1f µs (%.2f)",
		us(m.cpu[0]), us(m.cpu[1]), us(m.cpu[1])/us(m.cpu[0]), us(m.cpu[2]), us(m.cpu[2])/us(m.cpu[0]))
}

// asksEach is how often one turn asks about a certificate.
const asksEach = 10

func (b *bench) measureAnswers(ctx context.Context) (m answersTook, err error) {
	dir, err := os.MkdirTemp("", "touchmark-bench")
	if err != nil {
		return m, err
	}
	defer os.RemoveAll(dir)
	w, drop, err := b.world(ctx, "sqlite", filepath.Join(dir, "touchmark"), 1)
	if err != nil {
		return m, err
	}
	defer drop()
	answer, header, err := w.anyAnswer(ctx)
	if err != nil {
		return m, err
	}
	fixed, stop, err := fixedServer(answer, nil)
	if err != nil {
		return m, err
	}
	defer stop()
	dressed, stop, err := fixedServer(answer, header)
	if err != nil {
		return m, err
	}
	defer stop()
	asks := w.asks(b.units)
	if _, err = drivePlain(ctx, w.status, asks, b.clients); err != nil { // signs
		return m, err
	}
	const turns = 3
	var took [3]float64
	for range turns {
		for i, of := range []struct{ phase, address string }{{"ocsp", w.status}, {"fixed bodies", fixed}, {"fixed answers", dressed}} {
			cpu := processor()
			l, err := b.watched(of.phase, func() (*load, error) { return drivePlain(ctx, of.address, asks, b.clients) })
			if err != nil {
				return m, fmt.Errorf("%s: %w", of.phase, err)
			}
			took[i] += 1 / l.rate
			m.cpu[i] += (processor() - cpu) / time.Duration(turns*len(asks))
		}
	}
	m.cached, m.fixed = turns/took[0], turns/took[1]
	fresh := w.asks(asksEach * b.units)[:asksEach*b.units]
	if m.bare, err = bareAnswers(fresh, w.authorities.Device); err != nil {
		return m, err
	}
	l, err := b.watched("ocsp-signed", func() (*load, error) { return drivePlain(ctx, w.status, fresh, b.clients) })
	if err != nil {
		return m, err
	}
	m.signed = l.rate
	return m, nil
}

// asks are GETs about n certificates, each several times, in turn. The
// certificates need not exist: their serial numbers are such as the CA makes.
func (w *world) asks(n int) []client {
	list := make([]client, n, asksEach*n)
	for i := range list {
		path := url.PathEscape(base64.StdEncoding.EncodeToString(askAbout(w.authorities.Device.Certificate, w.authorities.Serials.New())))
		list[i].body = []byte("GET /ocsp/" + path + " HTTP/1.1\r\nHost: " + w.status + "\r\n\r\n")
	}
	for range asksEach - 1 {
		list = append(list, list[:n]...)
	}
	return list
}

func askAbout(issuer *x509.Certificate, serial *big.Int) []byte {
	der, err := xocsp.CreateRequest(&x509.Certificate{SerialNumber: serial}, issuer, &xocsp.RequestOptions{Hash: crypto.SHA256})
	if err != nil {
		panic(err) // of a CA's certificate that was in use
	}
	return der
}

// anyAnswer waits until the server answers.
func (w *world) anyAnswer(ctx context.Context) (body []byte, header http.Header, err error) {
	path := url.PathEscape(base64.StdEncoding.EncodeToString(askAbout(w.authorities.Device.Certificate, w.authorities.Serials.New())))
	for {
		request, err := http.NewRequestWithContext(ctx, http.MethodGet, "http://"+w.status+ocsp.Path+"/"+path, nil)
		if err != nil {
			return nil, nil, err
		}
		response, err := http.DefaultClient.Do(request)
		if err != nil {
			return nil, nil, err
		}
		body, err := io.ReadAll(response.Body)
		response.Body.Close()
		if err != nil {
			return nil, nil, err
		}
		if _, err := xocsp.ParseResponse(body, w.authorities.Device.Certificate); err == nil {
			return body, response.Header, nil
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// fixedServer gives everybody the same body, with these header fields besides
// those of net/http itself.
func fixedServer(body []byte, header http.Header) (address string, stop func(), err error) {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	header = header.Clone()
	header.Del("Date")
	header.Del("Content-Length")
	s := &http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
		if len(header) > 0 {
			maps.Copy(rw.Header(), header)
		}
		_, _ = rw.Write(body)
	})}
	go func() { _ = s.Serve(listener) }()
	return listener.Addr().String(), func() { _ = s.Close() }, nil
}

// bareAnswers parses the requests and signs answers on all cores, with
// nothing around it.
func bareAnswers(clients []client, issuer ca.Authority) (float64, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return 0, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageOCSPSigning}}
	der, err := x509.CreateCertificate(rand.Reader, template, issuer.Certificate, key.Public(), issuer.Signer)
	if err != nil {
		return 0, err
	}
	responder, err := x509.ParseCertificate(der)
	if err != nil {
		return 0, err
	}
	requests := make([][]byte, len(clients))
	for i, c := range clients {
		path, _, _ := strings.Cut(strings.TrimPrefix(string(c.body), "GET /ocsp/"), " ")
		text, err := url.PathUnescape(path)
		if err != nil {
			return 0, err
		}
		if requests[i], err = base64.StdEncoding.DecodeString(text); err != nil {
			return 0, err
		}
	}
	return everyCore(len(requests), func(i int) error {
		q, err := xocsp.ParseRequest(requests[i])
		if err != nil {
			return err
		}
		now := time.Now()
		_, err = xocsp.CreateResponse(issuer.Certificate, responder, xocsp.Response{Status: xocsp.Good, SerialNumber: q.SerialNumber,
			ThisUpdate: now, NextUpdate: now.Add(time.Hour), Certificate: responder, IssuerHash: q.HashAlgorithm}, key)
		return err
	})
}

// everyCore does n things on all cores, and gives how many a second.
func everyCore(n int, do func(i int) error) (float64, error) {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	began := time.Now()
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if err := do(i); err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(n) / time.Since(began).Seconds(), nil
}

// statusesTook is what it took to load statuses.
type statusesTook struct {
	read, load time.Duration
	kept, peak int64
}

// measureStatuses fills a database with revoked certificates, reads their rows
// as a bare program would, and has a responder load them.
func (b *bench) measureStatuses(ctx context.Context, db string) (m statusesTook, err error) {
	dir, err := os.MkdirTemp("", "touchmark-bench")
	if err != nil {
		return m, err
	}
	defer os.RemoveAll(dir)
	dsn, drop := "sqlite:"+filepath.Join(dir, "touchmark.db"), func() {}
	if db == "postgres" {
		if dsn, drop, err = b.database(ctx); err != nil {
			return m, err
		}
	}
	defer drop()
	s, err := openStatuses(ctx, dsn, b.statuses)
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, s.close()) }()
	if m.read, err = s.read(ctx); err != nil {
		return m, err
	}
	before := heap()
	forgetPeak()
	resident := peak()
	set := new(ocsp.Set)
	f := &ocsp.Follower{Source: s.store, Sinks: []ocsp.Sink{set}, Now: time.Now}
	began := time.Now()
	if err := f.Load(ctx); err != nil {
		return m, err
	}
	m.load, m.peak = time.Since(began), peak()-resident
	m.kept = int64(heap() - before)
	if set.Len() != b.statuses {
		return m, fmt.Errorf("%d of %d revoked certificates were loaded", set.Len(), b.statuses)
	}
	runtime.KeepAlive(set)
	return m, nil
}
