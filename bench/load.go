package main

import (
	"bytes"
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net/http"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"
)

// load is what one round of requests gave.
type load struct {
	rate float64 // requests per second
	took []time.Duration
}

func (l *load) quantile(q float64) time.Duration {
	return l.took[min(len(l.took)-1, int(q*float64(len(l.took))))]
}

// client is one request to be made: by whom, and with what body.
type client struct {
	tls  *tls.Config
	body []byte
}

// drive posts each client's body once, from a number of goroutines. With
// fresh, each on a new connection; otherwise all over kept connections with
// the first client's certificate.
func drive(ctx context.Context, url string, clients []client, workers int, fresh bool) (*load, error) {
	l := &load{took: make([]time.Duration, len(clients))}
	var next atomic.Int64
	var failed atomic.Pointer[error]
	kept := &http.Transport{TLSClientConfig: clients[0].tls, MaxIdleConnsPerHost: workers}
	defer kept.CloseIdleConnections()
	if !fresh {
		if err := connect(ctx, kept, url, workers); err != nil {
			return nil, err
		}
	}
	began := time.Now()
	var wg sync.WaitGroup
	for range workers {
		wg.Go(func() {
			for {
				i := int(next.Add(1)) - 1
				if i >= len(clients) || failed.Load() != nil {
					return
				}
				t := kept
				if fresh {
					t = &http.Transport{TLSClientConfig: clients[i].tls, DisableKeepAlives: true}
				}
				start := time.Now()
				if err := post(ctx, t, url, clients[i].body); err != nil {
					failed.Store(&err)
					return
				}
				l.took[i] = time.Since(start)
			}
		})
	}
	wg.Wait()
	l.rate = float64(len(clients)) / time.Since(began).Seconds()
	if err := failed.Load(); err != nil {
		return nil, *err
	}
	slices.Sort(l.took)
	return l, nil
}

// connect opens the connections that are kept, so that their handshakes are
// not timed: each asks for something before the first may be used again.
func connect(ctx context.Context, t *http.Transport, url string, connections int) error {
	responses := make([]*http.Response, connections)
	errs := make([]error, connections)
	var wg sync.WaitGroup
	for i := range connections {
		wg.Go(func() {
			request, err := http.NewRequestWithContext(ctx, http.MethodGet, strings.Replace(url, "simpleenroll", "csrattrs", 1), nil)
			if err == nil {
				responses[i], err = t.RoundTrip(request)
			}
			errs[i] = err
		})
	}
	wg.Wait()
	for _, r := range responses {
		if r != nil {
			_, err := io.Copy(io.Discard, r.Body)
			errs = append(errs, err, r.Body.Close())
		}
	}
	return errors.Join(errs...)
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
	defer response.Body.Close()
	answer, err := io.ReadAll(response.Body)
	if err != nil {
		return err
	}
	if response.StatusCode != http.StatusOK {
		return fmt.Errorf("%d: %s", response.StatusCode, answer)
	}
	return nil
}
