package store

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"github.com/touchmark/touchmark/vetting"
)

// unit is a record and what hangs on it.
type unit struct {
	record          recordRow
	order           orderRow
	productRevision int64
	device          deviceRow
	current         *certificateRow
	test            testRow // the latest
	keyHolder       int64   // another device that holds the key asked about
	compromised     int64   // how many of its own certificates on that key were revoked so
}

// keyColumns tell who else holds the key $1, officially or in a record, and how
// many of the device's certificates on it were revoked as compromised (RFC
// 5280 §5.3.1).
const keyColumns = `COALESCE((SELECT k.id FROM devices k WHERE k.key = $1 AND k.id <> rec.id),
  (SELECT k.id FROM records k WHERE k.key = $1 AND k.id <> rec.id), 0),
  (SELECT COUNT(*) FROM certificates k WHERE k.device_id = rec.id AND k.key = $1 AND k.reason = 1)`

const unitColumns = recordColumns + `, ` + orderColumns + `, p.revision, COALESCE(d.id, 0), `

const unitTables = `
  FROM records rec
  JOIN orders o ON o.id = rec.order_id
  JOIN products p ON p.id = rec.product_id
  LEFT JOIN devices d ON d.id = rec.id
  WHERE `

// A device that enrols for the first time has neither, so they are a query
// of their own.
const deviceAndCertificate = `SELECT ` + deviceColumns + `,
  COALESCE(c.id, 0), COALESCE(c.device_id, 0), c.serial, c.key, c.der, COALESCE(c.state, ''), COALESCE(c.not_after, 0),
  COALESCE(c.issued, 0), COALESCE(u.at, 0), COALESCE(c.revoked, 0), COALESCE(c.reason, 0), COALESCE(c.leaf, 0),
  COALESCE(c.issuer, 0), COALESCE(c.held, 0), COALESCE(c.supersedes, 0), ` + testOrNone + `
  FROM devices d LEFT JOIN certificates c ON c.id = d.certificate_id LEFT JOIN first_uses u ON u.certificate_id = c.id
  LEFT JOIN test_results tr ON tr.id = d.test_id WHERE d.id IN`

func (s *Store) units(ctx context.Context, where string, args ...any) ([]*unit, error) {
	return s.readUnits(ctx, `0, 0`, where, args)
}

// unitsFor also tells who else holds the key, which is $1 in where.
func (s *Store) unitsFor(ctx context.Context, key vetting.Fingerprint, where string, args ...any) ([]*unit, error) {
	return s.readUnits(ctx, keyColumns, where, append([]any{key[:]}, args...))
}

func (s *Store) readUnits(ctx context.Context, key, where string, args []any) ([]*unit, error) {
	var units []*unit
	known := map[int64]*unit{}
	err := s.db.query(ctx, `SELECT `+unitColumns+key+unitTables+where, args, func(r row) error {
		u := new(unit)
		dest := append(u.record.dest(), u.order.dest()...)
		dest = append(dest, &u.productRevision, &u.device.ID, &u.keyHolder, &u.compromised)
		if err := r.Scan(dest...); err != nil {
			return err
		}
		if u.device.ID != 0 {
			known[u.device.ID] = u
		}
		units = append(units, u)
		return nil
	})
	if err != nil || len(known) == 0 {
		return units, err
	}
	return units, s.readDevices(ctx, known)
}

func (s *Store) readDevices(ctx context.Context, known map[int64]*unit) error {
	ids := make([]any, 0, len(known))
	for id := range known {
		ids = append(ids, id)
	}
	var err error
	portions(len(ids), func(from, to int) {
		if err != nil {
			return
		}
		err = s.db.query(ctx, oneOf(deviceAndCertificate, 0, to-from), ids[from:to], func(r row) error {
			var d deviceRow
			c := new(certificateRow)
			var t testRow
			if err := r.Scan(slices.Concat(d.dest(), c.dest(), t.dest())...); err != nil {
				return err
			}
			u := known[d.ID]
			if u.device, u.test = d, t; c.ID != 0 {
				u.current = c
			}
			return nil
		})
	})
	return err
}

// Facts implements enroll.Ledger.
func (s *Store) Facts(ctx context.Context, c vetting.Claim) (vetting.Facts, error) {
	f := vetting.Facts{Now: s.now(), Claim: c}
	var err error
	switch c.Auth.Proof {
	case vetting.ProofBootstrapKey:
		err = s.byBootstrapKey(ctx, &f)
	case vetting.ProofVendor:
		err = s.byVendor(ctx, &f)
	case vetting.ProofTPM:
		err = s.byTPM(ctx, &f)
	case vetting.ProofAttestation, vetting.ProofDomain:
		err = s.byProvedName(ctx, &f)
	case vetting.ProofCode:
		err = s.byCode(ctx, &f)
	case vetting.ProofRig:
		if err = s.presentedCode(ctx, &f); err == nil {
			err = s.byIdentity(ctx, &f)
		}
	case vetting.ProofOfficial:
		err = s.byCertificate(ctx, &f)
	}
	if err == nil && f.Record == nil && f.Product == nil {
		err = s.addressed(ctx, &f)
	}
	if err != nil || f.Product == nil {
		return f, err
	}
	f.Pending, err = s.pending(ctx, &f)
	return f, err
}

// addressed finds the product that a request without a record names, if it
// waits for records.
func (s *Store) addressed(ctx context.Context, f *vetting.Facts) error {
	if f.Claim.Label == "" || f.Claim.Auth.Proof == vetting.ProofOfficial {
		return nil
	}
	p, err := s.Product(ctx, f.Claim.Label)
	switch {
	case vetting.ProblemOf(err) == vetting.NotFound:
		return nil
	case err == nil && p.Awaits() > 0:
		f.Product = p
	}
	return err
}

func (s *Store) byBootstrapKey(ctx context.Context, f *vetting.Facts) error {
	key := f.Claim.Auth.Key
	units, err := s.unitsFor(ctx, f.Claim.Key, `rec.key = $2`, key[:])
	if err != nil {
		return err
	}
	if len(units) > 0 {
		return s.fill(ctx, f, units[0])
	}
	if f.Dispute, err = s.dispute(ctx, `di.key = $1`, key[:]); err != nil || f.Dispute != nil {
		return err
	}
	return s.byIdentifiers(ctx, f)
}

// byIdentifiers finds the record that a device with an unknown key names. Where
// that is proof enough, it is the device's; otherwise it only bears the name.
func (s *Store) byIdentifiers(ctx context.Context, f *vetting.Facts) error {
	units, err := s.byAsserted(ctx, f.Claim)
	if err != nil {
		return err
	}
	id := f.Claim.Asserted
	if len(units) == 1 && units[0].record.Key == nil && id.Serial != "" && (id.MAC != "" || id.UID != "") {
		p, err := s.productAt(ctx, units[0].record.ProductID, units[0].productRevision)
		if err != nil {
			return err
		}
		if p.Accepts(vetting.ProofIdentifiers) {
			f.Claim.Auth.Proof = vetting.ProofIdentifiers
			if err := s.fill(ctx, f, units[0]); err != nil {
				return err
			}
			f.OnSite, err = s.OnSite(ctx, f)
			return err
		}
	}
	return bear(f, units)
}

// byAsserted looks the asserted identity up. A serial number is unique
// within a product only, so without a label there may be several.
func (s *Store) byAsserted(ctx context.Context, c vetting.Claim) ([]*unit, error) {
	id := c.Asserted
	switch {
	case id.Serial != "" && c.Label != "":
		return s.unitsFor(ctx, c.Key, `rec.serial = $2 AND p.name = $3`, id.Serial, c.Label)
	case id.Serial != "":
		return s.unitsFor(ctx, c.Key, `rec.serial = $2 LIMIT 8`, id.Serial)
	case id.UID != "":
		return s.unitsFor(ctx, c.Key, `rec.uid = $2`, id.UID)
	case id.MAC != "":
		return s.unitsFor(ctx, c.Key, `rec.mac = $2`, id.MAC)
	}
	return nil, nil
}

// byIdentity finds the record that a rig speaks of. Where a serial number
// exists in several products, the rig's own site decides; if that is not
// enough, no record is the answer and the rig has to name the product.
func (s *Store) byIdentity(ctx context.Context, f *vetting.Facts) error {
	units, err := s.byAsserted(ctx, f.Claim)
	if err != nil {
		return err
	}
	if len(units) > 1 {
		units, err = s.unitsFor(ctx, f.Claim.Key, `rec.serial = $2 AND rec.site_id = (SELECT id FROM sites WHERE name = $3) LIMIT 2`,
			f.Claim.Asserted.Serial, f.Claim.Auth.Site)
		if err != nil {
			return err
		}
	}
	if len(units) == 1 {
		return s.fill(ctx, f, units[0])
	}
	if len(units) == 0 && f.Claim.Asserted.Serial != "" {
		f.Dispute, err = s.dispute(ctx, `di.serial = $1`, f.Claim.Asserted.Serial)
	}
	return err
}

func (s *Store) byCertificate(ctx context.Context, f *vetting.Facts) error {
	serial, err := serialBytes(f.Claim.Auth.Certificate)
	if err != nil {
		return err
	}
	units, err := s.unitsFor(ctx, f.Claim.Key, `rec.id = (SELECT c.device_id FROM certificates c WHERE c.serial = $2)`, serial)
	if err != nil || len(units) == 0 {
		return err
	}
	if err := s.fill(ctx, f, units[0]); err != nil {
		return err
	}
	copy(f.DeviceEK[:], units[0].device.EK)
	if f.Presented = f.Current; f.Current == nil || f.Current.Serial != f.Claim.Auth.Certificate {
		if f.Presented, err = s.Certificate(ctx, f.Claim.Auth.Certificate); err != nil {
			return err
		}
	}
	if f.Presented.State == vetting.CertificateSuperseded || f.HandedOver() {
		if f.Unused, err = s.unusedSince(ctx, f.Presented); err != nil {
			return err
		}
	}
	if f.Now.Before(f.Product.Life.RenewFrom(f.Presented)) {
		f.Hint, err = s.hint(ctx, f.Presented)
	}
	return err
}

// unusedSince reports whether none of a device's certificates after this one
// was ever used.
func (s *Store) unusedSince(ctx context.Context, c *vetting.Certificate) (bool, error) {
	var id int64
	used, err := one(ctx, s.db, `SELECT c.id FROM certificates c JOIN first_uses u ON u.certificate_id = c.id WHERE c.device_id = $1 AND c.id > $2 LIMIT 1`, []any{c.DeviceID, c.ID}, &id)
	return !used, err
}

func (s *Store) fill(ctx context.Context, f *vetting.Facts, u *unit) (err error) {
	f.KeyHolder, f.KeyCompromised = u.keyHolder, u.compromised > 0
	if f.Record, err = u.record.record(); err != nil {
		return err
	}
	if f.Product, err = s.productAt(ctx, u.record.ProductID, u.productRevision); err != nil {
		return err
	}
	if f.Order, err = s.orderFrom(ctx, &u.order); err != nil {
		return err
	}
	if f.Owner, err = s.ownerAt(ctx, u.device.OwnerID); err != nil {
		return err
	}
	f.Device = s.deviceFrom(&u.device, f)
	if f.Device.Test, err = u.test.result(); err != nil {
		return err
	}
	if u.current != nil {
		f.Current = u.current.certificate()
		f.Device.Certificate = f.Current.Serial
	}
	return nil
}

func (s *Store) deviceFrom(d *deviceRow, f *vetting.Facts) *vetting.Device {
	out := &vetting.Device{
		ID: f.Record.ID, Product: f.Product.Name, Order: f.Order.Name, Site: f.Order.Site, Identity: f.Record.Identity,
		State: vetting.DeviceState(d.State), Before: vetting.DeviceState(d.Before),
		BootstrapKey: f.Record.BootstrapKey, Contested: f.Record.Contested,
		Issued: fromMicros(d.Issued), Activated: fromMicros(d.Activated), Updated: fromMicros(d.Updated),
		ReplacedBy: d.ReplacedBy, Replaces: d.Replaces, Owned: fromMicros(d.Owned), Transfer: d.TransferID, HandoverID: d.HandoverID,
		Revision: d.Revision, CertificateID: d.CertificateID,
	}
	if d.Revision == 0 {
		out.State = vetting.DeviceManufactured
	}
	if f.Owner != nil {
		out.Owner = f.Owner.Name
	}
	copy(out.Key[:], d.Key)
	copy(out.BoundKey[:], d.Bound)
	return out
}

// pending finds the held registration of this same request, or the one that
// a person has refused: that word stands.
func (s *Store) pending(ctx context.Context, f *vetting.Facts) (*vetting.Registration, error) {
	if !mayWait(f) {
		return nil, nil
	}
	var row registrationRow
	found, err := one(ctx, s.db, `SELECT `+registrationColumns+` FROM registrations r WHERE r.ask = $1 AND (r.outcome = 'held' OR r.decision <> '')`,
		[]any{askOf(f)}, row.dest()...)
	if err != nil || !found {
		return nil, err
	}
	return row.registration()
}

// mayWait reports whether a request may have been held: for a device that is
// registered or contested, before there was a record, or for a renewal that
// is late or not the first.
func mayWait(f *vetting.Facts) bool {
	switch {
	case f.Product.Awaits() > 0 && (f.Record == nil || f.Device.State == vetting.DeviceManufactured):
		return true
	case f.Record == nil:
		return false
	}
	if p := f.Presented; p != nil { // what a renewal may be held for
		return p.State == vetting.CertificateSuperseded || f.HandedOver() || !f.Now.Before(p.NotAfter)
	}
	return f.Device.State == vetting.DeviceRegistered || f.Device.State == vetting.DeviceIssued && f.Record.Contested
}

// askOf recognizes a request that comes again: same requester, same key to
// be certified, same subject, same address (RFC 7030 §4.2.3 forbids to
// compare whole requests, which may be signed anew each time). A key that the
// server makes is another each time, and says nothing.
func askOf(f *vetting.Facts) []byte {
	c := &f.Claim
	proof := c.Auth.Proof
	if proof == vetting.ProofIdentifiers { // the request is the same whatever the records are by now
		proof = vetting.ProofBootstrapKey
	}
	h := sha256.New()
	if hash := c.Auth.CodeHash; !hash.IsZero() {
		if f.Code == nil {
			fmt.Fprintf(h, "wrong code %v", guessedAt(f))
			return h.Sum(nil)[:16]
		}
		h.Write(hash[:])
	}
	key := c.Key[:]
	if c.ServerKey != "" {
		key = []byte(c.ServerKey)
	}
	for _, part := range [][]byte{
		[]byte(proof), c.Auth.Key[:], []byte(c.Auth.Certificate), key, c.Subject,
		[]byte(c.Asserted.String()), []byte(c.Label),
	} {
		fmt.Fprintf(h, "%d:", len(part))
		h.Write(part)
	}
	return h.Sum(nil)[:16]
}

func (s *Store) dispute(ctx context.Context, where string, args ...any) (*vetting.Dispute, error) {
	list, err := s.disputes(ctx, where+` LIMIT 1`, args...)
	if err != nil || len(list) == 0 {
		return nil, err
	}
	return list[0], nil
}

func (s *Store) disputes(ctx context.Context, where string, args ...any) (list []*vetting.Dispute, err error) {
	err = s.db.query(ctx, `SELECT di.id, di.record_id, di.site_id, di.body FROM disputes di WHERE `+where, args, func(r row) error {
		d, body := new(vetting.Dispute), ""
		var site int64
		if err := r.Scan(&d.ID, &d.RecordID, &site, &body); err != nil {
			return err
		}
		list = append(list, d)
		if err := json.Unmarshal([]byte(body), d); err != nil {
			return fmt.Errorf("dispute %d in the database: %w", d.ID, err)
		}
		d.Record.SiteID = site
		return nil
	})
	return list, err
}

// Certificate returns an issued certificate by its serial number in hex, or
// a NotFound error.
func (s *Store) Certificate(ctx context.Context, serial string) (*vetting.Certificate, error) {
	b, err := serialBytes(serial)
	if err != nil {
		return nil, err
	}
	var c certificateRow
	found, err := one(ctx, s.db, certificateQuery+`WHERE c.serial = $1`, []any{b}, c.dest()...)
	if err != nil {
		return nil, err
	}
	if !found {
		return nil, vetting.Errorf(vetting.NotFound, "no certificate has the serial number %s", serial)
	}
	return c.certificate(), nil
}

func serialBytes(serial string) ([]byte, error) {
	b, err := hex.DecodeString(serial)
	if err != nil {
		return nil, vetting.Errorf(vetting.Invalid, "%q is not a certificate serial number in hexadecimal", serial)
	}
	return b, nil
}
