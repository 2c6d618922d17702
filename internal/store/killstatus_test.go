package store_test

import (
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/big"
	"net/http/httptest"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/ocsp/crl"
	"github.com/touchmark/touchmark/ocsp/offline"
	"github.com/touchmark/touchmark/ocsp/offline/publish"
	"github.com/touchmark/touchmark/vetting"
)

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// newCA makes a CA and gives its certificate and its key in DER.
func newCA() (cert, key []byte, err error) {
	signer, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Device CA"}, NotBefore: epoch, NotAfter: epoch.AddDate(60, 0, 0),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true}
	if cert, err = x509.CreateCertificate(rand.Reader, template, template, signer.Public(), signer); err == nil {
		key, err = x509.MarshalECPrivateKey(signer)
	}
	return cert, key, err
}

// sharedCA reads the CA of a directory.
func sharedCA(dir string) (*x509.Certificate, crypto.Signer, error) {
	der, err := os.ReadFile(filepath.Join(dir, "ca.crt"))
	secret, err2 := os.ReadFile(filepath.Join(dir, "ca.key"))
	if err := errors.Join(err, err2); err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return nil, nil, err
	}
	key, err := x509.ParseECPrivateKey(secret)
	return cert, key, err
}

// history is an ocsp.Source of made-up revocations.
type history []ocsp.Change

func (h history) Changes(_ context.Context, after int64, each func([]ocsp.Change) error) (int64, error) {
	if after >= int64(len(h)) {
		return after, nil
	}
	return int64(len(h)), each(h[after:])
}

// manyRevoked is so many that a full list has more than one chunk.
const manyRevoked = 12_000

// revokedBefore are the revocations before a round, and two more in each.
func revokedBefore(round int) (h history) {
	for n := range manyRevoked + 2*round {
		sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
		c := ocsp.Change{Seq: int64(n + 1), Serial: ocsp.Serial(sum[:ocsp.SerialLength]), Reason: ocsp.KeyCompromise, Revoked: epoch, NotAfter: epoch.AddDate(9, 0, 0)}
		c.Serial[0] = c.Serial[0]&0x7f | 1
		h = append(h, c)
	}
	return h
}

type nobody struct{}

func (nobody) Made(string, crl.Scope, time.Duration) {}
func (nobody) Failed(string)                         {}

// makeLists makes the full list with its delta, and all partitions; then,
// after one more revocation, the delta and the partition that it concerns.
func makeLists(ctx context.Context, s *store.Store, dir string, round int) error {
	cert, key, err := sharedCA(dir)
	if err != nil {
		return err
	}
	d := &crl.Directory{Store: s}
	if err := d.Refresh(ctx); err != nil {
		return err
	}
	now, all, revoked := epoch.AddDate(0, 0, round), revokedBefore(round), new(crl.Revoked)
	if k := d.Find(0, crl.Delta); k != nil && !k.ThisUpdate.Before(now) {
		now = k.ThisUpdate.Add(time.Hour) // the round's second time
	}
	issuer := crl.Issuer{Name: "device-ca", Certificate: cert, Signer: key}
	m := crl.NewMaker(crl.Maker{Revoked: revoked, Source: all, Directory: d, Observer: nobody{}, Log: slog.New(slog.DiscardHandler),
		Schedule: crl.Schedule{Interval: 24 * time.Hour, Validity: 96 * time.Hour, DeltaInterval: time.Hour, DeltaValidity: 6 * time.Hour, Delay: time.Second,
			Full: true, Partitions: 4, URLs: []string{"http://status.example.com"}},
		Issuers: func() []crl.Issuer { return []crl.Issuer{issuer} }, Known: func() (time.Time, bool) { return now, true }})
	revoked.Apply(all[:len(all)-1])
	if err := m.Make(ctx, "server", issuer); err != nil {
		return err
	}
	revoked.Apply(all[len(all)-1:])
	now = now.Add(time.Minute)
	m.Round(ctx)
	if k := d.Find(0, crl.Delta); k.Seq != int64(len(all)) {
		return errors.New("the delta was not made")
	}
	return nil
}

// TestKillWhileListsAreMade: what is served is whole, numbers neither go back
// nor stand for other bytes than before, and nothing is left behind.
func TestKillWhileListsAreMade(t *testing.T) {
	for db, dsn := range storetest.Databases(t) {
		t.Run(db, func(t *testing.T) {
			dir, seen := shared(t), map[crl.Scope]*crl.Kept{}
			n := killed(t, "revocation lists", dsn, dir, func(s *store.Store, _ int, done bool) {
				d := &crl.Directory{Store: s}
				if err := d.Refresh(t.Context()); err != nil {
					t.Fatal(err)
				}
				list := d.Of(0)
				if done && len(list) != 6 {
					t.Errorf("there are %d lists", len(list))
				}
				for _, k := range list {
					if had := seen[k.Scope]; had != nil && (k.Number < had.Number || k.Number == had.Number && k.Digest != had.Digest || done && k.Seq < had.Seq) {
						t.Errorf("list %s: number %d after number %d", k.Scope, k.Number, had.Number)
					}
					seen[k.Scope] = k
					served(t, d, dir, k)
				}
				if full, delta := d.Find(0, crl.Full), d.Find(0, crl.Delta); full != nil && (delta == nil || delta.Base != full.Number) {
					t.Errorf("the full list has number %d, the delta is %+v", full.Number, delta)
				}
				tidied(t, dsn, len(list))
			})
			if want := 10; n < want {
				t.Errorf("%d processes were killed, want %d: two at each of five commits", n, want)
			}
		})
	}
}

// served demands that a list is served as a whole and is what it is said to be.
func served(t *testing.T, d *crl.Directory, dir string, k *crl.Kept) {
	t.Helper()
	h := &crl.Handler{Directory: d, Issuer: func(string) (int64, bool) { return 0, true }, MaxAge: func(crl.Scope) time.Duration { return 0 },
		Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return k.ThisUpdate }}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, httptest.NewRequest("GET", k.Scope.Path("device-ca"), nil))
	cert, _, err := sharedCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	l, err := x509.ParseRevocationList(w.Body.Bytes())
	if err == nil {
		err = l.CheckSignatureFrom(cert)
	}
	if err != nil || w.Code != 200 || sha256.Sum256(w.Body.Bytes()) != k.Digest || l.Number.Int64() != k.Number || len(l.RevokedCertificateEntries) != k.Entries {
		t.Errorf("list %s is served with status %d and is not number %d of %d entries: %v", k.Scope, w.Code, k.Number, k.Entries, err)
	}
}

// tidied demands that an hour later nothing is left but the lists.
func tidied(t *testing.T, dsn string, lists int) {
	t.Helper()
	later := storetest.OpenWith(t, store.Options{DSN: dsn, Now: func() time.Time { return time.Now().Add(time.Hour) }})
	defer later.Close()
	for more := true; more; {
		var err error
		if more, err = later.TidyCRLs(t.Context()); err != nil {
			t.Fatal(err)
		}
	}
	if n, err := store.Bodies(t.Context(), later); err != nil || n != int64(lists) {
		t.Errorf("the bytes of %d lists are left, want %d (%v)", n, lists, err)
	}
}

// makeOffline makes a base, and a delta of it.
func makeOffline(ctx context.Context, s *store.Store, dir string, round int) error {
	cert, key, err := sharedCA(dir)
	if err != nil {
		return err
	}
	d := &publish.Directory{Store: s}
	if err := d.Refresh(ctx); err != nil {
		return err
	}
	now := epoch.AddDate(0, 0, round)
	if f := d.Delta(0); f != nil && !f.Header.ThisUpdate.Before(now) {
		now = f.Header.ThisUpdate.Add(4 * time.Hour) // the round's second time
	}
	m := publish.NewMaker(publish.Maker{Schedule: publish.Schedule{Every: time.Hour, BaseEvery: 2 * time.Hour, Validity: 24 * time.Hour, Margin: time.Minute},
		Directory: d, Issuers: func() []publish.Issuer {
			return []publish.Issuer{{ID: 0, Name: "device-ca", Certificate: cert, Signer: key}}
		},
		Spool: dir, Log: slog.New(slog.DiscardHandler), Now: func() time.Time { return now }})
	m.Round(ctx)
	base := d.Base(0)
	now = now.Add(time.Hour)
	m.Round(ctx)
	if delta := d.Delta(0); base == nil || delta == nil || delta.Number <= base.Number {
		return errors.New("base and delta were not made")
	}
	return nil
}

func TestKillWhileOfflineFilesAreMade(t *testing.T) {
	for db, dsn := range storetest.Databases(t) {
		t.Run(db, func(t *testing.T) {
			s := storetest.Open(t, dsn)
			w := storetest.NewWorld(t, s, 9)
			for n := range 9 {
				w.Load(t, storetest.Unit(n))
				if _, _, err := storetest.Enrol(t.Context(), s, storetest.Claim(storetest.Unit(n).BootstrapKey, storetest.Key("official", n))); err != nil {
					t.Fatal(err)
				}
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			dir, seen := shared(t), map[offline.Kind]publish.Kept{}
			n := killed(t, "offline files", dsn, dir, func(s *store.Store, _ int, done bool) {
				for _, k := range wholeFiles(t, s, dir, done) {
					if had, ok := seen[k.Kind]; ok && (k.Number < had.Number || k.Number == had.Number && k.Digest != had.Digest) {
						t.Errorf("%s %d after %d", k.Kind, k.Number, had.Number)
					}
					seen[k.Kind] = k
				}
				revokeNext(t, s)
			})
			if want := 4; n != want {
				t.Errorf("%d processes were killed, want %d: two at each of two commits", n, want)
			}
			if left, err := filepath.Glob(filepath.Join(dir, "touchmark-offline-*")); err != nil || len(left) > 0 {
				t.Errorf("temporary files are left: %q, %v", left, err)
			}
		})
	}
}

// wholeFiles demands that the files are those that they are said to be, and
// that the delta that is served fits the base.
func wholeFiles(t *testing.T, s *store.Store, dir string, done bool) []publish.Kept {
	t.Helper()
	ctx := t.Context()
	cert, _, err := sharedCA(dir)
	if err != nil {
		t.Fatal(err)
	}
	list, err := s.OfflineFiles(ctx)
	if err != nil {
		t.Fatal(err)
	}
	for _, k := range list {
		b, err := s.OfflineFile(ctx, k.Issuer, k.Kind)
		if err != nil || sha256.Sum256(b) != k.Digest {
			t.Errorf("%s %d has other bytes: %v", k.Kind, k.Number, err)
		}
	}
	d := &publish.Directory{Store: s}
	if err := d.Refresh(ctx); err != nil {
		t.Fatal(err)
	}
	base, delta := d.Base(0), d.Delta(0)
	if done && (base == nil || delta == nil) {
		t.Fatal("there are no files")
	}
	if base == nil {
		return list
	}
	f, err := offline.Open(base.Bytes, cert)
	if err == nil && delta != nil {
		_, err = f.With(delta.Bytes)
	}
	if err != nil {
		t.Error(err)
	}
	return list
}

// revokeNext revokes a device, so that the next files are others.
func revokeNext(t *testing.T, s *store.Store) {
	t.Helper()
	devices, err := s.Devices(t.Context(), vetting.DeviceFilter{}, vetting.Page{Limit: 100})
	if err != nil {
		t.Fatal(err)
	}
	for _, d := range devices {
		c, err := s.Certificate(t.Context(), d.Certificate)
		if err != nil {
			t.Fatal(err)
		}
		if c.State == vetting.CertificateValid {
			if _, err := s.RevokeDevice(t.Context(), storetest.By, d.ID, vetting.RevokedKeyCompromise, "leaked"); err != nil {
				t.Fatal(err)
			}
			return
		}
	}
}

// workOnMessages enrols the round's unit by a signed message, and refuses a
// stranger's. That one has come before is no error: a broker repeats what was
// not acknowledged.
func workOnMessages(ctx context.Context, s *store.Store, _ string, round int) error {
	unit := storetest.Claim(storetest.Unit(round).BootstrapKey, storetest.Key("official", round))
	stranger := storetest.Claim(storetest.Key("stranger", round), storetest.Key("official", 100+round))
	for i, claim := range []vetting.Claim{unit, stranger} {
		claim.Message, claim.Transport = [32]byte{byte(round), byte(i)}, "mqtt"
		if _, _, err := storetest.Enrol(ctx, s, claim); err != nil && !errors.Is(err, enroll.ErrRepeated) {
			return err
		}
	}
	return nil
}

// TestKillWhileMessagesAreWorkedOn: a message is lost without a trace and
// counts when the broker sends it again, or it has counted, and does not again.
func TestKillWhileMessagesAreWorkedOn(t *testing.T) {
	for db, dsn := range storetest.Databases(t) {
		t.Run(db, func(t *testing.T) {
			s := storetest.Open(t, dsn)
			w := storetest.NewWorld(t, s, 9)
			for n := range 9 {
				w.Load(t, storetest.Unit(n))
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			n := killed(t, "messages", dsn, "", func(s *store.Store, round int, done bool) {
				ctx := t.Context()
				list, err := s.Registrations(ctx, vetting.RegistrationFilter{}, vetting.Page{Limit: 100})
				o, err2 := s.Order(ctx, "po-1")
				if err := errors.Join(err, err2); err != nil {
					t.Fatal(err)
				}
				counted := len(list)
				for _, r := range list {
					counted += int(r.Repeats)
				}
				want := 2 * round
				if !done {
					want += []int{0, -2, -1, -1, 0}[min(round, 4)] // of the round's two, those before the kill
				}
				if counted != want || o.Issued != int64(want+1)/2 {
					t.Errorf("round %d: %d messages counted, %d units were issued, want %d messages", round, counted, o.Issued, want)
				}
			})
			if n != 4 {
				t.Errorf("%d processes were killed, want two at each of two commits", n)
			}
		})
	}
}
