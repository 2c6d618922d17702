package store

import (
	"context"
	"fmt"
	"time"
)

// NoteTimeStamp implements timestamp.Log. The log's time is the memory that
// makes times never go back: it is in the transaction that everybody takes.
func (s *Store) NoteTimeStamp(ctx context.Context, note string, latest time.Time) (time.Time, error) {
	var at time.Time
	err := s.submit(&job{ctx: ctx, apply: func(w *writing) error {
		if at = w.now; !at.After(latest) {
			w.leaf("timestamp.issue", "server", note)
		}
		return nil
	}})
	if err != nil { // the writer may be at it still
		return time.Time{}, err
	}
	return at, nil
}

// NoteTimestamper writes into the log that a CA certified the key that signs
// time stamps, by a certificate of that serial number.
func (s *Store) NoteTimestamper(ctx context.Context, issuer string, serial []byte) error {
	return s.update(ctx, func(w *writing) error {
		w.leaf("timestamp.certify", "server", fmt.Sprintf("%x of %s", serial, issuer))
		return nil
	})
}
