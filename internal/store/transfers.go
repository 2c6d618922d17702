package store

import (
	"context"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// transferRow is a row of transfers.
type transferRow struct {
	ID           int64
	State        string
	FromID, ToID int64
	Expires      int64
	Body         string
	Devices      []byte // packed IDs
}

// transferBody is what only people read, as JSON.
type transferBody struct {
	Devices int
	Steps   []vetting.TransferStep
	// Terms and Voucher are of a device that was handed out.
	Terms   []byte `json:",omitempty"`
	Voucher []byte `json:",omitempty"`
}

const transferColumns = `t.id, t.state, t.from_id, t.to_id, t.expires, t.body, t.devices`

func (t *transferRow) dest() []any {
	return []any{&t.ID, &t.State, &t.FromID, &t.ToID, &t.Expires, &t.Body, &t.Devices}
}

func (t *transferRow) object() audit.Object {
	return audit.Object{Kind: audit.KindTransfer, ID: t.ID, Digest: audit.DigestOf(t)}
}

// stands is the transfer's state at a time.
func (t *transferRow) stands(now time.Time) vetting.TransferState {
	if t.State == string(vetting.TransferOffered) && micros(now) >= t.Expires {
		return vetting.TransferExpired
	}
	return vetting.TransferState(t.State)
}

func (t *transferRow) parse() (b transferBody, err error) {
	if err := json.Unmarshal([]byte(t.Body), &b); err != nil {
		return b, fmt.Errorf("transfer %d in the database: %w", t.ID, err)
	}
	return b, nil
}

// list gives the IDs of the transfer's devices.
func (t *transferRow) list() ([]any, error) {
	ids, err := unpackIDs(t.Devices)
	if err != nil {
		return nil, fmt.Errorf("transfer %d in the database: %w", t.ID, err)
	}
	return anys(ids), nil
}

func anys(ids []int64) []any {
	list := make([]any, len(ids))
	for i, id := range ids {
		list[i] = id
	}
	return list
}

func (s *Store) transfer(ctx context.Context, t *transferRow) (*vetting.Transfer, error) {
	b, err := t.parse()
	if err != nil {
		return nil, err
	}
	out := &vetting.Transfer{ID: t.ID, State: t.stands(s.now()), Devices: b.Devices, Expires: fromMicros(t.Expires), Steps: b.Steps}
	if out.From, err = s.party(ctx, t.FromID); err != nil {
		return nil, err
	}
	out.To, err = s.party(ctx, t.ToID)
	return out, err
}

func (s *Store) transferRows(ctx context.Context, where string, args ...any) (list []*transferRow, err error) {
	err = s.db.query(ctx, `SELECT `+transferColumns+` FROM transfers t WHERE `+where, args, func(r row) error {
		t := new(transferRow)
		list = append(list, t)
		return r.Scan(t.dest()...)
	})
	return list, err
}

// Transfers lists transfers, newest first.
func (s *Store) Transfers(ctx context.Context, f vetting.TransferFilter, p vetting.Page) ([]*vetting.Transfer, error) {
	where, args := `t.id < $1`, []any{newestFirst(p)}
	and := func(condition string, value any) {
		args = append(args, value)
		where += fmt.Sprintf(" AND "+condition, len(args))
	}
	for _, party := range f.Parties {
		id, err := s.partyID(ctx, party)
		if err != nil {
			return nil, err
		}
		and(`$%d IN (t.from_id, t.to_id)`, id)
	}
	switch now := micros(s.now()); f.State {
	case "":
	case vetting.TransferExpired:
		and(`t.state = 'offered' AND t.expires <= $%d`, now)
	case vetting.TransferOffered:
		and(`t.state = 'offered' AND t.expires > $%d`, now)
	default:
		and(`t.state = $%d`, string(f.State))
	}
	args = append(args, limit(p))
	rows, err := s.transferRows(ctx, where+fmt.Sprintf(` ORDER BY t.id DESC LIMIT $%d`, len(args)), args...)
	if err != nil {
		return nil, err
	}
	list := make([]*vetting.Transfer, len(rows))
	for i, t := range rows {
		if list[i], err = s.transfer(ctx, t); err != nil {
			return nil, err
		}
	}
	return list, nil
}

// Transfer returns a transfer by ID, or a NotFound error.
func (s *Store) Transfer(ctx context.Context, id int64) (*vetting.Transfer, error) {
	rows, err := s.transferRows(ctx, `t.id = $1`, id)
	if err != nil || len(rows) == 0 {
		return nil, orNotFound(err, "transfer", id)
	}
	return s.transfer(ctx, rows[0])
}

// TransferDevices lists the devices of a transfer by ID, as they are now.
func (s *Store) TransferDevices(ctx context.Context, id int64, p vetting.Page) ([]*vetting.Device, error) {
	rows, err := s.transferRows(ctx, `t.id = $1`, id)
	if err != nil || len(rows) == 0 {
		return nil, orNotFound(err, "transfer", id)
	}
	ids, err := unpackIDs(rows[0].Devices)
	if err != nil {
		return nil, err
	}
	from, found := slices.BinarySearch(ids, p.After)
	if found {
		from++
	}
	ids = ids[from:min(len(ids), from+limit(p))]
	if len(ids) == 0 {
		return nil, nil
	}
	return s.devices(ctx, `rec.id IN (`+placeholders(0, len(ids))+`) ORDER BY rec.id`, anys(ids)...)
}

// transferRow reads a transfer that is to take a step.
func (w *writing) transferRow(id int64) (*transferRow, error) {
	var t *transferRow
	w.fetch(`SELECT `+transferColumns+` FROM transfers t WHERE t.id = $1`, []any{id}, func(r row) error {
		t = new(transferRow)
		return r.Scan(t.dest()...)
	})
	if err := w.flush(); err != nil {
		return nil, err
	}
	if t == nil {
		return nil, notFound("transfer", id)
	}
	return t, nil
}

// step notes what became of a transfer.
func (w *writing) step(t *transferRow, a access.Act, to vetting.TransferState, note string) error {
	b, err := t.parse()
	if err != nil {
		return err
	}
	b.Steps = append(b.Steps, vetting.TransferStep{State: to, By: a.Operator, Owner: a.Owner, At: w.now, Note: note})
	t.State, t.Body = string(to), mustJSON(b)
	w.exec(`UPDATE transfers SET state = $2, body = $3 WHERE id = $1`, t.ID, t.State, t.Body)
	return nil
}

// transferLeaves writes what the log says of a step: first the transfer, then
// the devices.
func (w *writing) transferLeaves(act string, a access.Act, t *transferRow, note string, objects []audit.Object) {
	text := fmt.Sprintf("transfer %d", t.ID)
	if note != "" {
		text += ": " + note
	}
	w.leaves(act, operatorOf(a), text, append([]audit.Object{t.object()}, objects...)...)
}
