package store_test

import (
	"crypto/x509"
	"testing"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// made is a store with a published release, and with a chip that has its
// licence.
func made(t *testing.T, s *store.Store) *releasing {
	t.Helper()
	w := storetest.NewWorld(t, s, 5)
	r := begun(t, w)
	r.to(t, 9)
	if err := r.proposeFloor(); err != nil {
		t.Fatal(err)
	}
	if err := r.carry(); err != nil {
		t.Fatal(err)
	}
	storetest.Licensed(t, s, "thermo")
	spki, err := x509.MarshalPKIXPublicKey(r.key.Public())
	if err != nil {
		t.Fatal(err)
	}
	k, err := s.CreateLicenceKey(t.Context(), storetest.By, &vetting.LicenceKey{Product: "thermo", Number: 1, Algorithm: "P-256", Public: spki})
	if err != nil {
		t.Fatal(err)
	}
	rig := access.Act{Operator: "rig-1"}
	c, err := s.ReserveLicences(t.Context(), rig, vetting.LicenceRequest{Order: w.Order, UIDs: storetest.Chips(0, 2)})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := s.SignLicences(t.Context(), rig, vetting.LicenceSignatures{Grant: c.Claims[0].Grant, KeyID: k.ID, Header: [16]byte{'T', 1}, Signatures: make([]byte, 128)}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.ConfirmLicences(t.Context(), rig, "hsinchu", storetest.Chips(0, 1)); err != nil {
		t.Fatal(err)
	}
	return r
}

// Tampering with what is signed, and with what it was signed for, is found.
func TestTamperingWithReleasesAndLicencesIsFound(t *testing.T) {
	for db := range storetest.Databases(t) {
		for name, sql := range map[string]string{
			"a release is approved by nobody":    `UPDATE releases SET state = 'approved'`,
			"its counter changes":                `UPDATE releases SET counter = 9`,
			"another document is named":          `UPDATE releases SET body = REPLACE(body, 'cyclonedx', 'spdx')`,
			"a release goes":                     `DELETE FROM releases`,
			"an artefact is for another file":    `UPDATE artefacts SET body = REPLACE(body, '"size":1', '"size":2')`,
			"an artefact loses its signature":    `UPDATE artefacts SET body = REPLACE(body, '"signatures"', '"others"')`,
			"an artefact is for test":            `UPDATE artefacts SET stage = 'test'`,
			"an artefact goes":                   `DELETE FROM artefacts`,
			"a key is for test":                  `UPDATE firmware_keys SET body = REPLACE(body, 'production', 'test')`,
			"a key goes":                         `DELETE FROM firmware_keys`,
			"the floor sinks":                    `UPDATE firmware_policies SET body = REPLACE(body, '"floor":3', '"floor":2')`,
			"the policy goes":                    `DELETE FROM firmware_policies`,
			"a licence is another chip's":        `UPDATE licences SET uid = (SELECT spki FROM licence_keys) WHERE id = (SELECT MAX(id) FROM licences)`,
			"a licence goes":                     `DELETE FROM licences WHERE id = (SELECT MAX(id) FROM licences)`,
			"licences get another signature":     `UPDATE licence_grants SET signatures = (SELECT spki FROM licence_keys)`,
			"licences are unsigned again":        `UPDATE licence_grants SET signed = 0`,
			"licences go":                        `DELETE FROM licence_grants`,
			"a licence key changes":              `UPDATE licence_keys SET spki = (SELECT uid FROM licences WHERE id = (SELECT MAX(id) FROM licences))`,
			"another licence key signs":          `UPDATE licence_keys SET signing = 0`,
			"a licence was never programmed":     `DELETE FROM programmed`,
			"fewer licences were given":          `UPDATE orders SET licensed = licensed - 1`,
			"an order's number is another lot's": `UPDATE orders SET lot = 9`,
		} {
			t.Run(db+"/"+name, func(t *testing.T) {
				s := storetest.Open(t, storetest.Databases(t)[db])
				made(t, s)
				verify(t, s)
				if err := s.Tamper(t.Context(), sql); err != nil {
					t.Fatal(err)
				}
				err := s.Snapshot(t.Context(), func(src audit.Source) error {
					report, err := audit.Verify(t.Context(), src, audit.Options{})
					if err == nil && report.OK() {
						t.Error("audit verify found nothing")
					}
					return err
				})
				if err != nil {
					t.Fatal(err)
				}
			})
		}
	}
}

// A document is shown, and counts for an approval, only as it was handed in.
func TestTamperedDocuments(t *testing.T) {
	for db := range storetest.Databases(t) {
		t.Run(db, func(t *testing.T) {
			s := storetest.Open(t, storetest.Databases(t)[db])
			r := made(t, s)
			shown := r.now(t)
			r.version, r.counter = "2.0.0", 4
			r.signatures = nil
			r.to(t, 4)
			if err := s.Tamper(t.Context(), `UPDATE release_documents SET content = REPLACE(content, '"', ' "')`); err != nil {
				t.Fatal(err)
			}
			if content, err := s.ReleaseDocument(t.Context(), shown.ID, shown.Documents[0].SHA256); err == nil {
				t.Errorf("shown: %s", content)
			}
			if err := r.submit(); err == nil || r.now(t).State != release.Draft {
				t.Errorf("submitted: %v", err)
			}
		})
	}
}
