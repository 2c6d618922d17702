package store_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"testing"

	"github.com/touchmark/touchmark/firmware-sign/licence"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/licensing"
	"github.com/touchmark/touchmark/vetting"
)

// oneKey is the only licence key of an installation.
type oneKey struct{ crypto.Signer }

func (k oneKey) LicenceKey(context.Context, *vetting.LicenceKey) (crypto.Signer, error) {
	return k.Signer, nil
}

// chipsOfRound are the UIDs of three chips, the first of which was licensed in
// the round before.
func chipsOfRound(round int) (list []string) {
	for _, uid := range storetest.Chips(2*round-1, 2*round+2) {
		list = append(list, hex.EncodeToString(uid))
	}
	return list
}

// licenseChips licenses the round's chips and confirms that they have their
// licences.
func licenseChips(ctx context.Context, s *store.Store, dir string, round int) error {
	_, key, err := sharedCA(dir)
	if err != nil {
		return err
	}
	o, err := s.Order(ctx, "po-1")
	if err != nil {
		return err
	}
	desk, rig := licensing.Desk{Ledger: s, Keys: oneKey{key}}, access.Act{Operator: "rig-1"}
	a, err := desk.License(ctx, rig, o, chipsOfRound(round))
	if err != nil {
		return err
	}
	for _, g := range a.Given {
		if g.Refused != nil {
			return fmt.Errorf("%s: %v", g.UID, g.Refused)
		}
	}
	_, err = desk.Confirm(ctx, rig, "hsinchu", chipsOfRound(round))
	return err
}

// TestKillAtLicences: licences that were cut off at any commit took their
// units, or did not; asked for again each chip has one, the one that was
// signed first, although the product's epoch has grown in between. No unit is
// lost, and none taken twice.
func TestKillAtLicences(t *testing.T) {
	for db, dsn := range storetest.Databases(t) {
		t.Run(db, func(t *testing.T) {
			ctx, dir := t.Context(), shared(t)
			_, key, err := sharedCA(dir)
			if err != nil {
				t.Fatal(err)
			}
			spki, err := x509.MarshalPKIXPublicKey(key.Public())
			if err != nil {
				t.Fatal(err)
			}
			s := storetest.Open(t, dsn)
			storetest.NewWorld(t, s, 30)
			storetest.Licensed(t, s, "thermo")
			if _, err := s.CreateLicenceKey(ctx, storetest.By, &vetting.LicenceKey{Product: "thermo", Number: 1, Algorithm: "P-256", Public: spki}); err != nil {
				t.Fatal(err)
			}
			if err := s.Close(); err != nil {
				t.Fatal(err)
			}
			signed := map[string][]byte{} // licences, by their UIDs
			n := killed(t, "licences", dsn, dir, func(s *store.Store, round int, done bool) {
				list, err := s.Licences(ctx, vetting.LicenceFilter{}, vetting.Page{})
				if err != nil {
					t.Fatal(err)
				}
				o, err := s.Order(ctx, "po-1")
				if err != nil || o.Licensed != int64(len(list)) || done && len(list) != 2*round+1 {
					t.Errorf("round %d: %d units are taken by %d chips, %v", round, o.Licensed, len(list), err)
				}
				for _, l := range list {
					if done && l.State != vetting.LicenceProgrammed {
						t.Errorf("round %d: %s is %s", round, l.UID, l.State)
					}
					if have := signed[l.UID]; have != nil && !bytes.Equal(have, l.Bytes) {
						t.Errorf("round %d: %s had another licence", round, l.UID)
					}
					if l.Bytes != nil {
						signed[l.UID] = l.Bytes
						good(t, l, key.Public())
					}
				}
				p, err := s.Product(ctx, "thermo")
				if err != nil {
					t.Fatal(err)
				}
				p.Licences.Epoch++
				if _, err := s.UpdateProduct(ctx, storetest.By, p); err != nil {
					t.Fatal(err)
				}
			})
			if n != 6 { // before and after each of three commits
				t.Errorf("%d processes were killed", n)
			}
		})
	}
}

// good demands that a licence is one for its chip.
func good(t *testing.T, l *vetting.Licence, key crypto.PublicKey) {
	t.Helper()
	uid, err := hex.DecodeString(l.UID)
	if err != nil {
		t.Fatal(err)
	}
	made, err := licence.Parse(l.Bytes)
	if err == nil {
		err = made.Verify(uid, key)
	}
	if err != nil {
		t.Errorf("%s: %v", l.UID, err)
	}
}
