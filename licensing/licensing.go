// Package licensing gives chips their licences: it reserves a unit of an
// order's quota, signs, keeps the signature, and only then lets the licence go.
//
// A reservation comes before the signature, and the signature is kept before
// it is answered. So a quota holds whatever is killed in between, no signature
// is ever made that the log does not know of, and who did not get the answer
// asks again and gets the same licence.
package licensing

import (
	"context"
	"crypto"
	"encoding/hex"
	"fmt"

	"github.com/touchmark/touchmark/firmware-sign/licence"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// Ledger keeps licences. What a method wrote is durable, and in the audit log,
// when it returns nil; after an error it may have been written or not. All are
// safe for concurrent use, also by several servers, and to be called again.
type Ledger interface {
	// LicenceTerms are what an order's licences are made by now; a
	// *vetting.Error with Conflict where the product has none.
	LicenceTerms(context.Context, *vetting.Order) (*vetting.LicenceTerms, error)
	// ReserveLicences decides on each chip, and takes a unit of the quota for
	// each that has no licence yet.
	ReserveLicences(context.Context, access.Act, vetting.LicenceRequest) (*vetting.LicenceClaims, error)
	// UnsignedGrant reads a grant that may have to be signed yet.
	UnsignedGrant(ctx context.Context, id int64) (*vetting.LicenceGrant, error)
	// SignLicences completes a grant, once: first tells whether these are the
	// signatures that count.
	SignLicences(context.Context, access.Act, vetting.LicenceSignatures) (first bool, err error)
	// LicencesOf reads the licences of chips, in any order.
	LicencesOf(ctx context.Context, uids [][]byte) ([]*vetting.Licence, error)
	// ConfirmLicences keeps that a site's chips have their licences, and says
	// of each why it cannot be, or nil.
	ConfirmLicences(ctx context.Context, act access.Act, site string, uids [][]byte) ([]*vetting.LicenceRefusal, error)
}

// Keys opens the keys that sign licences.
type Keys interface {
	// LicenceKey may be called for every licence: it opens a key once.
	LicenceKey(context.Context, *vetting.LicenceKey) (crypto.Signer, error)
}

// Desk gives licences.
type Desk struct {
	Ledger Ledger
	Keys   Keys
	// Count, if set, is told what became of how many chips: "given",
	// "repeated", "programmed", or the code of a refusal.
	Count func(result string, chips int)
}

// Given is what one chip got. One of Licence and Refused is nil.
type Given struct {
	UID      string // as it was asked for
	Licence  []byte
	Repeated bool // it had this licence before
	Refused  *vetting.LicenceRefusal
}

// Answer is what a request came to: one Given for each UID, in order.
type Answer struct {
	Lot   uint32
	Left  int64 // of the order's quota
	Given []Given
}

// License gives licences from an order's quota to chips, named by their UIDs
// in hexadecimal.
func (d *Desk) License(ctx context.Context, act access.Act, o *vetting.Order, uids []string) (*Answer, error) {
	terms, err := d.Ledger.LicenceTerms(ctx, o)
	if err != nil {
		return nil, err
	}
	r := &request{desk: d, act: act, order: o, terms: terms}
	if r.kind, err = licence.ParseUIDType(terms.Policy.UID); err != nil {
		return nil, err
	}
	if r.key, err = d.Keys.LicenceKey(ctx, terms.Key); err != nil {
		return nil, &vetting.KeyError{Key: terms.Key.Name(), Err: err}
	}
	if err := r.parse(uids); err != nil {
		return nil, err
	}
	if err := r.serve(ctx); err != nil {
		return nil, err
	}
	return r.answer(uids), nil
}

// request is one on its way.
type request struct {
	desk  *Desk
	act   access.Act
	order *vetting.Order
	terms *vetting.LicenceTerms
	kind  licence.UIDType
	key   crypto.Signer

	chips  []*chip // each once, in order
	asked  []*chip // one for each UID that was asked for
	claims *vetting.LicenceClaims
}

// chip is one UID of a request.
type chip struct {
	uid      []byte
	refused  *vetting.LicenceRefusal
	licence  []byte
	repeated bool
}

// parse reads the UIDs, and refuses those that no chip of the order can have.
func (r *request) parse(uids []string) error {
	lot, err := r.order.Identifiers.Compile()
	if err != nil {
		return err
	}
	known := make(map[string]*chip, len(uids))
	for _, text := range uids {
		c := new(chip)
		c.uid, err = r.kind.ParseUID(text)
		if err != nil {
			c.refused = vetting.RefuseLicence(vetting.RefusedUID, "%v", err)
		} else if err := lot.AllowsUID(hex.EncodeToString(c.uid)); err != nil {
			c.refused = vetting.RefuseLicence(vetting.RefusedLot, "%v", err)
		} else if have := known[string(c.uid)]; have != nil {
			c = have
		} else {
			known[string(c.uid)] = c
			r.chips = append(r.chips, c)
		}
		r.asked = append(r.asked, c)
	}
	return nil
}

func (r *request) uids() [][]byte {
	list := make([][]byte, len(r.chips))
	for i, c := range r.chips {
		list[i] = c.uid
	}
	return list
}

// serve reserves, signs what is not signed, and reads what others signed.
func (r *request) serve(ctx context.Context) (err error) {
	if len(r.chips) == 0 {
		r.claims = &vetting.LicenceClaims{Lot: r.order.Lot, Left: r.order.Quantity - r.order.Licensed}
		return nil
	}
	r.claims, err = r.desk.Ledger.ReserveLicences(ctx, r.act, vetting.LicenceRequest{Order: r.order, UIDs: r.uids()})
	if err != nil {
		return err
	}
	own := &vetting.LicenceGrant{Lot: r.claims.Lot}
	var mine []*chip
	unsigned := map[int64]bool{}
	for i, claim := range r.claims.Claims {
		c := r.chips[i]
		c.refused, c.repeated = claim.Refused, !claim.Fresh
		switch {
		case claim.Refused != nil || claim.Signed:
		case claim.Fresh:
			own.ID, own.UIDs, mine = claim.Grant, append(own.UIDs, c.uid), append(mine, c)
		default:
			unsigned[claim.Grant] = true
		}
	}
	for id := range unsigned {
		if err := r.finish(ctx, id); err != nil {
			return err
		}
	}
	if err := r.sign(ctx, own, mine); err != nil {
		return err
	}
	return r.read(ctx)
}

// finish signs what was reserved before and not signed: a server was stopped
// in between, or another request for the same chip is just doing it.
func (r *request) finish(ctx context.Context, id int64) error {
	g, err := r.desk.Ledger.UnsignedGrant(ctx, id)
	if err != nil {
		return err
	}
	return r.sign(ctx, g, nil)
}

// sign signs a grant and hands the licences to the chips, if these are the
// signatures that count.
func (r *request) sign(ctx context.Context, g *vetting.LicenceGrant, to []*chip) error {
	if len(g.UIDs) == 0 {
		return nil
	}
	h := licence.Header{UIDType: r.kind, KeyID: r.terms.Key.Number, Epoch: r.terms.Policy.Epoch, Product: r.terms.Policy.Number, Lot: g.Lot}
	sigs := vetting.LicenceSignatures{Grant: g.ID, KeyID: r.terms.Key.ID}
	made, err := signAll(ctx, h, g.UIDs, r.key)
	if err != nil {
		return &vetting.KeyError{Key: r.terms.Key.Name(), Err: err}
	}
	copy(sigs.Header[:], made[0].Bytes())
	sigs.Header[4] = 0
	for _, l := range made {
		sigs.Signatures = append(sigs.Signatures, l.Signature[:]...)
	}
	first, err := r.desk.Ledger.SignLicences(ctx, r.act, sigs)
	if err != nil || !first {
		return err
	}
	for i, c := range to {
		c.licence = made[i].Bytes()
	}
	return nil
}

// read reads the licences that this request did not sign.
func (r *request) read(ctx context.Context) error {
	var missing [][]byte
	of := map[string]*chip{}
	for _, c := range r.chips {
		if c.refused == nil && c.licence == nil {
			missing = append(missing, c.uid)
			of[hex.EncodeToString(c.uid)] = c
		}
	}
	if len(missing) == 0 {
		return nil
	}
	list, err := r.desk.Ledger.LicencesOf(ctx, missing)
	if err != nil {
		return err
	}
	for _, l := range list {
		of[l.UID].licence = l.Bytes
		delete(of, l.UID)
	}
	if len(of) > 0 {
		return fmt.Errorf("%d licences that were just signed cannot be read", len(of))
	}
	return nil
}

func (r *request) answer(uids []string) *Answer {
	a := &Answer{Lot: r.claims.Lot, Left: r.claims.Left, Given: make([]Given, len(r.asked))}
	counts := map[string]int{}
	for i, c := range r.asked {
		a.Given[i] = Given{UID: uids[i], Licence: c.licence, Repeated: c.repeated, Refused: c.refused}
		switch {
		case c.refused != nil:
			counts[string(c.refused.Code)]++
		case c.repeated:
			counts["repeated"]++
		default:
			counts["given"]++
		}
		c.repeated = true // if it is named twice
	}
	r.desk.count(counts)
	return a
}

func (d *Desk) count(counts map[string]int) {
	if d.Count == nil {
		return
	}
	for result, n := range counts {
		d.Count(result, n)
	}
}
