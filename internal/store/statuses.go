package store

import (
	"context"

	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/vetting"
)

// status is what status responders say of a certificate: a CRLReason of RFC
// 5280 §5.3.1, and since when.
type status struct{ reason, since int64 }

// good is that of a certificate that is good, or good again.
var good = status{reason: int64(ocsp.RemoveFromCRL)}

// status follows from what became of the certificate. One that was superseded
// is good until its successor is used: until then its holder may have lost
// the answer.
func (c *certificateRow) status() status {
	switch state := vetting.CertificateState(c.State); {
	case state == vetting.CertificateRevoked, state == vetting.CertificateOnHold:
		return status{c.Reason, c.Revoked}
	case state == vetting.CertificateSuperseded && c.ended != 0:
		return status{reasonSuperseded, c.ended}
	case state == vetting.CertificateValid && c.Held != 0 && c.Used == 0:
		return status{reasonHold, c.Issued}
	}
	return good
}

// standingColumns are what a status follows from.
const standingColumns = `c.id, c.state, c.serial, c.issuer, c.not_after, c.issued, c.revoked, c.reason, c.held,
	CASE WHEN c.held <> 0 THEN COALESCE((SELECT u.at FROM first_uses u WHERE u.certificate_id = c.id), 0) ELSE 0 END,
	CASE WHEN c.state = 'superseded' THEN COALESCE((SELECT MIN(u.at) FROM certificates n JOIN first_uses u ON u.certificate_id = n.id
		WHERE n.device_id = c.device_id AND n.supersedes = c.id), 0) ELSE 0 END`

// standing are the destinations of standingColumns.
func (c *certificateRow) standing() []any {
	return []any{&c.ID, &c.State, &c.Serial, &c.Issuer, &c.NotAfter, &c.Issued, &c.Revoked, &c.Reason, &c.Held, &c.Used, &c.ended}
}

// tell queues a row for status responders, if they said another thing before.
func (w *writing) tell(c *certificateRow, before status) {
	if now := c.status(); now != before {
		if now == good {
			now.since = micros(w.now)
		}
		w.told = true
		w.insert(`statuses (seq, serial, issuer, reason, revoked, not_after)`, w.ids(1), c.Serial, c.Issuer, now.reason, now.since, c.NotAfter)
	}
}

// changesAtOnce is how many changes a reader has in memory.
const changesAtOnce = 4096

// Changes implements ocsp.Source. The next portion is read while each works on
// the one before: a responder that starts with millions of rows waits for the
// slower of the two, not for both.
func (s *Store) Changes(ctx context.Context, after int64, each func([]ocsp.Change) error) (last int64, err error) {
	ctx, stop := context.WithCancel(ctx)
	portions, spare := make(chan []ocsp.Change), make(chan []ocsp.Change, 2)
	spare <- nil
	spare <- nil
	var unread error // of the reading, once portions is closed
	go func() {
		defer close(portions)
		unread = s.readChanges(ctx, after, spare, portions)
	}()
	defer func() {
		stop()
		for range portions { // nothing is read any more when this returns
		}
	}()
	for portion := range portions {
		if err := each(portion); err != nil {
			return after, err
		}
		after = portion[len(portion)-1].Seq
		spare <- portion[:0]
	}
	return after, unread
}

// readChanges reads portion after portion into the spare ones until there are
// no more.
func (s *Store) readChanges(ctx context.Context, after int64, spare <-chan []ocsp.Change, portions chan<- []ocsp.Change) error {
	for {
		var portion []ocsp.Change
		select {
		case portion = <-spare:
		case <-ctx.Done():
			return ctx.Err()
		}
		portion, err := s.someChanges(ctx, after, portion)
		if err != nil || len(portion) == 0 {
			return err
		}
		portions <- portion // taken in any case
		if len(portion) < changesAtOnce {
			return nil
		}
		after = portion[len(portion)-1].Seq
	}
}

func (s *Store) someChanges(ctx context.Context, after int64, into []ocsp.Change) ([]ocsp.Change, error) {
	var c ocsp.Change
	var t told
	var serial []byte
	to := []any{&c.Seq, &serial, &t.issuer, &t.reason, &t.since, &t.notAfter}
	err := s.db.query(ctx, `SELECT seq, serial, issuer, reason, revoked, not_after FROM statuses
		WHERE seq > $1 AND (not_after >= $3 OR seq = (SELECT MAX(seq) FROM statuses)) ORDER BY seq LIMIT $2`,
		[]any{after, changesAtOnce, micros(s.now().Add(-ocsp.Retention))}, func(r row) error {
			err := r.Scan(to...)
			c.Serial, c.Issuer, c.Reason = serialOf(serial), t.issuer, ocsp.Reason(t.reason)
			c.Revoked, c.NotAfter = fromMicros(t.since), fromMicros(t.notAfter)
			into = append(into, c)
			return err
		})
	return into, err
}

// told is what the last row of a serial number says.
type told struct {
	status
	issuer, notAfter int64
}

func serialOf(serial []byte) (key ocsp.Serial) {
	copy(key[:], serial)
	return key
}
