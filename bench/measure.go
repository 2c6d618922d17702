package main

import (
	"context"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/server"
)

// measurement is one run on one database.
type measurement struct {
	handshake, enrol, rig *load
	bare                  float64
}

// measure makes a Touchmark, its devices and their requests, and then times
// the limits and Touchmark in turn.
func (b *bench) measure(ctx context.Context, db string) (m measurement, err error) {
	dir, err := os.MkdirTemp("", "touchmark-bench")
	if err != nil {
		return m, err
	}
	defer os.RemoveAll(dir)
	w, drop, err := b.world(ctx, db, filepath.Join(dir, "touchmark"), 2*b.units)
	if err != nil {
		return m, err
	}
	defer drop()
	first, err := w.alone(ctx, 0, b.units)
	if err != nil {
		return m, err
	}
	rigged, err := w.rigged(ctx, 1, b.units)
	if err != nil {
		return m, err
	}
	bare, stop, err := w.bareServer()
	if err != nil {
		return m, err
	}
	defer stop()
	if m.handshake, err = drive(ctx, bare, first, b.clients); err != nil {
		return m, fmt.Errorf("bare handshakes: %w", err)
	}
	url := w.est + "/.well-known/est/simpleenroll"
	if m.enrol, err = b.watched("first", func() (*load, error) { return drive(ctx, url, first, b.clients) }); err != nil {
		return m, fmt.Errorf("first enrolments: %w", err)
	}
	if m.bare, err = bareIssuing(rigged, w.authorities.Device); err != nil {
		return m, err
	}
	if m.rig, err = b.watched("rig", func() (*load, error) { return driveKept(ctx, url, rigged, b.clients) }); err != nil {
		return m, fmt.Errorf("enrolments through the RA: %w", err)
	}
	return m, nil
}

// bareServer answers everybody with the same bytes, about as many as an
// enrolment's answer, behind the same TLS.
func (w *world) bareServer() (url string, stop func(), err error) {
	reply := make([]byte, 1000)
	address, stop, err := w.serveBare(&http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) { _, _ = rw.Write(reply) })})
	return "https://" + address + "/", stop, err
}

// serveBare serves behind Touchmark's TLS, with a certificate of its CA.
func (w *world) serveBare(s *http.Server) (address string, stop func(), err error) {
	own, err := ca.NewServerCertificate(w.authorities, []string{"127.0.0.1"}, time.Now)
	if err != nil {
		return "", nil, err
	}
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return "", nil, err
	}
	go func() { _ = s.Serve(tls.NewListener(listener, server.TLSConfig(own.Get))) }()
	return listener.Addr().String(), func() { _ = s.Close() }, nil
}

// bareIssuing checks the requests' signatures and signs certificates on all
// cores, with nothing around it.
func bareIssuing(clients []client, issuer ca.Authority) (float64, error) {
	var next atomic.Int64
	var failed atomic.Pointer[error]
	began := time.Now()
	var wg sync.WaitGroup
	for range runtime.GOMAXPROCS(0) {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(clients) {
					return
				}
				if err := issueBare(clients[i].body, int64(i), issuer); err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	wg.Wait()
	rate := float64(len(clients)) / time.Since(began).Seconds()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return rate, nil
}

func issueBare(body []byte, serial int64, issuer ca.Authority) error {
	der, err := base64.StdEncoding.DecodeString(string(body))
	if err != nil {
		return err
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return err
	}
	if err := csr.CheckSignature(); err != nil {
		return err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(serial + 1), Subject: csr.Subject, NotBefore: time.Now(), NotAfter: time.Now().Add(time.Hour), KeyUsage: x509.KeyUsageDigitalSignature}
	_, err = x509.CreateCertificate(rand.Reader, t, issuer.Certificate, csr.PublicKey, issuer.Signer)
	return err
}
