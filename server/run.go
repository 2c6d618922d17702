package server

import (
	"context"
	"errors"
	"fmt"
	"os"
	"runtime"
	"strings"
	"sync"
	"time"

	"github.com/touchmark/touchmark/internal/events/webhook"
)

// Start opens the doors and begins the work in the background.
func (s *Server) Start(ctx context.Context) error {
	for _, d := range s.doors {
		if err := d.open(ctx); err != nil {
			return err
		}
	}
	work, cancel := context.WithCancel(context.WithoutCancel(ctx))
	s.background = cancel
	if s.reader != nil {
		s.beginNode(work)
	} else if err := s.begin(work); err != nil {
		return err
	}
	if s.connect != nil {
		s.connect()
	}
	if s.notices != nil {
		if err := s.notices.start(ctx); err != nil {
			return err
		}
		s.every(work, noticesEvery, s.notices.run)
	}
	for _, d := range s.doors {
		s.serving.Go(func() {
			if err := d.serve(); err != nil {
				s.failed <- err
			}
		})
	}
	s.env.Log.InfoContext(ctx, "serving", "addresses", s.Addrs(), "roles", s.config.Roles, "names", s.config.Names, "log", s.config.Audit.Origin)
	return nil
}

// begin begins the work in the background.
func (s *Server) begin(work context.Context) error {
	if err := s.publishing.publish(work); err != nil {
		return err
	}
	if err := s.importer.Resume(work); err != nil {
		return err
	}
	s.every(work, time.Duration(s.config.Audit.Interval), s.publishing.run)
	s.every(work, resumeEvery, s.resume)
	s.every(work, jobsEvery, s.jobs)
	s.every(work, forgetEvery, s.forgetMessages)
	s.every(work, forgetEvery, s.forgetOrders)
	s.every(work, watchEvery, s.feed.Watch)
	s.status.credentials.refresh(work)
	s.tellStatus(work)
	s.every(work, offlineEvery, s.offline.Run)
	s.every(work, tufEvery, s.tuf.Run)
	s.every(work, webhook.HoldFor/3, s.dispatcher.Run)
	if t := time.Duration(s.config.Ops.Tally); t > 0 && s.config.Ops.Listen != "" {
		s.count(work)
		s.every(work, t, s.tally)
	}
	return nil
}

// every runs a loop in the background with a ticker.
func (s *Server) every(ctx context.Context, d time.Duration, loop func(context.Context, <-chan time.Time)) {
	s.working.Go(func() {
		t := time.NewTicker(d)
		defer t.Stop()
		for ctx.Err() == nil {
			s.contained(func() { loop(ctx, t.C) })
		}
	})
}

// contained runs a step of the work in the background. A panic ends that
// step; the loop it was in goes on with its next tick.
func (s *Server) contained(step func()) {
	defer func() {
		if p := recover(); p != nil {
			s.metrics.panicked(s.env.Log, p, "where", "background")
		}
	}()
	step()
}

// resumeEvery is how often manifests are looked for that another server has
// accepted but not loaded, because it was stopped.
const resumeEvery = 30 * time.Second

func (s *Server) resume(ctx context.Context, ticks <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
			if err := s.importer.Resume(ctx); err != nil && ctx.Err() == nil {
				s.env.Log.ErrorContext(ctx, "manifests that wait to be loaded could not be looked up; it is tried again", "error", err)
			}
		}
	}
}

func (s *Server) tally(ctx context.Context, ticks <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
			s.count(ctx)
		}
	}
}

func (s *Server) count(ctx context.Context) {
	t, err := s.store.Tally(ctx)
	if err != nil {
		if ctx.Err() == nil {
			s.env.Log.ErrorContext(ctx, "devices could not be counted for the metrics", "error", err)
		}
		return
	}
	s.metrics.tally.newest.Store(&t)
}

// Addrs gives the bound addresses by door: "est", "acme", "mqtt", "api", "status", "ops".
func (s *Server) Addrs() map[string]string {
	m := map[string]string{}
	for _, d := range s.doors {
		if d.keeper != nil {
			m[d.name] = d.keeper.Addr().String()
		}
	}
	return m
}

// Failed receives an error when a door stops serving by itself.
func (s *Server) Failed() <-chan error { return s.failed }

// Stop ends the server: readiness goes, devices and operators are no longer
// accepted and those being worked on are answered until ctx ends, the loading
// of manifests pauses at a safe place, the log's last checkpoint is published,
// the database is closed. It may be called more than once.
func (s *Server) Stop(ctx context.Context) error {
	s.stop.Do(func() { s.stopped = s.shutdown(ctx) })
	return s.stopped
}

// closingTime is what the last steps get, even if the requests used up all
// the time there was: they make the next start easy.
const closingTime = 5 * time.Second

func (s *Server) shutdown(ctx context.Context) error {
	s.env.Log.InfoContext(ctx, "stopping", "deadline", s.config.Stop.String())
	s.health.stopping.Store(true)
	close(s.stopping)
	var errs [maxDoors + 1]error
	var closing sync.WaitGroup
	if s.broker != nil {
		closing.Go(func() { errs[maxDoors] = s.broker.Stop(ctx) })
	}
	for i, d := range s.doors {
		if d.name != "ops" {
			closing.Go(func() { errs[i] = d.close(ctx) })
		}
	}
	closing.Wait()

	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), closingTime)
	defer cancel()
	err := errors.Join(errs[:]...)
	if s.importer != nil {
		err = errors.Join(err, s.importer.Stop(last))
	}
	if s.background != nil {
		s.background()
	}
	s.working.Wait()
	if s.background != nil && s.publishing != nil { // else nothing was written
		err = errors.Join(err, s.publishing.publish(last))
	}
	for _, d := range s.doors {
		if d.name == "ops" {
			err = errors.Join(err, d.close(last))
		}
	}
	s.serving.Wait()
	err = errors.Join(err, s.closeNews())
	if cerr := s.closeDatabase(); cerr != nil {
		err = errors.Join(err, fmt.Errorf("close the database: %w", cerr))
	}
	s.env.Log.InfoContext(ctx, "stopped")
	return err
}

func (s *Server) closeDatabase() error {
	switch {
	case s.store != nil:
		return s.store.Close()
	case s.reader != nil:
		return s.reader.Close()
	}
	return nil
}

// SpareProcessor lets Go run one thread more than there are cores, unless
// GOMAXPROCS is set, and returns what undoes that. SQLite waits for the disk
// inside a system call, and Go leaves such a thread its share of the
// processor for up to 10 ms: on two cores half the machine would wait too.
func SpareProcessor() (undo func()) {
	if os.Getenv("GOMAXPROCS") != "" {
		return func() {}
	}
	runtime.GOMAXPROCS(runtime.GOMAXPROCS(0) + 1)
	return runtime.SetDefaultGOMAXPROCS
}

// Run serves until ctx ends or a door fails, then stops in order.
func Run(ctx context.Context, c *Config, env Environment) error {
	if strings.HasPrefix(c.Database, "sqlite:") {
		defer SpareProcessor()()
	}
	s, err := New(ctx, c, env)
	if err != nil {
		return err
	}
	err = s.Start(ctx)
	if err == nil {
		select {
		case <-ctx.Done():
		case err = <-s.Failed():
		}
	}
	last, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Duration(c.Stop))
	defer cancel()
	return errors.Join(err, s.Stop(last))
}

func goVersion() string { return runtime.Version() }
