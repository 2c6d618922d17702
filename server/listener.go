package server

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"time"
)

// door is one listener with its HTTP server.
type door struct {
	name string
	addr string
	most int // connections; 0 is without bound
	http *http.Server

	listener net.Listener
}

// newDoor makes a door that is still closed. It speaks TLS if config is not
// nil.
func newDoor(name, addr string, l Limits, config *tls.Config, h http.Handler, log *slog.Logger) *door {
	protocols := new(http.Protocols)
	protocols.SetHTTP1(true)
	return &door{name: name, addr: addr, most: l.MaxConnections, http: &http.Server{
		Handler:           h,
		TLSConfig:         config,
		Protocols:         protocols,
		ReadHeaderTimeout: time.Duration(l.HeaderTimeout),
		ReadTimeout:       time.Duration(l.RequestTimeout),
		WriteTimeout:      time.Duration(l.RequestTimeout),
		IdleTimeout:       time.Duration(l.IdleTimeout),
		MaxHeaderBytes:    int(l.MaxHeader),
		// What lands here is the noise of the open network: scanners, clients
		// that hang up in the handshake.
		ErrorLog: slog.NewLogLogger(log.With("door", name).Handler(), slog.LevelDebug),
	}}
}

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
	}
}

// open binds the address.
func (d *door) open(ctx context.Context) error {
	l, err := new(net.ListenConfig).Listen(ctx, "tcp", d.addr)
	if err != nil {
		return fmt.Errorf("%s.listen: %w", d.name, err)
	}
	if d.most > 0 {
		l = &boundedListener{Listener: l, free: make(chan struct{}, d.most), closed: make(chan struct{})}
	}
	d.listener = l
	return nil
}

// serve answers until the door is closed.
func (d *door) serve() error {
	var err error
	if d.http.TLSConfig != nil {
		err = d.http.ServeTLS(d.listener, "", "")
	} else {
		err = d.http.Serve(d.listener)
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("listener %s on %s: %w", d.name, d.addr, err)
}

// close accepts nothing more and lets the requests that are being worked on
// finish until ctx ends; then it cuts them off.
func (d *door) close(ctx context.Context) error {
	err := d.http.Shutdown(ctx)
	if err != nil {
		err = errors.Join(fmt.Errorf("door %s: requests were cut off: %w", d.name, err), d.http.Close())
	}
	if d.listener != nil {
		d.listener.Close() // one that was bound but never served is not known to Shutdown
	}
	return err
}

// boundedListener accepts a connection only while fewer than its bound are
// open, so that clients wait in the kernel's queue instead of taking memory
// and files.
type boundedListener struct {
	net.Listener
	free   chan struct{} // filled by open connections
	once   sync.Once
	closed chan struct{}
}

func (l *boundedListener) Accept() (net.Conn, error) {
	select {
	case l.free <- struct{}{}:
	case <-l.closed:
		return nil, net.ErrClosed
	}
	c, err := l.Listener.Accept()
	if err != nil {
		<-l.free
		return nil, err
	}
	return &countedConn{Conn: c, release: sync.OnceFunc(func() { <-l.free })}, nil
}

func (l *boundedListener) Close() error {
	l.once.Do(func() { close(l.closed) })
	return l.Listener.Close()
}

type countedConn struct {
	net.Conn
	release func()
}

func (c *countedConn) Close() error {
	err := c.Conn.Close()
	c.release()
	return err
}
