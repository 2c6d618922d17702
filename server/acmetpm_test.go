package server

import (
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/json"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-tpm/tpm2"

	"github.com/touchmark/touchmark/enroll/attest"
	"github.com/touchmark/touchmark/enroll/attest/attesttest"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/internal/swtpm"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/vendorid/vendoridtest"
)

// attested is a device whose AK the server's attestation CA certified.
type attested struct {
	*attesttest.Device
	chain [][]byte // the AK's certificate first
}

// openedForAKs is a server with a product that trusts the server's own
// attestation CA.
func openedForAKs(t *testing.T) *tpmWorld {
	t.Helper()
	return openedForTPMs(t, func(p *vetting.Product) {
		p.Proofs, p.TPM.AttestationCA = append(p.Proofs, vetting.ProofAttestation), true
	})
}

// attested makes a device with a TPM of its own, whose record lists it, and
// has its AK certified.
func (w *tpmWorld) attested(serial string) attested {
	w.t.Helper()
	d := attested{Device: attesttest.NewWith(w.t, swtpm.New(w.t), attesttest.P384, attesttest.SigningRSA(tpm2.TPMAlgSHA256))}
	w.lists(serial, d.EK())
	var challenge attest.AttestAnswer
	var certified attest.SecretAnswer
	w.asks("attest", attest.AttestRequest{EK: d.EKPublic(), Params: d.Hello.AK}, &challenge)
	w.asks("secret", attest.SecretRequest{Secret: d.Activate(&attest.Challenge{Credential: challenge.Credential, Secret: challenge.Secret})}, &certified)
	d.chain = certified.Chain
	return d
}

// asks sends a message that is answered with 200.
func (w *tpmWorld) asks(what string, message, answer any) {
	w.t.Helper()
	code, _, body := w.posts(what, message)
	if err := json.Unmarshal([]byte(body), answer); code != 200 || err != nil {
		w.t.Fatalf("%s: %d %s %v", what, code, body, err)
	}
}

// nonce is what a statement for the order's challenge carries.
func (o *acmeOrder) nonce() []byte {
	sum := sha256.Sum256([]byte(o.keyAuthorization()))
	return sum[:]
}

// tpmStatement is an attestation of format tpm (WebAuthn §8.3).
func tpmStatement(k attest.Key, chain ...[]byte) map[string]any {
	return map[string]any{"fmt": "tpm", "attStmt": map[string]any{
		"ver": "2.0", "alg": -257, "x5c": chain, "sig": k.Signature, "certInfo": k.Attestation, "pubArea": k.Public,
	}}
}

// A TPM's key gets a certificate over ACME by the word of an AK that the
// server's own attestation CA certified; the account renews with another key
// of the same TPM.
func TestACMEByTPM(t *testing.T) {
	w := openedForAKs(t)
	d := w.attested("GW-1")
	c := w.opens()
	in := permanent("GW-1")
	var have *x509.Certificate
	for range 2 {
		o := c.order(in)
		if a := o.attest(tpmStatement(d.Certify(o.nonce()), d.chain...)); a.status != 200 || a.json(t)["status"] != "valid" {
			t.Fatalf("challenge: %d %s", a.status, a.body)
		}
		if a := o.post(o.finalizeAt, map[string]string{"csr": b64url(d.Key.CSR())}); a.status != 200 {
			t.Fatalf("finalize: %d %s", a.status, a.body)
		}
		cert := o.certificate()
		if print, err := vetting.PublicKeyFingerprint(d.Key.Public()); err != nil || vetting.KeyFingerprint(cert.RawSubjectPublicKeyInfo) != print || cert.Subject.SerialNumber != "GW-1" || have != nil && cert.Equal(have) {
			t.Errorf("the certificate is %s's, %v", cert.Subject, err)
		}
		have = cert
		in["replaces"] = b64url(cert.AuthorityKeyId) + "." + b64url(cert.SerialNumber.Bytes())
		d.NewKey()
	}
	order, err := w.server.store.Order(t.Context(), "po-1")
	if err != nil || order.Issued != 1 {
		t.Errorf("%d units, %v", order.Issued, err)
	}
	storetest.Verify(t, w.server.store)
}

// What a TPM says is taken for nothing but what it says: each of these ends
// its challenge, and none gets a certificate.
func TestACMEFalseStatementsOfTPMs(t *testing.T) {
	w := openedForAKs(t)
	d, other := w.attested("GW-1"), w.attested("GW-2")
	c := w.opens()
	elsewhere := c.order(permanent("GW-1"))
	stranger := vendoridtest.New(t, "Strangers")
	signed := func(k attest.Key) any { return tpmStatement(k, d.chain...) }
	with := func(s map[string]any, name string, value any) any {
		s["attStmt"].(map[string]any)[name] = value
		return s
	}
	swapped := func(k attest.Key) attest.Key {
		d.NewKey()
		k.Public = d.Certify(nil).Public
		return k
	}
	for what, r := range map[string]struct {
		statement func(o *acmeOrder) any
		text      string
	}{
		"a swapped key": {func(o *acmeOrder) any { return signed(swapped(d.Certify(o.nonce()))) }, "certification parameters"},
		"a wrong nonce": {func(*acmeOrder) any { return signed(d.Certify(elsewhere.nonce())) }, "key authorization"},
		"an AK of another device": {func(o *acmeOrder) any {
			return tpmStatement(other.Certify(o.nonce()), other.chain...)
		}, `no permanent-identifier "GW-1"`},
		"another device's statement": {func(o *acmeOrder) any { return signed(other.Certify(o.nonce())) }, "certification parameters"},
		"a key that is no AK":        {func(o *acmeOrder) any { return signed(byKey(t, d.Device, o.nonce())) }, "certification parameters"},
		"a quote":                    {func(o *acmeOrder) any { return signed(quoted(d.Device, o.nonce())) }, "certification parameters"},
		"a key that can leave the TPM": {func(o *acmeOrder) any {
			loose := attesttest.KeyTemplate()
			loose.ObjectAttributes.FixedTPM, loose.ObjectAttributes.FixedParent = false, false
			d.NewKeyWith(loose)
			defer d.NewKey()
			return signed(d.Certify(o.nonce()))
		}, "certification parameters"},
		"an AK certificate of a CA that nobody trusts": {func(o *acmeOrder) any {
			return tpmStatement(d.Certify(o.nonce()), recertified(t, d.chain[0], stranger), stranger.Issuing.Cert.Raw)
		}, "no CA of a vendor that a product trusts for attestations"},
		"signed with RS1":   {func(o *acmeOrder) any { return with(tpmStatement(d.Certify(o.nonce()), d.chain...), "alg", -65535) }, "SHA-1"},
		"of another format": {func(o *acmeOrder) any { return with(tpmStatement(d.Certify(o.nonce()), d.chain...), "ver", "1.2") }, "version"},
	} {
		o := c.order(permanent("GW-1"))
		o.attestsBadly(what, r.statement(o), r.text, d.Key.CSR())
	}
	o := c.order(permanent("GW-1"))
	if a := o.attest(signed(d.Certify(o.nonce()))); a.json(t)["status"] != "valid" {
		t.Fatalf("the device itself: %s", a.body)
	}
	wantProblem(t, "finalized for another key", o.post(o.finalizeAt, map[string]string{"csr": b64url(other.Key.CSR())}), 400, "badCSR", "not the one that was attested")
	if n := w.evidenceOf(vetting.EvidenceBadAttestation); n == 0 {
		t.Error("no evidence was kept")
	}
	storetest.Verify(t, w.server.store)
}

// The attestation CA certifies no key that signs what it is given, and none
// that signs with SHA-1: with those anybody could make a TPM's statements.
func TestAttestationCAWantsAKs(t *testing.T) {
	w := openedForAKs(t)
	for text, spoil := range map[string]func(*tpm2.TPMTPublic){
		"restricted signing key": func(p *tpm2.TPMTPublic) { p.ObjectAttributes.Restricted = false },
		"hashes with":            func(p *tpm2.TPMTPublic) { *p = attesttest.SigningRSA(tpm2.TPMAlgSHA1) },
	} {
		ak := attesttest.SigningRSA(tpm2.TPMAlgSHA256)
		spoil(&ak)
		d := attesttest.NewWith(t, swtpm.New(t), attesttest.P384, ak)
		w.lists("of "+text, d.EK())
		if code, _, body := w.posts("attest", attest.AttestRequest{EK: d.EKPublic(), Params: d.Hello.AK}); code != 400 || !strings.Contains(body, text) {
			t.Errorf("want 400 and %q, got %d %s", text, code, body)
		}
	}
}

// byKey is the AK's word, signed by the device's own key.
func byKey(t *testing.T, d *attesttest.Device, nonce []byte) attest.Key {
	t.Helper()
	k := d.Certify(nonce)
	sum := sha256.Sum256(k.Attestation)
	sig, err := d.Key.Sign(nil, sum[:], nil)
	if err != nil {
		t.Fatal(err)
	}
	k.Signature = slices.Concat([]byte{0, 0x14, 0, 0x0b, byte(len(sig) >> 8), byte(len(sig))}, sig) // TPMT_SIGNATURE: RSASSA, SHA-256
	return k
}

// quoted says of registers what should be said of the key.
func quoted(d *attesttest.Device, nonce []byte) attest.Key {
	k, q := d.Certify(nonce), d.Quote(nonce, 7)
	k.Attestation, k.Signature = q.Attestation, q.Signature
	return k
}

// recertified is an AK's certificate as another CA would have made it.
func recertified(t *testing.T, der []byte, by *vendoridtest.Maker) []byte {
	t.Helper()
	ak := parsed(t, der)
	ak.ExtraExtensions = slices.DeleteFunc(slices.Clone(ak.Extensions), func(e pkix.Extension) bool { return !e.Id.Equal(asn1.ObjectIdentifier{2, 5, 29, 17}) })
	made, err := x509.CreateCertificate(rand.Reader, ak, by.Issuing.Cert, ak.PublicKey, by.Issuing.Key)
	if err != nil {
		t.Fatal(err)
	}
	return made
}
