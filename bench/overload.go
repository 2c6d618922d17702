package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"syscall"
	"time"
)

// overdrive offers requests at a rate that does not wait for answers, as
// devices do that are switched on all at once, each on a new connection. A
// request that the server turns away is not repeated. The load is that of
// those who got their certificate.
func overdrive(ctx context.Context, url string, clients []client, perSecond float64) (l *load, turned int, err error) {
	var mu sync.Mutex
	var failed error
	l = &load{}
	var wg sync.WaitGroup
	began := time.Now()
	for i, c := range clients {
		due := began.Add(time.Duration(float64(i) / perSecond * float64(time.Second)))
		time.Sleep(time.Until(due))
		wg.Go(func() {
			start := time.Now()
			err := post(ctx, &http.Transport{TLSClientConfig: c.tls, DisableKeepAlives: true}, url, c.body)
			took := time.Since(start)
			mu.Lock()
			defer mu.Unlock()
			switch {
			case err == nil:
				l.took = append(l.took, took)
			case isTurnedAway(err):
				turned++
			default:
				failed = err
			}
		})
	}
	wg.Wait()
	if failed != nil {
		return nil, 0, failed
	}
	if len(l.took) == 0 {
		return nil, 0, fmt.Errorf("all %d requests were turned away", turned)
	}
	l.rate = float64(len(l.took)) / time.Since(began).Seconds()
	slices.Sort(l.took)
	return l, turned, nil
}

// isTurnedAway tells "too much" from a failure.
func isTurnedAway(err error) bool {
	var status *statusError
	if errors.As(err, &status) {
		return status.code == http.StatusServiceUnavailable || status.code == http.StatusTooManyRequests
	}
	var record tls.RecordHeaderError
	return errors.Is(err, syscall.ECONNRESET) || errors.Is(err, syscall.EPIPE) || errors.Is(err, io.EOF) ||
		errors.Is(err, io.ErrUnexpectedEOF) || errors.Is(err, net.ErrClosed) || errors.As(err, &record)
}

// statusError is an answer other than 200.
type statusError struct {
	code int
	text string
}

func (e *statusError) Error() string { return fmt.Sprintf("%d: %s", e.code, e.text) }
