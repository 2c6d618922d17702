package acme

import (
	"sync"
	"time"

	"github.com/go-jose/go-jose/v4"

	"github.com/touchmark/touchmark/enroll/certorder"
)

// An enrolment is five requests one after the other, mostly at one server. What
// one of them read or wrote is remembered for the next, and never believed
// where it counts: what a client does is written only if its account and the
// order are at the revision that is remembered, whichever server changed them,
// and both are looked up before a request is refused. What only shows
// something shows what is in the database, but for an order that is valid: that
// is not changed any more.

// accountLife is how long an account that was ended, or a key that it had, may
// still look at what the account has.
const accountLife = time.Second

// mostRecent bounds what is remembered of a kind: orders to some 10 MB.
const mostRecent = 4096

// recent remembers what was looked at last, by ID: at least half of
// mostRecent. What it holds is not changed.
type recent[T any] struct {
	mu             sync.Mutex
	younger, older map[int64]T
}

func newRecent[T any]() *recent[T] { return &recent[T]{younger: map[int64]T{}} }

func (r *recent[T]) get(id int64) (v T, ok bool) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if v, ok = r.younger[id]; !ok {
		v, ok = r.older[id]
	}
	return v, ok
}

func (r *recent[T]) put(id int64, v T) {
	r.mu.Lock()
	defer r.mu.Unlock()
	if len(r.younger) >= mostRecent/2 {
		r.older, r.younger = r.younger, map[int64]T{}
	}
	r.younger[id] = v
}

func (r *recent[T]) forget(id int64) {
	r.mu.Lock()
	defer r.mu.Unlock()
	delete(r.younger, id)
	delete(r.older, id)
}

// knownAccount is a valid account as it was read at a time.
type knownAccount struct {
	account *certorder.Account
	key     *jose.JSONWebKey
	read    time.Time
}

func (h *Handler) recallAccount(id int64) (knownAccount, bool) {
	k, ok := h.accounts.get(id)
	age := h.Now().Sub(k.read)
	return k, ok && age >= 0 && age < accountLife
}

// unchanged reads the account anew, and fails with
// certorder.ErrAccountChanged if it is not what it was any more.
func (h *Handler) unchanged(x *exchange) error {
	k, err := h.readAccount(x, x.account.ID)
	if err == nil && k.account.Revision != x.account.Revision {
		err = certorder.ErrAccountChanged
	}
	return err
}

// knownOrder is an order as this server wrote it, without its request, which may
// be large, but with the DER of its certificate.
type knownOrder struct {
	order       certorder.Order
	certificate []byte
}

// recallOrder finds one of the account's orders: as it is remembered if that is
// enough, else as it is.
func (h *Handler) recallOrder(x *exchange, id int64, enough func(*certorder.Order) bool) (o *certorder.Order, certificate []byte, err error) {
	if k, ok := h.orders.get(id); ok && k.order.Account == x.account.ID && enough(&k.order) {
		return &k.order, k.certificate, nil
	}
	o, err = h.order(x, id)
	return o, nil, err
}

// change keeps an order's new state, by the word of an account or, if that is
// nil, the server's own, with the certificate that it came to.
func (h *Handler) change(x *exchange, by *certorder.Account, o *certorder.Order, certificate []byte) error {
	h.orders.forget(o.ID)
	err := h.Keeper.ChangeCertificateOrder(x.r.Context(), by, o)
	if err == nil {
		h.remember(o, certificate)
	}
	return err
}

// remember remembers an order that has a next step.
func (h *Handler) remember(o *certorder.Order, certificate []byte) {
	switch o.Status {
	case certorder.Pending, certorder.Ready, certorder.Valid:
		k := knownOrder{*o, certificate}
		k.order.Request = nil
		h.orders.put(o.ID, k)
	}
}
