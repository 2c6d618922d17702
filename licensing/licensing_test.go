package licensing_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"io"
	mathrand "math/rand/v2"
	"sync"
	"testing"

	"github.com/touchmark/touchmark/firmware-sign/licence"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/licensing"
	"github.com/touchmark/touchmark/vetting"
)

var rig = access.Act{Operator: "rig-1"}

// keyring holds the keys by number.
type keyring struct {
	keys []crypto.Signer
	err  error
}

func (k *keyring) LicenceKey(_ context.Context, want *vetting.LicenceKey) (crypto.Signer, error) {
	if k.err != nil {
		return nil, k.err
	}
	return k.keys[want.Number-1], nil
}

// works is a store with an order that licenses chips, and a desk.
type works struct {
	*testing.T
	dsn   string
	store *store.Store
	keys  *keyring
	desk  *licensing.Desk
}

func newWorks(t *testing.T, quantity int64) *works {
	w := &works{T: t, dsn: storetest.Database(t, "sqlite"), keys: new(keyring)}
	w.store = storetest.Open(t, w.dsn)
	storetest.NewWorld(t, w.store, quantity)
	storetest.Licensed(t, w.store, "thermo")
	w.desk = &licensing.Desk{Ledger: w.store, Keys: w.keys}
	_, key, err := ed25519.GenerateKey(rand.Reader)
	w.done(err)
	w.addKey("Ed25519", key)
	return w
}

func (w *works) done(err error) {
	w.Helper()
	if err != nil {
		w.Fatal(err)
	}
}

func (w *works) addKey(algorithm string, key crypto.Signer) {
	w.Helper()
	spki, err := x509.MarshalPKIXPublicKey(key.Public())
	w.done(err)
	w.keys.keys = append(w.keys.keys, key)
	_, err = w.store.CreateLicenceKey(w.Context(), storetest.By, &vetting.LicenceKey{Product: "thermo", Number: uint8(len(w.keys.keys)), Algorithm: algorithm, Public: spki})
	w.done(err)
}

func (w *works) order() *vetting.Order {
	w.Helper()
	o, err := w.store.Order(w.Context(), "po-1")
	w.done(err)
	return o
}

func (w *works) try(d *licensing.Desk, uids ...[]byte) (*licensing.Answer, error) {
	w.Helper()
	var texts []string
	for _, uid := range uids {
		texts = append(texts, hex.EncodeToString(uid))
	}
	return d.License(w.Context(), rig, w.order(), texts)
}

func (w *works) license(uids ...[]byte) *licensing.Answer {
	w.Helper()
	a, err := w.try(w.desk, uids...)
	w.done(err)
	return a
}

// good checks a licence as firmware would.
func (w *works) good(b, uid []byte, key int) licence.Licence {
	w.Helper()
	l, err := licence.Parse(b)
	w.done(err)
	if err := l.Verify(uid, w.keys.keys[key-1].Public()); err != nil || int(l.KeyID) != key {
		w.Errorf("licence %x of %x by key %d: %v", b, uid, key, err)
	}
	return l
}

func TestLicense(t *testing.T) {
	w := newWorks(t, 10)
	counts := map[string]int{}
	w.desk.Count = func(result string, n int) { counts[result] += n }
	uids := storetest.Chips(0, 9)
	first := w.license(uids...)
	for i, g := range first.Given {
		l := w.good(g.Licence, uids[i], 1)
		if g.Repeated || l.Product != 1 || l.Lot != first.Lot || l.UIDType != licence.UID64 || l.Lot == 0 {
			t.Errorf("%+v, %+v", g, l)
		}
	}
	again := w.license(uids[8], storetest.Chip(9), storetest.Chip(9), storetest.Chip(10))
	if g := again.Given[0]; !g.Repeated || string(g.Licence) != string(first.Given[8].Licence) {
		t.Errorf("again: %+v", g)
	}
	if a, b := again.Given[1], again.Given[2]; a.Repeated || !b.Repeated || string(a.Licence) != string(b.Licence) || a.Licence == nil {
		t.Errorf("named twice: %+v, %+v", a, b)
	}
	if again.Given[3].Refused == nil || again.Given[3].Licence != nil || again.Left != 0 {
		t.Errorf("over quota: %+v", again)
	}
	if want := map[string]int{"given": 10, "repeated": 2, "over-quota": 1}; len(counts) != 3 || counts["given"] != 10 || counts["repeated"] != 2 || counts["over-quota"] != 1 {
		t.Errorf("counted %v, want %v", counts, want)
	}
}

func TestUIDs(t *testing.T) {
	w := newWorks(t, 10)
	o := w.order()
	o.Identifiers.UIDs = []string{"1000000000000000..1000000000ffffff"}
	a, err := w.desk.License(t.Context(), rig, o, []string{"10:00:00:00:00:00:00:01", "1000000000000001", "1000000001000000", "10000000000000", "ffffffffffffffff", "rubbish", ""})
	if err != nil {
		t.Fatal(err)
	}
	for i, want := range []vetting.LicenceRefusalCode{"", "", vetting.RefusedLot, vetting.RefusedUID, vetting.RefusedUID, vetting.RefusedUID, vetting.RefusedUID} {
		g := a.Given[i]
		if (g.Refused == nil) != (want == "") || g.Refused != nil && g.Refused.Code != want || (g.Licence != nil) != (want == "") {
			t.Errorf("%s: %+v, want %q", g.UID, g.Refused, want)
		}
	}
	if n := w.order().Licensed; n != 1 {
		t.Errorf("%d chips are licensed", n)
	}
	if a, err := w.desk.License(t.Context(), rig, w.order(), []string{"rubbish"}); err != nil || a.Left != 9 {
		t.Errorf("%+v, %v", a, err)
	}
}

// What was reserved and not signed is signed when it is asked for again, with
// the key of then, also by another server.
func TestUnsignedIsFinished(t *testing.T) {
	w := newWorks(t, 10)
	uids := storetest.Chips(0, 3)
	_, err := w.store.ReserveLicences(t.Context(), rig, vetting.LicenceRequest{Order: w.order(), UIDs: uids})
	w.done(err)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.done(err)
	w.addKey("P-256", key)
	_, err = w.store.UseLicenceKey(t.Context(), storetest.By, "thermo", 2)
	w.done(err)
	one := w.license(uids[1]).Given[0]
	w.good(one.Licence, uids[1], 2)
	all := w.license(uids...)
	if string(all.Given[1].Licence) != string(one.Licence) || !all.Given[0].Repeated {
		t.Errorf("%+v, then %+v", one, all)
	}
	w.good(all.Given[2].Licence, uids[2], 2)
	if n := w.order().Licensed; n != 3 {
		t.Errorf("%d chips are licensed", n)
	}
}

// broken signs n times and then fails.
type broken struct {
	crypto.Signer
	left int
}

func (b *broken) Sign(r io.Reader, digest []byte, o crypto.SignerOpts) ([]byte, error) {
	if b.left--; b.left < 0 {
		return nil, errors.New("CKR_DEVICE_REMOVED")
	}
	return b.Signer.Sign(r, digest, o)
}

// A key that cannot be used takes nothing that asking again would not give.
func TestKeyFails(t *testing.T) {
	w := newWorks(t, 4)
	good := w.keys.keys[0]
	var bad *vetting.KeyError
	w.keys.err = errors.New("no token")
	if _, err := w.try(w.desk, storetest.Chip(0)); !errors.As(err, &bad) || w.order().Licensed != 0 {
		t.Errorf("%v, and %d chips are licensed", err, w.order().Licensed)
	}
	w.keys.err, w.keys.keys[0] = nil, &broken{good, 2}
	if _, err := w.try(w.desk, storetest.Chips(0, 4)...); !errors.As(err, &bad) {
		t.Errorf("%v", err)
	}
	w.keys.keys[0] = good
	a := w.license(storetest.Chips(0, 4)...)
	for i, g := range a.Given {
		w.good(g.Licence, storetest.Chip(i), 1)
	}
	if n := w.order().Licensed; n != 4 {
		t.Errorf("%d chips are licensed", n)
	}
}

func TestConfirm(t *testing.T) {
	w := newWorks(t, 4)
	w.license(storetest.Chip(0))
	out, err := w.desk.Confirm(t.Context(), rig, "hsinchu", []string{"zz", hex.EncodeToString(storetest.Chip(0)), hex.EncodeToString(storetest.Chip(1))})
	if err != nil || out[0] == nil || out[0].Code != vetting.RefusedUID || out[1] != nil || out[2] == nil {
		t.Errorf("%+v, %v", out, err)
	}
}

// forgetful loses, at random, what a call of the ledger answers, or the call.
type forgetful struct {
	licensing.Ledger
	mu   sync.Mutex
	dice *mathrand.Rand
}

var errLost = errors.New("lost")

func (f *forgetful) roll() int {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.dice.IntN(6)
}

func (f *forgetful) ReserveLicences(ctx context.Context, a access.Act, r vetting.LicenceRequest) (*vetting.LicenceClaims, error) {
	n := f.roll()
	if n == 0 {
		return nil, errLost
	}
	c, err := f.Ledger.ReserveLicences(ctx, a, r)
	if n == 1 {
		return nil, errLost
	}
	return c, err
}

func (f *forgetful) SignLicences(ctx context.Context, a access.Act, s vetting.LicenceSignatures) (bool, error) {
	n := f.roll()
	if n == 0 {
		return false, errLost
	}
	first, err := f.Ledger.SignLicences(ctx, a, s)
	if n == 1 {
		return false, errLost
	}
	return first, err
}

// TestQuotaHolds lets servers that lose requests and answers license chips at
// the same time, with a key whose signatures never repeat. Never are more
// chips licensed than were ordered, and each chip has one licence for good.
func TestQuotaHolds(t *testing.T) {
	const quota, chipsThere, askers = 25, 40, 6
	w := newWorks(t, quota)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	w.done(err)
	w.addKey("P-256", key)
	_, err = w.store.UseLicenceKey(t.Context(), storetest.By, "thermo", 2)
	w.done(err)
	other := storetest.Open(t, w.dsn)
	var mu sync.Mutex
	seen := map[string]string{} // licences that left, by UID
	var wg sync.WaitGroup
	for i := range askers {
		dice := mathrand.New(mathrand.NewPCG(uint64(i), 7))
		d := &licensing.Desk{Ledger: &forgetful{Ledger: []*store.Store{w.store, other}[i%2], dice: dice}, Keys: w.keys}
		rolls := mathrand.New(mathrand.NewPCG(uint64(i), 8))
		wg.Go(func() {
			for range 40 {
				from := rolls.IntN(chipsThere)
				uids := storetest.Chips(from, min(chipsThere, from+1+rolls.IntN(8)))
				a, err := w.try(d, uids...)
				if err != nil {
					if !errors.Is(err, errLost) {
						t.Error(err)
					}
					continue
				}
				mu.Lock()
				for _, g := range a.Given {
					if g.Refused != nil {
						continue
					}
					if before, known := seen[g.UID]; known && before != string(g.Licence) {
						t.Errorf("chip %s has two licences", g.UID)
					}
					seen[g.UID] = string(g.Licence)
				}
				mu.Unlock()
			}
		})
	}
	wg.Wait()
	o := w.order()
	if o.Licensed > quota || len(seen) > quota || o.Licensed != quota {
		t.Errorf("%d chips are licensed, %d licences left, of %d", o.Licensed, len(seen), quota)
	}
	for text, b := range seen {
		uid, err := hex.DecodeString(text)
		w.done(err)
		w.good([]byte(b), uid, 2)
	}
	storetest.Verify(t, w.store)
}
