package device

import (
	"context"
	"math/rand/v2"
	"time"
)

// nap is the longest single wait: a clock that is set meanwhile is noticed.
const nap = time.Hour

// schedule is when an agent has what to do.
type schedule struct {
	share   float64   // of the window, kept for the certificate's life
	renew   time.Time // the zero time if never
	check   time.Time // when to ask the server again
	deliver time.Time // when to deliver again; the zero time if that is done
	failed  int       // deliveries
}

// next is the first of them.
func (s *schedule) next() time.Time {
	at := s.check
	for _, t := range []time.Time{s.renew, s.deliver} {
		if !t.IsZero() && t.Before(at) {
			at = t
		}
	}
	return at
}

// awaitRenewal waits until the certificate should be renewed: when the server
// says, or else when two thirds of its life are over.
func (a *Agent) awaitRenewal(ctx context.Context, c *Credential) error {
	s := &schedule{share: rand.Float64()}
	a.deliver(ctx, s, c)
	for {
		if now := a.Device.now(); !now.Before(s.check) {
			a.consult(ctx, s, c)
		}
		now := a.Device.now()
		switch {
		case ctx.Err() != nil:
			return context.Cause(ctx)
		case !s.renew.IsZero() && !now.Before(s.renew):
			return nil
		case !s.deliver.IsZero() && !now.Before(s.deliver):
			a.deliver(ctx, s, c)
			continue
		}
		a.tell(Attempt{Step: StepWait, Next: s.renew, Credential: c})
		notice, err := a.rest(ctx, c, min(s.next().Sub(now), nap))
		switch {
		case err != nil:
			return err
		case notice == NoticeRevoked:
			return a.revoked(ctx, c)
		case notice != "":
			return nil
		}
	}
}

// consult asks the server when to renew.
func (a *Agent) consult(ctx context.Context, s *schedule, c *Credential) {
	now := a.Device.now()
	s.renew, s.check = RenewAt(c.Leaf()), now.Add(nap)
	if info, err := a.Device.RenewalInfo(ctx, c); err == nil {
		s.renew, s.check = info.moment(s.share), now.Add(info.RetryAfter)
	}
	a.consultRoots(ctx, s)
}

func (a *Agent) deliver(ctx context.Context, s *schedule, c *Credential) {
	s.deliver = time.Time{}
	if a.Deliver == nil {
		return
	}
	err := a.Deliver(ctx, c)
	if err != nil {
		s.deliver = a.Device.now().Add(a.backoff(s.failed))
		s.failed++
	}
	a.tell(Attempt{Step: StepDeliver, Err: err, Next: s.deliver, Credential: c})
}

// revoked rests as after a refusal: using the certificate now would look like
// a thief. After that it asks whether it counts again.
func (a *Agent) revoked(ctx context.Context, c *Credential) error {
	if a.Refused == 0 {
		return ErrRevoked
	}
	a.tell(Attempt{Step: StepRenew, Err: ErrRevoked, Next: a.Device.now().Add(a.Refused), Credential: c})
	return a.pause(ctx, a.Refused)
}

// rest waits, and returns early with what a notice says about the certificate.
func (a *Agent) rest(ctx context.Context, c *Credential, d time.Duration) (notice string, err error) {
	ctx, wake := context.WithCancelCause(ctx)
	defer wake(nil)
	waited := make(chan error, 1)
	go func() { waited <- a.pause(ctx, d) }()
	for {
		select {
		case err := <-waited:
			return "", err
		case n := <-a.Notices:
			if !n.about(c) {
				continue
			}
			wake(nil)
			<-waited
			return n.Notice, nil
		}
	}
}

// consultRoots follows a change of the root's key. What went wrong is tried
// again with the next question to the server.
func (a *Agent) consultRoots(ctx context.Context, s *schedule) {
	if !a.FollowRoots {
		return
	}
	fresh, err := a.Device.FollowRoots(ctx)
	switch {
	case err != nil && a.Log != nil:
		a.Log.InfoContext(ctx, "whether the root changed could not be seen", "error", err)
	case len(fresh) > 0:
		s.deliver = a.Device.now()
	}
}
