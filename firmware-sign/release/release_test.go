package release

import (
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"strings"
	"testing"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
)

// draft is a release with an artefact that a production key is to sign.
func draft(t *testing.T) (*Release, *Key, crypto.Signer) {
	t.Helper()
	signer := signtest.Key(t, "p256")
	spki, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		t.Fatal(err)
	}
	key := &Key{Name: "lamp-1", Product: "lamp", Stage: Production, Kind: "P-256", PublicKey: spki}
	digest := sha256.Sum256([]byte("image"))
	want, err := firmwaresign.NewDigestToSign(firmwaresign.ECDSAP256SHA256, signer.Public(), digest[:])
	if err != nil {
		t.Fatal(err)
	}
	file := File{5, hex.EncodeToString(digest[:])}
	return &Release{
		ID: 1, Product: "lamp", Version: "1.2.0", Counter: 3, SupportEnd: "2031-12-31", State: Draft,
		Artefacts: []Artefact{{ID: 7, Stage: Production, Name: "app.bin", Format: "raw", Parameters: map[string]string{"pss": "<no>", "a": "1"},
			Source: file, Keys: []string{"lamp-1"}, ToSign: []firmwaresign.ToSign{want}}},
		Documents: []Document{{SBOM, "cyclonedx", file}, {Provenance, "slsa", file}},
	}, key, signer
}

// wants checks that an error has the words.
func wants(t *testing.T, err error, words string) {
	t.Helper()
	if err == nil || !strings.Contains(err.Error(), words) {
		t.Errorf("%v, want %q", err, words)
	}
}

func TestLife(t *testing.T) {
	r, key, signer := draft(t)
	now := signtest.Now
	_, err := Allow(r, &r.Artefacts[0], []*Key{key})
	wants(t, err, "is draft")
	wants(t, r.Publish(now), "is draft")
	wants(t, r.Yank("", now), "is draft")
	if err := r.Approve(now); err != nil {
		t.Fatal(err)
	}
	wants(t, r.Edit(), "is approved")
	wants(t, r.Approve(now), "is approved")
	permit, err := Allow(r, &r.Artefacts[0], []*Key{key})
	if err != nil {
		t.Fatal(err)
	}
	a := &r.Artefacts[0]
	if a.Signatures, err = permit.Sign(func(*Key) (crypto.Signer, error) { return signer, nil }); err != nil {
		t.Fatal(err)
	}
	if err := a.ToSign[0].Verify(a.Signatures[0]); err != nil {
		t.Error(err)
	}
	r.Advance()
	wants(t, r.Publish(now), "nobody has verified")
	a.Signed, a.Checks = &a.Source, []Check{{Program: "openssl"}}
	if err := r.Publish(now); err != nil || r.State != Published {
		t.Fatalf("%s, %v", r.State, err)
	}
	if err := r.Yank("it burns", now); err != nil || r.State != Yanked || r.YankReason != "it burns" {
		t.Errorf("%s, %v", r.State, err)
	}
	_, err = Allow(r, a, []*Key{key})
	wants(t, err, "is yanked")
	wants(t, r.Yank("again", now), "is yanked")
}

func TestIncomplete(t *testing.T) {
	r, _, _ := draft(t)
	documents := r.Documents
	r.Documents = documents[:1]
	wants(t, r.Approve(signtest.Now), "no provenance")
	r.Documents = documents[1:]
	wants(t, r.Approve(signtest.Now), "no sbom")
	r.Artefacts, r.Documents = nil, documents
	wants(t, r.Approve(signtest.Now), "no artefact")
	if r.State != Draft {
		t.Errorf("it is %s", r.State)
	}
}

// What is signed is what was approved, by keys that are for it.
func TestNoPermit(t *testing.T) {
	for words, change := range map[string]func(*Release, *Artefact, *Key){
		"without the artefact":    func(_ *Release, a *Artefact, _ *Key) { a.ID = 8 },
		"is of product heater":    func(_ *Release, _ *Artefact, k *Key) { k.Product = "heater" },
		"for the stage test":      func(_ *Release, _ *Artefact, k *Key) { k.Stage = Test },
		"was revoked":             func(_ *Release, _ *Artefact, k *Key) { k.Revoked = signtest.Now },
		"does not name":           func(_ *Release, _ *Artefact, k *Key) { k.PublicKey = []byte("another") },
		"0 signatures are wanted": func(_ *Release, a *Artefact, _ *Key) { a.ToSign = nil },
		"over 33 bytes of a file": func(_ *Release, a *Artefact, _ *Key) { a.ToSign[0] = edSigns(33) },
		"17000 bytes long":        func(_ *Release, a *Artefact, _ *Key) { a.ToSign[0].Message = make([]byte, 17000) },
	} {
		r, key, _ := draft(t)
		r.State = Approved
		a := r.Artefacts[0]
		change(r, &a, key)
		if p, err := Allow(r, &a, []*Key{key}); p != nil {
			t.Errorf("%q is allowed", words)
		} else {
			wants(t, err, words)
		}
	}
}

func edSigns(n int) firmwaresign.ToSign {
	return firmwaresign.ToSign{Algorithm: firmwaresign.Ed25519, Message: make([]byte, n)}
}

func TestArtefactsThatAreRefused(t *testing.T) {
	for words, change := range map[string]func(*Artefact){
		"name":                  func(a *Artefact) { a.Name = "../x" },
		"size and SHA-256":      func(a *Artefact) { a.Source.SHA256 = "AB" },
		"1 to 4 keys, not by 0": func(a *Artefact) { a.Keys = nil },
		`parameter "b"`:         func(a *Artefact) { a.Parameters = map[string]string{"b": "\n"} },
		`parameter "B"`:         func(a *Artefact) { a.Parameters = map[string]string{"B": "1"} },
	} {
		r, key, _ := draft(t)
		a := r.Artefacts[0]
		if err := CheckArtefact(r, &a, []*Key{key}); err != nil {
			t.Fatal(err)
		}
		change(&a)
		wants(t, CheckArtefact(r, &a, []*Key{key}), words)
	}
}

// The form of statements never changes: what was signed must be made again.
func TestStatement(t *testing.T) {
	r, _, _ := draft(t)
	r.Artefacts[0].ToSign[0].PublicKey = []byte{1}
	const digest = "6105d6cc76af400325e94d588ce511be5bfdbb73b437dc51eca43917d7a43e3d"
	file := `{"sha256":"` + digest + `","size":5}`
	want := `{"artefacts":[{"format":"raw","keys":["lamp-1"],"name":"app.bin","parameters":{"a":"1","pss":"<no>"},"source":` + file + `,` +
		`"toSign":[{"algorithm":"ecdsa-p256-sha256","digest":"YQXWzHavQAMl6U1YjOURvlv9u3O0N9xR7KQ5F9ekPj0=","publicKey":"AQ=="}]}],"counter":3,` +
		`"documents":[{"format":"cyclonedx","kind":"sbom","sha256":"` + digest + `","size":5},{"format":"slsa","kind":"provenance","sha256":"` + digest + `","size":5}],` +
		`"maintenance":false,"product":"lamp","supportEnd":"2031-12-31","type":"touchmark/release/1","version":"1.2.0"}`
	if got := string(r.Statement().Bytes()); got != want {
		t.Errorf("have %s\nwant %s", got, want)
	}
	before := r.Statement().Digest()
	r.State, r.Artefacts[0].Signatures = Signed, [][]byte{{1}}
	if r.Statement().Digest() != before {
		t.Error("signing changed the statement")
	}
	r.Counter++
	if r.Statement().Digest() == before {
		t.Error("another counter is the same statement")
	}
}

func TestCompareVersions(t *testing.T) {
	order := []string{"0.9", "1.0-rc1", "1.0-rc2", "1.0-rc10", "1.0", "1.0.1", "1.0a", "1.2", "1.10", "2.0"}
	for i, a := range order {
		for j, b := range order {
			if got := CompareVersions(a, b); (got < 0) != (i < j) || (got > 0) != (i > j) {
				t.Errorf("%s and %s: %d", a, b, got)
			}
		}
	}
	if CompareVersions("1.02+build7", "1.2+9") != 0 {
		t.Error("leading zeros or a build count")
	}
}
