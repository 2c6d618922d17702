package store

import (
	"cmp"
	"context"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// observedAtOnce is how many observations share a transaction: few enough
// that devices which enrol get in between.
const observedAtOnce = 200

// Observe keeps what a broker saw, and what that shows as evidence. What is
// known already changes nothing, so a batch whose answer was lost, or of
// which a part was taken, may be handed in again. The list is sorted by time.
func (s *Store) Observe(ctx context.Context, a access.Act, rules vetting.ObservationRules, list []vetting.Observation) (*vetting.Observed, error) {
	slices.SortStableFunc(list, func(a, b vetting.Observation) int { return cmp.Compare(a.At.UnixNano(), b.At.UnixNano()) })
	total := new(vetting.Observed)
	for part := range slices.Chunk(list, observedAtOnce) {
		var done vetting.Observed
		err := s.update(ctx, func(w *writing) error {
			o := &observations{w: w, rules: rules, certificates: map[string]*observedCertificate{}, seen: map[int64]*vetting.Seen{}, changed: map[int64]bool{}}
			if err := o.load(part); err != nil {
				return err
			}
			for _, one := range part {
				o.take(one)
			}
			done = o.counts
			o.write()
			return w.recordEvidence(operatorOf(a), o.evidence)
		})
		if err != nil {
			return nil, err
		}
		total.Taken, total.Repeated = total.Taken+done.Taken, total.Repeated+done.Repeated
		total.Unknown, total.Evidence = total.Unknown+done.Unknown, total.Evidence+done.Evidence
	}
	return total, nil
}

// observations is one part of a batch in its transaction.
type observations struct {
	w            *writing
	rules        vetting.ObservationRules
	certificates map[string]*observedCertificate // by serial number in hex
	seen         map[int64]*vetting.Seen         // by device
	changed      map[int64]bool                  // devices
	evidence     []vetting.Evidence
	counts       vetting.Observed
}

// observedCertificate is what observations are judged by.
type observedCertificate struct {
	id, device, current int64
	state               string
	revoked             int64
	currentUsed         int64
}

// load reads the certificates and what was seen of their devices, each once.
func (o *observations) load(list []vetting.Observation) error {
	var serials []any
	for _, one := range list {
		if _, asked := o.certificates[one.Certificate]; asked {
			continue
		}
		o.certificates[one.Certificate] = nil
		serial, err := hex.DecodeString(one.Certificate)
		if err != nil {
			return vetting.Errorf(vetting.Invalid, "%q is not a certificate serial number in hexadecimal", one.Certificate)
		}
		serials = append(serials, serial)
	}
	o.w.fetchOneOf(`SELECT c.serial, c.id, c.device_id, d.certificate_id, c.state, c.revoked, COALESCE(u.at, 0)
		FROM certificates c JOIN devices d ON d.id = c.device_id LEFT JOIN first_uses u ON u.certificate_id = d.certificate_id WHERE c.serial IN`, nil, serials, func(r row) error {
		c, serial := new(observedCertificate), []byte(nil)
		err := r.Scan(&serial, &c.id, &c.device, &c.current, &c.state, &c.revoked, &c.currentUsed)
		o.certificates[hex.EncodeToString(serial)] = c
		return err
	})
	if err := o.w.flush(); err != nil {
		return err
	}
	var devices []any
	for _, c := range o.certificates {
		if c != nil && o.seen[c.device] == nil {
			o.seen[c.device] = new(vetting.Seen)
			devices = append(devices, c.device)
		}
	}
	o.w.fetchOneOf(`SELECT ob.device_id, ob.body FROM observed ob WHERE ob.device_id IN`, nil, devices, func(r row) error {
		var id int64
		var body string
		if err := r.Scan(&id, &body); err != nil {
			return err
		}
		return parseSeen(id, body, o.seen[id])
	})
	return o.w.flush()
}

func parseSeen(device int64, body string, into *vetting.Seen) error {
	if err := json.Unmarshal([]byte(body), into); err != nil {
		return fmt.Errorf("what was seen of device %d, in the database: %w", device, err)
	}
	return nil
}

// take judges one observation by all that were taken before.
func (o *observations) take(one vetting.Observation) {
	c := o.certificates[one.Certificate]
	if c == nil {
		o.counts.Unknown++
		o.add(vetting.ObserveUnknown(one))
		return
	}
	f := vetting.ObservedFacts{Rules: o.rules, Seen: *o.seen[c.device], Observation: one, DeviceID: c.device,
		State: vetting.CertificateState(c.state), Revoked: fromMicros(c.revoked)}
	if c.id != c.current {
		f.SuccessorUsed = fromMicros(c.currentUsed)
	}
	seen, fresh, evidence := vetting.Observe(f)
	if !fresh {
		o.counts.Repeated++
		return
	}
	o.counts.Taken++
	*o.seen[c.device], o.changed[c.device] = seen, true
	o.add(evidence)
}

func (o *observations) add(evidence []vetting.Evidence) {
	o.evidence = append(o.evidence, evidence...)
	o.counts.Evidence += len(evidence)
}

func (o *observations) write() {
	for id := range o.changed {
		seen := o.seen[id]
		last := int64(0)
		if n := len(seen.Sightings); n > 0 {
			last = micros(seen.Sightings[n-1].At)
		}
		o.w.exec(`INSERT INTO observed (device_id, last, body) VALUES ($1, $2, $3)
			ON CONFLICT (device_id) DO UPDATE SET last = excluded.last, body = excluded.body`, id, last, mustJSON(seen))
	}
}

// sightings are what is kept of a device's observations, the latest last.
func (s *Store) sightings(ctx context.Context, device int64) ([]vetting.Sighting, error) {
	var seen vetting.Seen
	body := ""
	found, err := one(ctx, s.db, `SELECT ob.body FROM observed ob WHERE ob.device_id = $1`, []any{device}, &body)
	if err != nil || !found {
		return []vetting.Sighting{}, err
	}
	err = parseSeen(device, body, &seen)
	return seen.Sightings, err
}
