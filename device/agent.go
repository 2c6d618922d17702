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
	// Refused is the pause after a refusal for good. With 0 the agent gives up
	// then, and also when an answer or a server is not acceptable or the store
	// fails, which otherwise count as failures.
	Refused time.Duration
	// Pause waits; nil is a timer. It returns an error if it should not wait
	// any longer.
	Pause func(context.Context, time.Duration) error
	// Ready, if set, says by an error why the server should not be asked now:
	// the clock is not set, or what it answers could not be kept.
	Ready func() error
	// Tell, if set, is told how each step came out.
	Tell func(Attempt)
	// Deliver, if set, is given the official credential when there is one, and
	// after each renewal. It is called again later if it fails.
	Deliver func(context.Context, *Credential) error
	// Notices, if set, brings what the server tells unasked.
	Notices <-chan Notice
	// FollowRoots makes the agent follow a change of the root, whenever it asks
	// the server when to renew.
	FollowRoots bool
}

// Steps of an agent, as [Attempt] names them.
const (
	StepEnrol    = "first enrolment"
	StepRenew    = "renewal"
	StepActivate = "activation"
	StepDeliver  = "delivery"
	StepWait     = "wait" // nothing to do until Next
)

// Attempt is one step of an agent and how it came out.
type Attempt struct {
	Step string
	// Err is nil if it succeeded.
	Err error
	// Next is when it is tried again or, after StepWait, when to renew; the zero
	// time if it is not.
	Next time.Time
	// Credential is the official one, if there is one.
	Credential *Credential
}

// Run works until ctx ends or the server refuses for good; it returns why.
func (a *Agent) Run(ctx context.Context) error {
	c, err := a.PowerOn(ctx)
	for err == nil {
		if err = a.awaitRenewal(ctx, c); err == nil {
			c, err = a.Renew(ctx)
		}
	}
	return err
}

// PowerOn brings the device to an official certificate, activates it and
// finishes a re-key that a power cut interrupted. A certificate that ended
// meanwhile is renewed: the server may allow a rescue. It asks again until it
// has the certificate, the server refuses for good or ctx ends.
func (a *Agent) PowerOn(ctx context.Context) (*Credential, error) {
	c, err := a.persist(ctx, StepEnrol, a.Device.PowerOn)
	if err != nil {
		return nil, err
	}
	if _, err := a.Device.Store.Load(Pending); err == nil {
		return a.renew(ctx, true)
	} else if !errors.Is(err, ErrEmpty) && a.Refused == 0 {
		return nil, err
	}
	if a.Device.now().After(c.Leaf().NotAfter) {
		return a.Renew(ctx)
	}
	return a.used(ctx, c)
}

// Renew renews the official certificate, as often as it takes.
func (a *Agent) Renew(ctx context.Context) (*Credential, error) { return a.renew(ctx, a.Rekey) }

func (a *Agent) renew(ctx context.Context, rekey bool) (*Credential, error) {
	c, err := a.persist(ctx, StepRenew, func(ctx context.Context) (*Credential, error) { return a.Device.Renew(ctx, rekey) })
	if err != nil {
		return nil, err
	}
	return a.used(ctx, c)
}

// used makes the server see the official key at work.
func (a *Agent) used(ctx context.Context, c *Credential) (*Credential, error) {
	return a.persist(ctx, StepActivate, func(ctx context.Context) (*Credential, error) { return c, a.Device.Use(ctx) })
}

// persist repeats a step until it succeeds or repeating is pointless.
func (a *Agent) persist(ctx context.Context, what string, step func(context.Context) (*Credential, error)) (*Credential, error) {
	for failures := 0; ; failures++ {
		c, err := a.try(ctx, step)
		if err == nil {
			a.tell(Attempt{Step: what, Credential: c})
			return c, nil
		}
		if ctx.Err() != nil {
			return nil, fmt.Errorf("%s: %w; the last attempt: %w", what, context.Cause(ctx), err)
		}
		pause, again := a.again(err, failures)
		if !again {
			a.tell(Attempt{Step: what, Err: err})
			return nil, fmt.Errorf("%s: %w", what, err)
		}
		if a.Log != nil {
			a.Log.InfoContext(ctx, "the device asks again later", "step", what, "pause", pause, "error", err)
		}
		a.tell(Attempt{Step: what, Err: err, Next: a.Device.now().Add(pause)})
		if stop := a.pause(ctx, pause); stop != nil {
			return nil, fmt.Errorf("%s: %w; the last attempt: %w", what, stop, err)
		}
	}
}

func (a *Agent) try(ctx context.Context, step func(context.Context) (*Credential, error)) (*Credential, error) {
	if a.Ready != nil {
		if err := a.Ready(); err != nil {
			return nil, &NotReadyError{err}
		}
	}
	return step(ctx)
}

func (a *Agent) tell(t Attempt) {
	if a.Tell != nil {
		a.Tell(t)
	}
}

// NotReadyError says why the server was not asked.
type NotReadyError struct{ Err error }

func (e *NotReadyError) Error() string { return e.Err.Error() }

func (e *NotReadyError) Unwrap() error { return e.Err }

// again says whether and when a step that failed should be repeated: when
// the server asked for it, or after a pause of random length that grows, so
// that a fleet does not come back in step after an outage.
func (a *Agent) again(err error, failures int) (time.Duration, bool) {
	var held *PendingError
	var status *StatusError
	var line *LineError
	var unready *NotReadyError
	switch {
	case errors.As(err, &held):
		return held.RetryAfter + rand.N(held.RetryAfter/10+time.Second), true
	case errors.As(err, &status) && status.Final():
		return a.Refused + rand.N(a.Refused/10+1), a.Refused > 0
	case errors.As(err, &status):
		return max(status.RetryAfter, a.backoff(failures)), true
	case errors.As(err, &line), errors.As(err, &unready):
		return a.backoff(failures), true
	default: // an answer or a server that is not acceptable, or the store failed
		return a.backoff(failures), a.Refused > 0
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
