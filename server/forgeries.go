package server

import (
	"context"
	"encoding/hex"
	"sync"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/vetting"
)

// forged keeps forged serial numbers as evidence. Anybody can ask about any
// number of inventions, so there is a bound to how many are kept one by one;
// of the others only the number is, by the day.
type forged struct {
	store interface {
		// RecordEvidence keeps evidence; what is open under the same mark
		// already is counted as seen again.
		RecordEvidence(context.Context, access.Act, []vetting.Evidence) error
	}
	now func() time.Time

	mu     sync.Mutex
	left   float64 // how many may be kept
	filled time.Time
}

// forgedPerDay is how many forged serial numbers one server keeps one by one,
// in a day and at once.
const forgedPerDay = 100

// take takes up to n of what may be kept.
func (f *forged) take(n int) int {
	f.mu.Lock()
	defer f.mu.Unlock()
	now := f.now()
	if f.filled.IsZero() {
		f.left, f.filled = forgedPerDay, now
	}
	if passed := now.Sub(f.filled); passed > 0 {
		f.left = min(forgedPerDay, f.left+forgedPerDay*passed.Hours()/24)
	}
	f.filled = now
	n = min(n, int(f.left))
	f.left -= float64(n)
	return n
}

// keep keeps serial numbers that name a CA, and that there were more. It
// returns how many it kept one by one.
func (f *forged) keep(ctx context.Context, act access.Act, issuer string, serials [][]byte, more int64) (int, error) {
	now := f.now()
	taken := f.take(len(serials))
	var list []vetting.Evidence
	for _, s := range serials[:taken] {
		list = append(list, vetting.ForgedSerial(issuer, hex.EncodeToString(s), now))
	}
	if more += int64(len(serials) - taken); more > 0 {
		list = append(list, vetting.ForgedSerials(issuer, now))
	}
	if len(list) == 0 {
		return 0, nil
	}
	return taken, f.store.RecordEvidence(ctx, act, list)
}

// ReportForgeries implements api.Responders.
func (r responders) ReportForgeries(ctx context.Context, act access.Act, issuer string, serials [][]byte, more int64) (kept int, err error) {
	i, err := r.issuer(issuer)
	if err != nil {
		return 0, err
	}
	for _, s := range serials {
		if len(s) == ca.SerialLength && i.Serials.Made([ca.SerialLength]byte(s)) {
			return 0, vetting.Errorf(vetting.Invalid, "%s can have issued the serial number %x: it is not forged", issuer, s)
		}
	}
	return r.forged.keep(ctx, act, issuer, serials, more)
}

// forgeriesEvery is how often forged serial numbers are taken from the
// responder.
const forgeriesEvery = 10 * time.Second

// heldForgeries bounds those that wait because they could not be reported.
const heldForgeries = 1000

// reporter tells of serial numbers that name a CA and of more that are not
// listed. What is refused for good is a *vetting.Error.
type reporter func(ctx context.Context, issuer string, serials [][]byte, more int64) error

// reporting takes forged serial numbers from the responder to where they are
// kept.
type reporting struct {
	take    func() ([]ocsp.Forgery, int64)
	issuing func() []ca.Issuing
	report  reporter
	failed  func(ctx context.Context, err error) // the first of several times

	waiting map[string]*reported
	failing bool
}

// reported is what is to be told of one CA.
type reported struct {
	serials [][]byte
	more    int64
}

func (r *reporting) run(ctx context.Context, ticks <-chan time.Time) {
	for {
		select {
		case <-ctx.Done():
			return
		case <-ticks:
			r.flush(ctx)
		}
	}
}

// flush reports what there is. What could not be reported waits, but for what
// was refused.
func (r *reporting) flush(ctx context.Context) {
	r.gather()
	failing := false
	for issuer, w := range r.waiting {
		if err := r.report(ctx, issuer, w.serials, w.more); err != nil {
			if !r.failing && !failing && ctx.Err() == nil {
				r.failed(ctx, err)
			}
			failing = true
			if vetting.ProblemOf(err) == 0 {
				continue
			}
		}
		delete(r.waiting, issuer)
	}
	r.failing = failing
}

// gather sorts what the responder met by CA. What it had no room for is
// counted for the first.
func (r *reporting) gather() {
	list, lost := r.take()
	if len(list) == 0 && lost == 0 {
		return
	}
	names := map[int64]string{}
	issuing := r.issuing()
	for _, i := range issuing {
		names[i.ID] = i.Name
	}
	if r.waiting == nil {
		r.waiting = map[string]*reported{}
	}
	for _, f := range list {
		w := r.of(names[f.Issuer])
		if len(w.serials) < heldForgeries {
			w.serials = append(w.serials, []byte(f.Serial))
		} else {
			w.more++
		}
	}
	if lost > 0 {
		r.of(issuing[0].Name).more += lost
	}
}

func (r *reporting) of(issuer string) *reported {
	if r.waiting[issuer] == nil {
		r.waiting[issuer] = new(reported)
	}
	return r.waiting[issuer]
}

// issuer finds an issuing CA by name.
func (r responders) issuer(name string) (ca.Issuing, error) {
	for _, i := range r.authorities.Issuing() {
		if i.Name == name {
			return i, nil
		}
	}
	return ca.Issuing{}, vetting.Errorf(vetting.NotFound, "there is no issuing CA %q", name)
}

// keepForgeries keeps what this server's own responder meets.
func (s *Server) keepForgeries(ctx context.Context, issuer string, serials [][]byte, more int64) error {
	_, err := s.responders.ReportForgeries(ctx, access.Act{Operator: "server"}, issuer, serials, more)
	return err
}
