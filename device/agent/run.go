package agent

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/touchmark/touchmark/device"
)

// Run keeps the device enrolled until ctx ends.
func (s *Service) Run(ctx context.Context) error {
	s.pulse.working()
	stop := s.signs()
	defer stop()
	s.listener.client = s.device.MQTT
	defer s.listener.stop()
	s.manager.tell("READY=1", "STATUS=starting")
	err := s.agent.Run(ctx)
	s.manager.tell("STOPPING=1")
	if ctx.Err() != nil {
		return nil
	}
	return err
}

// Once brings the device to an activated certificate and delivers it, or says
// what is in the way. It does not wait.
func (s *Service) Once(ctx context.Context) error {
	return s.once(ctx, func(a *device.Agent) (*device.Credential, error) { return a.PowerOn(ctx) })
}

// Renew renews the certificate and delivers it, or says what is in the way.
func (s *Service) Renew(ctx context.Context) error {
	return s.once(ctx, func(a *device.Agent) (*device.Credential, error) {
		if _, err := a.PowerOn(ctx); err != nil {
			return nil, err
		}
		return a.Renew(ctx)
	})
}

// errNoWait ends an agent that would wait.
var errNoWait = errors.New("not done")

func (s *Service) once(ctx context.Context, do func(*device.Agent) (*device.Credential, error)) error {
	a := *s.agent
	a.Notices = nil
	a.Pause = func(context.Context, time.Duration) error { return errNoWait }
	official, err := do(&a)
	if err != nil {
		return err
	}
	err = s.deliver(ctx, official)
	s.tell(device.Attempt{Step: device.StepDeliver, Err: err, Credential: official})
	return err
}

// RenewNow makes a running agent renew.
func (s *Service) RenewNow() {
	s.mu.Lock()
	c := s.status.Certificate
	s.mu.Unlock()
	if c != nil {
		s.listener.hear(device.Notice{Notice: device.NoticeRenew, Certificate: c.Number})
	}
}

// longestStep is more than any step may take: exchanges, a hook and a TPM have
// shorter limits.
const longestStep = 15 * time.Minute

// pulse knows whether the agent gets on.
type pulse struct {
	mu    sync.Mutex
	since time.Time // the work began; the zero time while it rests
}

func (p *pulse) working() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.since = time.Now()
}

func (p *pulse) stuck() bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	return !p.since.IsZero() && time.Since(p.since) > longestStep
}

// pause waits, and lets the pulse know.
func (p *pulse) pause(ctx context.Context, d time.Duration) error {
	p.mu.Lock()
	p.since = time.Time{}
	p.mu.Unlock()
	defer p.working()
	select {
	case <-ctx.Done():
		return context.Cause(ctx)
	case <-time.After(d):
		return nil
	}
}

// signs gives the service manager signs of life, as long as the agent gets on.
func (s *Service) signs() (stop func()) {
	every := watchdog()
	if every == 0 {
		return func() {}
	}
	beat, done := time.NewTicker(every), make(chan struct{})
	go func() {
		for {
			select {
			case <-done:
				return
			case <-beat.C:
				if !s.pulse.stuck() {
					s.manager.tell("WATCHDOG=1")
				}
			}
		}
	}()
	return func() { beat.Stop(); close(done) }
}

// Line is the status in a line.
func (s *Service) Line() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.status.line()
}
