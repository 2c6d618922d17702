package store

import (
	"context"
	"time"
)

// countMessage notes the signed message that a claim came in, with what comes
// of it: so it counts once, and a crash before loses nothing.
func (e *enrolment) countMessage(w *writing) {
	m := e.facts.Claim.Message
	if m == [32]byte{} {
		return
	}
	w.messages[m] = true
	w.insert(`messages (digest, at)`, m[:], micros(w.now))
}

// ForgetMessages forgets the signed messages that counted before a time. They
// are too old then to be let in.
func (s *Store) ForgetMessages(ctx context.Context, before time.Time) error {
	return s.update(ctx, func(w *writing) error {
		w.exec(`DELETE FROM messages WHERE at < $1`, micros(before))
		return nil
	})
}
