package server

import (
	"context"
	"crypto/rand"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// jobsEvery is how often jobs are looked for that wait to be worked on: new
// ones, and those of a server that fell silent.
const jobsEvery = time.Second

// jobs works on bulk jobs, one at a time, until ctx ends. Several servers
// share them: each job is with one of them at a time.
func (s *Server) jobs(ctx context.Context, ticks <-chan time.Time) {
	owner := rand.Text()
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
			if err := s.workOnJobs(ctx, owner); err != nil && ctx.Err() == nil {
				s.env.Log.ErrorContext(ctx, "a job could not go on; it is tried again", "error", err)
			}
		}
	}
}

func (s *Server) workOnJobs(ctx context.Context, owner string) error {
	for {
		id, err := s.store.NextJob(ctx, owner)
		if err != nil || id == 0 {
			return err
		}
		if err := s.workOnJob(ctx, id, owner); err != nil {
			return err
		}
	}
}

// workOnJob works on a job until it is done, cancelled, or with another
// server.
func (s *Server) workOnJob(ctx context.Context, id int64, owner string) error {
	for {
		j, rest, err := s.store.WorkOnJob(ctx, id, owner)
		switch {
		case vetting.ProblemOf(err) == vetting.Conflict:
			return nil
		case err != nil:
			return err
		case j.State != vetting.JobRunning:
			s.env.Log.InfoContext(ctx, "job ended", "job", id, "state", j.State, "action", j.Action, "devices", j.Worked.Devices, "changed", j.Worked.Changes)
			return nil
		}
		timer := time.NewTimer(rest)
		select {
		case <-ctx.Done():
			timer.Stop()
			return ctx.Err()
		case <-timer.C:
		}
	}
}
