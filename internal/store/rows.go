package store

import (
	"encoding/hex"
	"encoding/json"
	"fmt"
	"time"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// The rows below are also the canonical content whose digest stands in the
// audit log: their exported fields, in this order, as JSON. Adding a field
// changes digests, so it needs a new struct for the rows written from then on.

// orderRow is a row of orders.
type orderRow struct {
	ID, ProductID, SiteID int64
	Name                  string
	State                 string
	Quantity, Issued      int64
	Revision              int64
	Body                  string
	// Later than the others, so absent from their digests.
	Wasted   int64 `json:",omitempty"`
	Replaced int64 `json:",omitempty"`
	Lot      int64 `json:",omitempty"`
	Licensed int64 `json:",omitempty"`

	dirty bool // a counter changed in this transaction
}

// orderBody is what only vetting looks at, as JSON.
type orderBody struct {
	Identifiers        vetting.Identifiers
	NotBefore          time.Time
	NotAfter           time.Time
	ManifestSignatures int
	Limits             vetting.Limits      `json:",omitzero"`
	Waste              vetting.WastePolicy `json:",omitempty"`
	Rework             vetting.Rework      `json:",omitempty"`
	MaxReplacements    int64               `json:",omitempty"`
	RaiseApprovals     int                 `json:",omitempty"`
	ManifestApprovals  int                 `json:",omitempty"`
	Approved           bool                `json:",omitempty"`
	Created, Updated   time.Time
}

func (o *orderRow) body() (b orderBody, err error) {
	if err = json.Unmarshal([]byte(o.Body), &b); err != nil {
		err = fmt.Errorf("order %s in the database: %w", o.Name, err)
	}
	return b, err
}

// order is the row without the names of product and site.
func (o *orderRow) order(b *orderBody) *vetting.Order {
	return &vetting.Order{ID: o.ID, Name: o.Name, State: vetting.OrderState(o.State), Quantity: o.Quantity, Issued: o.Issued, Wasted: o.Wasted, Replaced: o.Replaced,
		Licensed: o.Licensed, Lot: uint32(o.Lot), Revision: o.Revision, Identifiers: b.Identifiers, NotBefore: b.NotBefore, NotAfter: b.NotAfter,
		ManifestSignatures: b.ManifestSignatures, Limits: b.Limits, Waste: b.Waste, Rework: b.Rework, MaxReplacements: b.MaxReplacements,
		RaiseApprovals: b.RaiseApprovals, ManifestApprovals: b.ManifestApprovals, Approved: b.Approved, Created: b.Created, Updated: b.Updated,
		ProductID: o.ProductID, SiteID: o.SiteID}
}

const orderColumns = `o.id, o.product_id, o.site_id, o.name, o.state, o.quantity, o.issued, o.revision, o.body, o.wasted, o.replaced, o.lot, o.licensed`

func (o *orderRow) dest() []any {
	return []any{&o.ID, &o.ProductID, &o.SiteID, &o.Name, &o.State, &o.Quantity, &o.Issued, &o.Revision, &o.Body, &o.Wasted, &o.Replaced, &o.Lot, &o.Licensed}
}

func (o *orderRow) object() audit.Object {
	return audit.Object{Kind: audit.KindOrder, ID: o.ID, Digest: audit.DigestOf(o)}
}

// deviceRow is a row of devices, or, with Revision 0, what stands for a
// device of which only the record is known.
type deviceRow struct {
	ID            int64
	State, Before string
	Key           []byte // nil before the first certificate
	CertificateID int64
	Issued        int64
	Activated     int64
	Updated       int64
	Revision      int64
	// Later than the others, so absent from their digests.
	Bound  []byte `json:",omitempty"`
	TestID int64  `json:",omitempty"` // the latest test result

	ReplacedBy, Replaces int64 `json:",omitempty"` // devices

	OwnerID    int64 `json:",omitempty"` // 0 is the manufacturer
	TransferID int64 `json:",omitempty"` // the latest
	HandoverID int64 `json:",omitempty"` // the certificate that ended with a transfer
	Owned      int64 `json:",omitempty"` // since when the owner has it

	EK []byte `json:",omitempty"` // of the TPM that it enrolled by

	stored, dirty bool // it has a row; it changed in this transaction
}

const deviceColumns = `d.id, d.state, d.before, d.key, d.certificate_id, d.issued, d.activated, d.updated, d.revision, d.bound, d.test_id, d.replaced_by, d.replaces, d.owner_id, d.transfer_id, d.handover_id, d.owned, d.ek`

func (d *deviceRow) dest() []any {
	return []any{&d.ID, &d.State, &d.Before, &d.Key, &d.CertificateID, &d.Issued, &d.Activated, &d.Updated, &d.Revision, &d.Bound, &d.TestID, &d.ReplacedBy, &d.Replaces, &d.OwnerID, &d.TransferID, &d.HandoverID, &d.Owned, &d.EK}
}

func (d *deviceRow) object() audit.Object {
	return audit.Object{Kind: audit.KindDevice, ID: d.ID, Digest: audit.DigestOf(d)}
}

// save makes what was changed the device's next revision.
func (w *writing) save(d *deviceRow) {
	d.Revision++
	d.Updated = micros(w.now)
	d.dirty = true
}

// write queues a device that changed.
func (w *writing) write(d *deviceRow) {
	if !d.stored {
		w.insert(`devices (id, state, before, key, certificate_id, issued, activated, updated, revision, bound, test_id, replaced_by, replaces, owner_id, transfer_id, handover_id, owned, ek)`,
			d.ID, d.State, d.Before, bytesOrNull(d.Key, len(d.Key) == 0), d.CertificateID, d.Issued, d.Activated, d.Updated, d.Revision, bytesOrNull(d.Bound, len(d.Bound) == 0), d.TestID, d.ReplacedBy, d.Replaces, d.OwnerID, d.TransferID, d.HandoverID, d.Owned, bytesOrNull(d.EK, len(d.EK) == 0))
		return
	}
	w.exec(`UPDATE devices SET state = $2, before = $3, key = $4, certificate_id = $5, issued = $6, activated = $7, updated = $8, revision = $9, bound = $10, test_id = $11, replaced_by = $12, replaces = $13, owner_id = $14, transfer_id = $15, handover_id = $16, owned = $17, ek = $18 WHERE id = $1`,
		d.ID, d.State, d.Before, bytesOrNull(d.Key, len(d.Key) == 0), d.CertificateID, d.Issued, d.Activated, d.Updated, d.Revision, bytesOrNull(d.Bound, len(d.Bound) == 0), d.TestID, d.ReplacedBy, d.Replaces, d.OwnerID, d.TransferID, d.HandoverID, d.Owned, bytesOrNull(d.EK, len(d.EK) == 0))
}

// certificateRow is a row of certificates, with its first use.
type certificateRow struct {
	ID, DeviceID     int64
	Serial, Key, DER []byte
	State            string
	NotAfter, Issued int64
	Used, Revoked    int64
	Reason, Leaf     int64
	Issuer           int64 // of issuing_cas; 0 is the device CA
	Held             int64 // 1: on hold until its first use
	Supersedes       int64 // the certificate that ends with its first use

	ended  int64           // when that of the successor was, if it was asked for
	former *certificateRow // what Supersedes names, if it was asked for
}

const certificateColumns = `c.id, c.device_id, c.serial, c.key, c.der, c.state, c.not_after, c.issued, COALESCE(u.at, 0), c.revoked, c.reason, c.leaf, c.issuer, c.held, c.supersedes`

const certificateTables = ` FROM certificates c LEFT JOIN first_uses u ON u.certificate_id = c.id `

const certificateQuery = `SELECT ` + certificateColumns + certificateTables

// withFormer also reads what status responders have to be told at the
// certificate's first use.
const withFormer = `SELECT ` + certificateColumns + `, COALESCE(f.id, 0), f.serial, COALESCE(f.state, ''), COALESCE(f.not_after, 0), COALESCE(f.issuer, 0)` +
	certificateTables + `LEFT JOIN certificates f ON f.id = c.supersedes `

func (c *certificateRow) scanWithFormer(r row) error {
	f := new(certificateRow)
	err := r.Scan(append(c.dest(), &f.ID, &f.Serial, &f.State, &f.NotAfter, &f.Issuer)...)
	if f.ID != 0 {
		c.former = f
	}
	return err
}

func (c *certificateRow) dest() []any {
	return []any{&c.ID, &c.DeviceID, &c.Serial, &c.Key, &c.DER, &c.State, &c.NotAfter, &c.Issued, &c.Used, &c.Revoked, &c.Reason, &c.Leaf, &c.Issuer, &c.Held, &c.Supersedes}
}

func (c *certificateRow) object() audit.Object {
	return audit.Object{Kind: audit.KindCertificate, ID: c.ID, Digest: audit.CertificateDigest(c.DER, c.State)}
}

func (c *certificateRow) certificate() *vetting.Certificate {
	out := &vetting.Certificate{
		ID: c.ID, DeviceID: c.DeviceID, Serial: hex.EncodeToString(c.Serial), DER: c.DER,
		State: vetting.CertificateState(c.State), NotAfter: fromMicros(c.NotAfter), Issued: fromMicros(c.Issued),
		Used: fromMicros(c.Used), Revoked: fromMicros(c.Revoked), Reason: int(c.Reason), Leaf: c.Leaf, Held: c.Held != 0,
	}
	copy(out.Key[:], c.Key)
	return out
}

// registrationRow is a row of registrations. Ask, Repeats and Last are no
// part of its digest: a repetition changes nothing that was decided.
type registrationRow struct {
	ID, At, DeviceID, OrderID, SiteID int64
	Outcome, Body, Decision           string

	ask     []byte
	repeats int64
	last    int64
	leaf    int64
}

const registrationColumns = `r.id, r.at, r.device_id, r.order_id, r.site_id, r.outcome, r.body, r.decision, r.repeats, r.last, r.leaf`

func (r *registrationRow) dest() []any {
	return []any{&r.ID, &r.At, &r.DeviceID, &r.OrderID, &r.SiteID, &r.Outcome, &r.Body, &r.Decision, &r.repeats, &r.last, &r.leaf}
}

func (r *registrationRow) object() audit.Object {
	return audit.Object{Kind: audit.KindRegistration, ID: r.ID, Digest: audit.DigestOf(r)}
}

// registrationBody is what people read of a registration.
type registrationBody struct {
	Claim       vetting.Claim    `json:"claim"`
	Product     string           `json:"product,omitempty"`
	Order       string           `json:"order,omitempty"`
	Site        string           `json:"site,omitempty"`
	Reasons     []vetting.Reason `json:"reasons"`
	Certificate string           `json:"certificate,omitempty"`
}

func (r *registrationRow) registration() (*vetting.Registration, error) {
	var b registrationBody
	if err := json.Unmarshal([]byte(r.Body), &b); err != nil {
		return nil, fmt.Errorf("registration %d in the database: %w", r.ID, err)
	}
	out := &vetting.Registration{
		ID: r.ID, At: fromMicros(r.At), Claim: b.Claim, DeviceID: r.DeviceID,
		Product: b.Product, Order: b.Order, Site: b.Site,
		Outcome: vetting.Outcome(r.Outcome), Reasons: b.Reasons, Certificate: b.Certificate,
		Repeats: r.repeats, Last: fromMicros(r.last), Leaf: r.leaf,
	}
	if r.Decision != "" {
		out.Decision = new(vetting.Decision)
		if err := json.Unmarshal([]byte(r.Decision), out.Decision); err != nil {
			return nil, fmt.Errorf("decision on registration %d in the database: %w", r.ID, err)
		}
	}
	return out, nil
}

// recordRow is a row of records; contested is no part of its digest.
type recordRow struct {
	ID, ManifestID, Row        int64
	OrderID, ProductID, SiteID int64
	Serial, MAC, UID           string
	Key                        []byte
	Made                       string

	contested int64
}

const recordColumns = `rec.id, rec.manifest_id, rec.row_no, rec.order_id, rec.product_id, rec.site_id, rec.serial, COALESCE(rec.mac, ''), COALESCE(rec.uid, ''), rec.key, rec.made, rec.contested`

func (r *recordRow) dest() []any {
	return []any{&r.ID, &r.ManifestID, &r.Row, &r.OrderID, &r.ProductID, &r.SiteID, &r.Serial, &r.MAC, &r.UID, &r.Key, &r.Made, &r.contested}
}

func (r *recordRow) record() (*vetting.Record, error) {
	out := &vetting.Record{
		ID: r.ID, ManifestID: r.ManifestID, OrderID: r.OrderID, ProductID: r.ProductID, SiteID: r.SiteID,
		Row: r.Row, Identity: vetting.Identity{Serial: r.Serial, MAC: r.MAC, UID: r.UID}, Contested: r.contested != 0,
	}
	copy(out.BootstrapKey[:], r.Key)
	if err := json.Unmarshal([]byte(r.Made), &out.Made); err != nil {
		return nil, fmt.Errorf("record %d in the database: %w", r.ID, err)
	}
	return out, nil
}

func newRecordRow(r *vetting.Record) (*recordRow, error) {
	made, err := json.Marshal(r.Made)
	if err != nil {
		return nil, fmt.Errorf("row %d: %w", r.Row, err)
	}
	row := &recordRow{ManifestID: r.ManifestID, Row: r.Row, OrderID: r.OrderID, ProductID: r.ProductID, SiteID: r.SiteID,
		Serial: r.Serial, MAC: r.MAC, UID: r.UID, Made: string(made)}
	if !r.BootstrapKey.IsZero() {
		row.Key = r.BootstrapKey[:]
	}
	return row, nil
}
