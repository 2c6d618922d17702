package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"io"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// load is what one round of requests gave.
type load struct {
	rate float64 // requests per second
	took []time.Duration
	// cpu is this process's processor time for each request, which tells more
	// than the rate where others work on the machine too.
	cpu time.Duration
}

func (l *load) quantile(q float64) time.Duration {
	return l.took[min(len(l.took)-1, int(q*float64(len(l.took))))]
}

// client is one request to be made: by whom, and with what body.
type client struct {
	tls  *tls.Config
	body []byte
}

// drive posts each client's body once, from a number of goroutines, each
// request on a new connection.
func drive(ctx context.Context, url string, clients []client, workers int) (*load, error) {
	return share(clients, workers, func() (func(client) error, error) {
		return func(c client) error {
			return post(ctx, &http.Transport{TLSClientConfig: c.tls, DisableKeepAlives: true}, url, c.body)
		}, nil
	})
}

// driveKept does the same over one kept connection for each goroutine, with
// the first client's certificate. Connections are open before the clock
// starts. Their requests are written by hand: net/http's client would take
// more of the shared cores than the server's side of HTTP does.
func driveKept(ctx context.Context, url string, clients []client, workers int) (*load, error) {
	return share(clients, workers, func() (func(client) error, error) {
		k, err := keep(ctx, url, clients[0].tls)
		if err != nil {
			return nil, err
		}
		return func(c client) error { return k.post(c.body) }, nil
	})
}

// drivePlain does the same without TLS. The clients' bodies are whole requests.
func drivePlain(ctx context.Context, address string, clients []client, workers int) (*load, error) {
	return share(clients, workers, func() (func(client) error, error) {
		conn, err := new(net.Dialer).DialContext(ctx, "tcp", address)
		if err != nil {
			return nil, err
		}
		context.AfterFunc(ctx, func() { _ = conn.Close() })
		k := &kept{conn: conn, in: bufio.NewReader(conn)}
		return func(c client) error { return k.send(c.body) }, nil
	})
}

// share shares the clients out among workers, each with a sender of its own.
func share[T any](clients []T, workers int, open func() (func(T) error, error)) (*load, error) {
	senders := make([]func(T) error, workers)
	for i := range senders {
		var err error
		if senders[i], err = open(); err != nil {
			return nil, err
		}
	}
	l := &load{took: make([]time.Duration, len(clients))}
	var next atomic.Int64
	var failed atomic.Pointer[error]
	began, cpu := time.Now(), processor()
	var wg sync.WaitGroup
	for _, send := range senders {
		wg.Go(func() {
			for failed.Load() == nil {
				i := int(next.Add(1)) - 1
				if i >= len(clients) {
					return
				}
				start := time.Now()
				if err := send(clients[i]); err != nil {
					failed.Store(&err)
					return
				}
				l.took[i] = time.Since(start)
			}
		})
	}
	wg.Wait()
	l.rate = float64(len(clients)) / time.Since(began).Seconds()
	l.cpu = (processor() - cpu) / time.Duration(max(1, len(clients)))
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	slices.Sort(l.took)
	return l, nil
}

// kept is a connection that carries one request after another.
type kept struct {
	conn net.Conn
	in   *bufio.Reader
	out  []byte
	head string // of a request, up to its length
}

func keep(ctx context.Context, address string, config *tls.Config) (*kept, error) {
	u, err := url.Parse(address)
	if err != nil {
		return nil, err
	}
	conn, err := (&tls.Dialer{Config: config}).DialContext(ctx, "tcp", u.Host)
	if err != nil {
		return nil, err
	}
	context.AfterFunc(ctx, func() { _ = conn.Close() })
	k := &kept{conn: conn, in: bufio.NewReader(conn)}
	kind := "application/pkcs10"
	if strings.HasPrefix(u.Path, "/api/") {
		kind = "application/json"
	}
	k.head = "POST " + u.Path + " HTTP/1.1\r\nHost: " + u.Host + "\r\nContent-Type: " + kind + "\r\nContent-Length: "
	return k, nil
}

func (k *kept) post(body []byte) error {
	k.out = append(strconv.AppendInt(append(k.out[:0], k.head...), int64(len(body)), 10), "\r\n\r\n"...)
	return k.send(append(k.out, body...))
}

// send sends a whole request and reads the answer.
func (k *kept) send(request []byte) error {
	if _, err := k.conn.Write(request); err != nil {
		return err
	}
	response, err := http.ReadResponse(k.in, nil)
	if err != nil {
		return err
	}
	return done(response)
}

func post(ctx context.Context, t *http.Transport, url string, body []byte) error {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, url, bytes.NewReader(body))
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", "application/pkcs10")
	response, err := t.RoundTrip(request)
	if err != nil {
		return err
	}
	return done(response)
}

func done(response *http.Response) error {
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return &statusError{response.StatusCode, string(answer)}
	}
	return nil
}
