package store

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"slices"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// AttachDocument keeps a document of a draft with its content. The same one
// again changes nothing.
func (s *Store) AttachDocument(ctx context.Context, a access.Act, id int64, d release.Document, content []byte) (*release.Release, error) {
	return s.changeRelease(ctx, a, id, "release.attach", d.Kind+" "+d.SHA256, func(w *writing, r *release.Release) error {
		if err := r.Edit(); err != nil {
			return conflict(err)
		}
		if slices.Contains(r.Documents, d) {
			return nil
		}
		if len(r.Documents) >= release.MaxDocuments {
			return vetting.Errorf(vetting.Conflict, "release %s has %d documents already, which is as many as it can have", r.Name(), release.MaxDocuments)
		}
		r.Documents = append(r.Documents, d)
		w.exec(`INSERT INTO release_documents (release_id, sha256, content) VALUES ($1, $2, $3)`, id, d.SHA256, string(content))
		return w.releaseChanged(a, r)
	})
}

// releaseChanged ends the proposal of a draft that is another one now.
func (w *writing) releaseChanged(a access.Act, r *release.Release) error {
	return w.voidProposals(operatorOf(a), approval.ReleaseApprove, r.Name(), "the release was changed")
}

// ReleaseDocument returns the content of a release's document, or NotFound.
func (s *Store) ReleaseDocument(ctx context.Context, id int64, digest string) (content []byte, err error) {
	var text string
	found, err := one(ctx, s.db, `SELECT content FROM release_documents WHERE release_id = $1 AND sha256 = $2`, []any{id, digest}, &text)
	switch {
	case err != nil:
		return nil, err
	case !found:
		return nil, notFound("document", digest)
	}
	return []byte(text), asHandedIn([]byte(text), digest)
}

// asHandedIn holds a document to the digest that its release, and so the log,
// knows: its content is in neither.
func asHandedIn(content []byte, digest string) error {
	if sum := sha256.Sum256(content); hex.EncodeToString(sum[:]) != digest {
		return fmt.Errorf("the document %s in the database has another content than was handed in: somebody changed it there", digest)
	}
	return nil
}

// SubmitRelease asks others to approve a draft that is complete.
func (s *Store) SubmitRelease(ctx context.Context, a access.Act, id int64, note string) (*release.Release, error) {
	return s.changeRelease(ctx, a, id, "release.submit", "", func(w *writing, r *release.Release) error {
		product, policy, err := w.productPolicy(r.Product)
		if err != nil {
			return err
		}
		if err := w.complete(product, r); err != nil {
			return err
		}
		p, err := w.propose(a, approval.Act{Kind: approval.ReleaseApprove, Subject: r.Name(), Note: note, Wanted: policy.Approvals,
			Statement: release.ApproveStatement{Release: r.ID, Statement: r.Statement()}})
		if err != nil {
			return err
		}
		r.Proposal = p.ID
		return nil
	})
}

// complete says what a draft lacks to be approved.
func (w *writing) complete(product int64, r *release.Release) error {
	if err := r.Complete(); err != nil {
		return conflict(err)
	}
	var provenance [][]byte
	for _, d := range r.Documents {
		if d.Kind == release.Provenance {
			w.fetch(`SELECT content FROM release_documents WHERE release_id = $1 AND sha256 = $2`, []any{r.ID, d.SHA256}, func(from row) error {
				var text string
				if err := from.Scan(&text); err != nil {
					return err
				}
				provenance = append(provenance, []byte(text))
				return asHandedIn([]byte(text), d.SHA256)
			})
		}
	}
	if err := w.flush(); err != nil {
		return err
	}
	if err := r.Proven(provenance); err != nil {
		return conflict(err)
	}
	return w.goesForward(product, r)
}

// carryApproval makes a release what was approved.
func carryApproval(w *writing, p *approval.Proposal) ([]audit.Object, error) {
	var st release.ApproveStatement
	if err := p.Read(&st); err != nil {
		return nil, err
	}
	row, r, err := w.releaseNow(st.Release)
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(st.Statement.Bytes(), r.Statement().Bytes()) {
		return nil, vetting.Errorf(vetting.Conflict, "release %s was changed since it was submitted: submit it again", r.Name())
	}
	if err := w.complete(row.ProductID, r); err != nil {
		return nil, err
	}
	if err := r.Approve(w.now); err != nil {
		return nil, conflict(err)
	}
	return []audit.Object{w.saveRelease(row, r)}, nil
}

// ProposeYank asks others to agree that a release is taken back.
func (s *Store) ProposeYank(ctx context.Context, a access.Act, id int64, reason string) (*approval.Proposal, error) {
	return s.proposed(ctx, a, func(w *writing) (*approval.Proposal, error) {
		_, r, err := w.releaseNow(id)
		if err != nil {
			return nil, err
		}
		_, policy, err := w.productPolicy(r.Product)
		if err != nil {
			return nil, err
		}
		digest := r.Statement().Digest()
		if err := r.Yank(reason, w.now); err != nil { // it is not saved: only tried
			return nil, conflict(err)
		}
		return w.propose(a, approval.Act{Kind: approval.ReleaseYank, Subject: r.Name(), Note: reason, Wanted: policy.Approvals,
			Statement: release.YankStatement{Release: id, Name: r.Name(), Digest: hex.EncodeToString(digest[:])}})
	})
}

func carryYank(w *writing, p *approval.Proposal) ([]audit.Object, error) {
	var st release.YankStatement
	if err := p.Read(&st); err != nil {
		return nil, err
	}
	row, r, err := w.releaseNow(st.Release)
	if err != nil {
		return nil, err
	}
	if err := r.Yank(p.Note, w.now); err != nil {
		return nil, conflict(err)
	}
	return []audit.Object{w.saveRelease(row, r)}, nil
}

// ProposeFloor asks others to agree that releases and devices of a product
// have at least a security counter. A floor above every published release
// would strand devices, and is a Conflict that says how many.
func (s *Store) ProposeFloor(ctx context.Context, a access.Act, product string, to uint32, note string) (*approval.Proposal, error) {
	return s.proposed(ctx, a, func(w *writing) (*approval.Proposal, error) {
		id, policy, err := w.productPolicy(product)
		if err != nil {
			return nil, err
		}
		if to <= policy.Floor {
			return nil, vetting.Errorf(vetting.Conflict, "the counter floor of %s is %d already: it only rises", product, policy.Floor)
		}
		if err := w.notStranded(id, product, to); err != nil {
			return nil, err
		}
		return w.propose(a, approval.Act{Kind: approval.FirmwareCounter, Subject: product, Note: note, Wanted: policy.Approvals,
			Statement: release.FloorStatement{Product: product, From: policy.Floor, To: to}})
	})
}

// notStranded refuses a floor that devices could not reach.
func (w *writing) notStranded(product int64, name string, floor uint32) error {
	reachable, err := w.taken(`SELECT 1 FROM releases WHERE product_id = $1 AND state = $2 AND counter >= $3`, product, string(release.Published), int64(floor))
	if err != nil || reachable {
		return err
	}
	var below int64
	w.fetch(`SELECT COUNT(*) FROM device_firmware WHERE product_id = $1 AND counter < $2`, []any{product, int64(floor)}, func(r row) error { return r.Scan(&below) })
	if err := w.flush(); err != nil {
		return err
	}
	return vetting.Errorf(vetting.Conflict, "a floor of %d would strand %d devices: no release of %s with such a counter is published; publish one first", floor, below, name)
}

func carryFloor(w *writing, p *approval.Proposal) ([]audit.Object, error) {
	var st release.FloorStatement
	if err := p.Read(&st); err != nil {
		return nil, err
	}
	id, policy, err := w.productPolicy(st.Product)
	if err != nil {
		return nil, err
	}
	if policy.Floor != st.From {
		return nil, vetting.Errorf(vetting.Conflict, "the counter floor of %s is %d by now: ask again", st.Product, policy.Floor)
	}
	if err := w.notStranded(id, st.Product, st.To); err != nil {
		return nil, err
	}
	policy.Floor = st.To
	return []audit.Object{w.savePolicy(id, policy)}, nil
}

// RevokeFirmwareKey revokes a test key at once, and asks others to agree that
// a production key is revoked; the proposal is nil in the first case.
func (s *Store) RevokeFirmwareKey(ctx context.Context, a access.Act, name, reason string) (*approval.Proposal, error) {
	return s.proposed(ctx, a, func(w *writing) (*approval.Proposal, error) {
		keys, err := w.firmwareKeysNamed([]string{name})
		if err != nil {
			return nil, err
		}
		k := keys[0]
		if !k.Revoked.IsZero() {
			return nil, vetting.Errorf(vetting.Conflict, "the key %s was revoked already", name)
		}
		product, policy, err := w.productPolicy(k.Product)
		if err != nil {
			return nil, err
		}
		if k.Stage == release.Test {
			w.leaf("firmware.key.revoke", operatorOf(a), name+": "+reason, w.revokeKey(product, k, reason))
			return nil, nil
		}
		return w.propose(a, approval.Act{Kind: approval.FirmwareKeyRevoke, Subject: name, Note: reason, Wanted: policy.Approvals,
			Statement: release.RevokeKeyStatement{Key: name, PublicKey: k.PublicKey}})
	})
}

func carryKeyRevocation(w *writing, p *approval.Proposal) ([]audit.Object, error) {
	var st release.RevokeKeyStatement
	if err := p.Read(&st); err != nil {
		return nil, err
	}
	keys, err := w.firmwareKeysNamed([]string{st.Key})
	if err != nil {
		return nil, err
	}
	if !keys[0].Revoked.IsZero() {
		return nil, vetting.Errorf(vetting.Conflict, "the key %s was revoked already", st.Key)
	}
	product, err := w.idOf("product", "products", keys[0].Product)
	if err != nil {
		return nil, err
	}
	return []audit.Object{w.revokeKey(product, keys[0], p.Note)}, nil
}

// revokeKey marks a key as revoked; it signs nothing any more.
func (w *writing) revokeKey(product int64, k *release.Key, reason string) audit.Object {
	k.Revoked, k.Reason = w.now, reason
	row := &firmwareKeyRow{ID: k.ID, ProductID: product, Name: k.Name, Body: mustJSON(k)}
	w.exec(`UPDATE firmware_keys SET body = $2 WHERE id = $1`, row.ID, row.Body)
	return row.object()
}

// FirmwarePolicy is what holds for all releases of a product.
func (s *Store) FirmwarePolicy(ctx context.Context, product string) (*release.Policy, error) {
	p, err := s.Product(ctx, product)
	if err != nil {
		return nil, err
	}
	row := new(firmwarePolicyRow)
	if err := s.db.query(ctx, `SELECT `+firmwarePolicyColumns+` FROM firmware_policies fp WHERE fp.product_id = $1`, []any{p.ID}, row.scan); err != nil {
		return nil, err
	}
	policy, err := row.policy()
	return &policy, err
}

// SetFirmwareApprovals says how many others must approve what is done with a
// product's firmware. Where it was said before, the number only grows.
func (s *Store) SetFirmwareApprovals(ctx context.Context, a access.Act, product string, n int) (*release.Policy, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		id, policy, err := w.productPolicy(product)
		if err != nil {
			return 0, err
		}
		if policy.Revision > 0 && n < policy.Approvals {
			return 0, vetting.Errorf(vetting.Conflict, "firmware of %s wants %d approvals: the number can only grow, or one could lower it and then act alone", product, policy.Approvals)
		}
		policy.Approvals = n
		w.leaf("firmware.policy", operatorOf(a), fmt.Sprintf("%s wants %d approvals", product, n), w.savePolicy(id, policy))
		return id, nil
	})
	if err != nil {
		return nil, err
	}
	return s.FirmwarePolicy(ctx, product)
}

// productPolicy finds a product and its policy.
func (w *writing) productPolicy(name string) (int64, release.Policy, error) {
	id, err := w.idOf("product", "products", name)
	if err != nil {
		return 0, release.Policy{}, err
	}
	policy, err := w.firmwarePolicy(id)
	return id, policy, err
}

// savePolicy writes a product's policy, which has the product's number.
func (w *writing) savePolicy(product int64, p release.Policy) audit.Object {
	p.Revision++
	row := &firmwarePolicyRow{ID: product, ProductID: product, Body: mustJSON(p)}
	w.exec(`INSERT INTO firmware_policies (id, product_id, body) VALUES ($1, $2, $3) ON CONFLICT (id) DO UPDATE SET body = EXCLUDED.body`, row.ID, row.ProductID, row.Body)
	return row.object()
}
