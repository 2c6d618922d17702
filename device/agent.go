package device

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"log/slog"
	"math/rand/v2"
	"time"
)

// Agent keeps a device enrolled for as long as it runs: first power-on,
// activation, renewal in time, and patience with servers that are away and
// with people who must decide.
type Agent struct {
	Device *Device
	// Rekey makes each renewal take a new key.
	Rekey bool
	// Log is told of every attempt that failed; nil keeps silent.
	Log *slog.Logger
	// Shortest and Longest bound the pause after a failure, which doubles
	// each time; 0 is 1 second and 5 minutes.
	Shortest, Longest time.Duration
	// Pause waits; nil is a timer. It returns an error if it should not wait
	// any longer.
	Pause func(context.Context, time.Duration) error
}

// Run works until ctx ends or the server refuses for good; it returns why.
func (a *Agent) Run(ctx context.Context) error {
	c, err := a.PowerOn(ctx)
	for err == nil {
		if err = a.awaitRenewal(ctx, c.Leaf()); err == nil {
			c, err = a.renew(ctx)
		}
	}
	return err
}

// PowerOn brings the device to an official certificate, activates it and
// finishes a re-key that a power cut interrupted. It asks again until it has
// the certificate, the server refuses for good or ctx ends.
func (a *Agent) PowerOn(ctx context.Context) (*Credential, error) {
	c, err := a.persist(ctx, "first enrolment", a.Device.PowerOn)
	if err != nil {
		return nil, err
	}
	if _, err := a.Device.Store.Load(Pending); err == nil {
		return a.persistRenewal(ctx, true)
	} else if !errors.Is(err, ErrEmpty) {
		return nil, err
	}
	return a.used(ctx, c)
}

func (a *Agent) renew(ctx context.Context) (*Credential, error) {
	return a.persistRenewal(ctx, a.Rekey)
}

func (a *Agent) persistRenewal(ctx context.Context, rekey bool) (*Credential, error) {
	c, err := a.persist(ctx, "renewal", func(ctx context.Context) (*Credential, error) { return a.Device.Renew(ctx, rekey) })
	if err != nil {
		return nil, err
	}
	return a.used(ctx, c)
}

// used makes the server see the official key at work.
func (a *Agent) used(ctx context.Context, c *Credential) (*Credential, error) {
	return a.persist(ctx, "activation", func(ctx context.Context) (*Credential, error) { return c, a.Device.Use(ctx) })
}

// persist repeats a step until it succeeds or repeating is pointless.
func (a *Agent) persist(ctx context.Context, what string, step func(context.Context) (*Credential, error)) (*Credential, error) {
	for failures := 0; ; failures++ {
		c, err := step(ctx)
		if err == nil {
			return c, nil
		}
		pause, again := a.again(err, failures)
		if !again {
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		if a.Log != nil {
			a.Log.InfoContext(ctx, "the device asks again later", "step", what, "pause", pause, "error", err)
		}
		if stop := a.pause(ctx, pause); stop != nil {
			return nil, fmt.Errorf("%s: %w; the last attempt: %w", what, stop, err)
		}
	}
}

// again says whether and when a step that failed should be repeated: when
// the server asked for it, or after a pause of random length that grows, so
// that a fleet does not come back in step after an outage.
func (a *Agent) again(err error, failures int) (time.Duration, bool) {
	var held *PendingError
	var status *StatusError
	var line *LineError
	switch {
	case errors.As(err, &held):
		return held.RetryAfter + rand.N(held.RetryAfter/10+time.Second), true
	case errors.As(err, &status):
		return max(status.RetryAfter, a.backoff(failures)), !status.Final()
	case errors.As(err, &line):
		return a.backoff(failures), true
	default:
		return 0, false // an answer or a server that is not acceptable, or the store failed
	}
}

func (a *Agent) backoff(failures int) time.Duration {
	shortest, longest := a.Shortest, a.Longest
	if shortest <= 0 {
		shortest = time.Second
	}
	if longest <= 0 {
		longest = 5 * time.Minute
	}
	for range failures {
		if shortest *= 2; shortest >= longest {
			shortest = longest
			break
		}
	}
	return shortest/2 + rand.N(shortest/2+1)
}

// nap is the longest single wait of a device that no server told when to
// renew: a clock that is set meanwhile is noticed.
const nap = time.Hour

func (a *Agent) pause(ctx context.Context, d time.Duration) error {
	if a.Pause != nil {
		return a.Pause(ctx, d)
	}
	t := time.NewTimer(d)
	defer t.Stop()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-t.C:
		return nil
	}
}

// RenewAt is when two thirds of a certificate's life are over, which leaves
// a third for servers that are away. It is the zero time for a certificate
// without an end.
func RenewAt(cert *x509.Certificate) time.Time {
	if !cert.NotAfter.Before(forever) {
		return time.Time{}
	}
	return cert.NotBefore.Add(cert.NotAfter.Sub(cert.NotBefore) / 3 * 2)
}
