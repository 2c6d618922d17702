package server

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"net/netip"
	"time"
)

// service is what a door leads to: an HTTP server, or the MQTT broker.
type service interface {
	// Serve returns http.ErrServerClosed after Shutdown or Close.
	Serve(net.Listener) error
	// Shutdown lets what is being worked on be answered until ctx ends.
	Shutdown(ctx context.Context) error
	Close() error
}

// door is one listener with what it leads to.
type door struct {
	name   string
	addr   string
	limits Limits
	exempt networks
	tls    *tls.Config          // nil is plain HTTP
	rates  *rates[netip.Prefix] // of new connections
	books  doorBooks
	bounds *bounds
	service

	keeper *keeper // nil until the door is open
}

// newDoor makes a door that is still closed.
func newDoor(d door, m *metrics, log *slog.Logger) *door {
	d.rates = newRates[netip.Prefix](d.limits.ConnectionRate)
	d.books = doorBooks{
		shed:     func(reason string) { m.shed.WithLabelValues(d.name, reason).Inc() },
		panicked: func(p any) { m.panicked(log, p, "door", d.name) },
		// What lands here is the noise of the open network: scanners, clients
		// that hang up in the handshake.
		errors: slog.NewLogLogger(log.With("door", d.name).Handler(), slog.LevelDebug),
	}
	return &d
}

// answering makes an HTTP server of a door.
func (d *door) answering(h http.Handler) {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	l := d.limits
	d.service = &http.Server{
		Handler:           h,
		Protocols:         protocols,
		ReadHeaderTimeout: time.Duration(l.HeaderTimeout),
		ReadTimeout:       time.Duration(l.RequestTimeout),
		WriteTimeout:      time.Duration(l.RequestTimeout) + farewell,
		IdleTimeout:       time.Duration(l.IdleTimeout),
		MaxHeaderBytes:    int(l.MaxHeader),
		ErrorLog:          d.books.errors,
		ConnState:         d.state,
	}
}

// state keeps the books of which connections are being worked for.
func (d *door) state(c net.Conn, s http.ConnState) { d.keeper.state(c, s) }

// farewell is what is left after a request's time to tell a client that sent
// too slowly.
const farewell = 5 * time.Second

// TLSConfig is the TLS of both doors. A client certificate is asked for and
// not required (RFC 7030 §4.1.2), and whatever comes is taken: what it proves
// is decided where the request is, because a self-signed bootstrap
// certificate cannot be verified by TLS.
func TLSConfig(certificate func(*tls.ClientHelloInfo) (*tls.Certificate, error)) *tls.Config {
	return &tls.Config{
		GetCertificate: certificate,
		ClientAuth:     tls.RequestClientCert,
		MinVersion:     tls.VersionTLS12,
		// For TLS 1.2: forward secrecy and AEAD only. Those of TLS 1.3 are
		// not configurable and all good.
		CipherSuites: []uint16{
			tls.TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256,
			tls.TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384,
			tls.TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256,
		},
		// A resumed session would prove possession of a ticket, not of the
		// device's key. Devices come once and hardly ever resume.
		SessionTicketsDisabled: true,
		NextProtos:             []string{"http/1.1"},
		VerifyPeerCertificate:  checkChain,
	}
}

// Bounds of what a client may show: only the first certificate counts here,
// but TLS would take 256 KiB, and keep them as long as the connection lives.
const (
	maxChain      = 8
	maxChainBytes = 32 << 10
)

// checkChain refuses a client's chain that is too long. Nothing else is
// checked here; see TLSConfig.
func checkChain(certificates [][]byte, _ [][]*x509.Certificate) error {
	size := 0
	for _, c := range certificates {
		size += len(c)
	}
	if len(certificates) > maxChain || size > maxChainBytes {
		return fmt.Errorf("the client shows %d certificates of %d bytes: at most %d of %d bytes are taken", len(certificates), size, maxChain, maxChainBytes)
	}
	return nil
}

// open binds the address.
func (d *door) open(ctx context.Context) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", d.addr)
	if err != nil {
		return fmt.Errorf("%s.listen: %w", d.name, err)
	}
	d.keeper = newKeeper(l, d.tls, d.limits, d.exempt, d.rates, d.books, func() int { return len(d.bounds.places) })
	return nil
}

// serve answers until the door is closed.
func (d *door) serve() error {
	go d.keeper.receive()
	err := d.Serve(d.keeper)
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("listener %s on %s: %w", d.name, d.addr, err)
}

// close accepts nothing more and lets the requests that are being worked on
// finish until ctx ends; then it cuts them off.
func (d *door) close(ctx context.Context) error {
	err := d.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("door %s: requests were cut off: %w", d.name, err), d.Close())
	}
	if d.keeper != nil {
		d.keeper.Close() // one that was bound but never served is not known to Shutdown
	}
	return err
}
