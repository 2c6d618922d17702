package server

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/json"
	"math/big"
	"net/http"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/google/go-tpm/tpm2"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/attest"
	"github.com/touchmark/touchmark/enroll/attest/attesttest"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/internal/swtpm"
	"github.com/touchmark/touchmark/vetting"
)

// tpmWorld is a server with a product that takes TPMs.
type tpmWorld struct {
	*works
}

func openedForTPMs(t *testing.T, change func(*vetting.Product)) *tpmWorld {
	t.Helper()
	w := &tpmWorld{opened(t)}
	p := *w.world.Product
	p.Proofs = append(p.Proofs, vetting.ProofTPM)
	if change != nil {
		change(&p)
	}
	changed, err := w.server.store.UpdateProduct(t.Context(), storetest.By, &p)
	if err != nil {
		t.Fatal(err)
	}
	w.world.Product = changed
	return w
}

// lists hands in a record with an endorsement key.
func (w *tpmWorld) lists(serial string, ek vetting.Fingerprint) {
	w.t.Helper()
	w.world.Load(w.t, vetting.Record{Identity: vetting.Identity{Serial: serial}, Made: vetting.Manufacturing{EKHash: ek.String()}})
}

// posts sends a message of the exchange.
func (w *tpmWorld) posts(what string, message any) (code int, header http.Header, body string) {
	w.t.Helper()
	text, err := json.Marshal(message)
	if err != nil {
		w.t.Fatal(err)
	}
	resp, answer := w.send(v13, pair{}, "POST", "/device/v1/tpm/"+what, string(text), "Content-Type", "application/json")
	return resp.StatusCode, resp.Header, answer
}

// challenged sends the first message.
func (w *tpmWorld) challenged(d *attesttest.Device) *attest.Challenge {
	w.t.Helper()
	code, _, body := w.posts("challenge", d.Hello)
	c := new(attest.Challenge)
	if err := json.Unmarshal([]byte(body), c); code != 200 || err != nil {
		w.t.Fatalf("challenge: %d %s %v", code, body, err)
	}
	return c
}

// tpmProof is the second message.
type tpmProof struct {
	*attest.Proof
	CSR []byte `json:"csr"`
}

func (w *tpmWorld) proves(d *attesttest.Device) tpmProof {
	w.t.Helper()
	return tpmProof{d.Prove(w.challenged(d)), d.Key.CSR()}
}

// refuses wants a second message to be refused by vetting, with evidence of a
// kind, or none.
func (w *tpmWorld) refuses(m any, text string, kind vetting.EvidenceKind) {
	w.t.Helper()
	code, _, body := w.posts("enrol", m)
	if code != 403 || !strings.Contains(body, text) {
		w.t.Errorf("%d %s, want 403 and %q", code, body, text)
	}
	if kind != "" && w.evidenceOf(kind) == 0 { // of the same claim it is kept once
		w.t.Errorf("no evidence of %s", kind)
	}
}

func (w *tpmWorld) evidenceOf(kind vetting.EvidenceKind) (n int) {
	w.t.Helper()
	list, err := w.server.store.Evidence(w.t.Context(), vetting.EvidenceFilter{Kind: kind}, vetting.Page{})
	if err != nil {
		w.t.Fatal(err)
	}
	return len(list)
}

// A device whose record lists its endorsement key enrols by its TPM, asks
// again, and takes one unit.
func TestEnrolmentByTPM(t *testing.T) {
	w := openedForTPMs(t, nil)
	d := attesttest.New(t, swtpm.New(t), attesttest.P384)
	w.lists("G-1", d.EK())
	m := w.proves(d)
	code, header, first := w.posts("enrol", m)
	if code != 200 || header.Get("Content-Type") != "application/json" {
		t.Fatalf("%d %s", code, first)
	}
	if code, _, again := w.posts("enrol", m); code != 200 || again != first {
		t.Errorf("asked twice: %d %s", code, again)
	}
	if code, _, again := w.posts("enrol", w.proves(d)); code != 200 || again != first {
		t.Errorf("asked anew: %d %s", code, again)
	}
	w.enrolled(1)
}

// official enrols a device, and gives its certificate with its key.
func (w *tpmWorld) official(d *attesttest.Device) pair {
	w.t.Helper()
	code, _, body := w.posts("enrol", w.proves(d))
	var answer struct {
		Certificate []byte   `json:"certificate"`
		CAs         [][]byte `json:"cas"`
	}
	if err := json.Unmarshal([]byte(body), &answer); code != 200 || err != nil || len(answer.CAs) == 0 {
		w.t.Fatalf("%d %s %v", code, body, err)
	}
	cert, err := x509.ParseCertificate(answer.Certificate)
	if err != nil {
		w.t.Fatal(err)
	}
	return pair{d.Key, cert}
}

// forged runs the exchange, lets a test change the second message, and wants
// it to be refused as untrue, with evidence.
func (w *tpmWorld) forged(d *attesttest.Device, text string, forge func(*tpmProof)) {
	w.t.Helper()
	m := w.proves(d)
	forge(&m)
	w.refuses(m, text, vetting.EvidenceAttestation)
}

// A TPM that is who it says, and lies about the key.
func TestFalseStatements(t *testing.T) {
	w := openedForTPMs(t, nil)
	tpm := swtpm.New(t)
	d := attesttest.New(t, tpm, attesttest.P384)
	w.lists("G-1", d.EK())
	w.forged(d, "another key than the certificate request's", func(m *tpmProof) { _, m.CSR = w.request(nil) })
	w.forged(d, "not made by a TPM", func(m *tpmProof) { m.Key.Attestation[0] ^= 1 })
	w.forged(d, "not signed by the AK", func(m *tpmProof) { m.Key.Attestation[len(m.Key.Attestation)-1] ^= 1 })
	w.forged(d, "another nonce", func(m *tpmProof) { m.Key = d.Certify(attesttest.Nonce([]byte("an older answer"))) })
	w.forged(d, "another key than key.public", func(m *tpmProof) {
		before := m.Key
		d.NewKey()
		m.CSR, m.Key.Public = d.Key.CSR(), d.Certify(nil).Public
		m.Key.Attestation, m.Key.Signature = before.Attestation, before.Signature
	})
	w.forged(d, "a statement of type", func(m *tpmProof) {
		m.Key.Attestation, m.Key.Signature = m.Quote.Attestation, m.Quote.Signature
	})
	w.forged(d, "may exist outside the TPM", func(m *tpmProof) {
		template := attesttest.KeyTemplate()
		template.ObjectAttributes.FixedParent, template.ObjectAttributes.FixedTPM = false, false
		d.NewKeyWith(template)
		m.Key, m.CSR = d.Certify(attesttest.Nonce(m.Answer)), d.Key.CSR()
		d.NewKey()
	})
	w.forged(d, "other values", func(m *tpmProof) { m.Quote.PCRs[7][0] ^= 1 })
	w.forged(d, "about the registers [7]", func(m *tpmProof) { m.Quote.PCRs[0] = make([]byte, 32) })
	w.forged(d, "another nonce", func(m *tpmProof) { m.Quote = d.Quote(nil, 7) })
	w.enrolled(0)
	if code, _, body := w.posts("enrol", w.proves(d)); code != 200 {
		t.Errorf("the true statement after all: %d %s", code, body)
	}
	w.enrolled(1)
}

// Statements of a key that is no attestation key, and forms that are none,
// prove nothing and are nobody's lie.
func TestKeysThatAttestNothing(t *testing.T) {
	w := openedForTPMs(t, nil)
	tpm := swtpm.New(t)
	unrestricted := attesttest.Signing()
	unrestricted.ObjectAttributes.Restricted = false
	loose := attesttest.Signing()
	loose.ObjectAttributes.FixedTPM, loose.ObjectAttributes.FixedParent = false, false
	for text, template := range map[string]tpm2.TPMTPublic{
		"restricted signing key": unrestricted, "make it in the TPM": loose, "hashes with 0x4": attesttest.SigningRSA(tpm2.TPMAlgSHA1),
	} {
		t.Run(text, func(t *testing.T) {
			d := attesttest.NewWith(t, tpm, attesttest.P256, template)
			if code, _, body := w.posts("challenge", d.Hello); code != 400 || !strings.Contains(body, text) {
				t.Errorf("%d %s", code, body)
			}
		})
	}
	d := attesttest.New(t, tpm, attesttest.P384)
	good, err := json.Marshal(d.Hello)
	if err != nil {
		t.Fatal(err)
	}
	for text, spoil := range map[string]func(*attest.Hello){
		"of another key than ek.public":                func(h *attest.Hello) { h.EK.Certificates = h.EK.Certificates[1:] },
		"is not X.509":                                 func(h *attest.Hello) { h.EK.Certificates[0] = []byte{0x30, 0x80} },
		"at most 5":                                    func(h *attest.Hello) { h.EK.Certificates = make([][]byte, 6) },
		"bytes after its end":                          func(h *attest.Hello) { h.EK.Public = append(h.EK.Public, 0) },
		"restricted decryption key":                    func(h *attest.Hello) { h.EK.Public, h.EK.Certificates = h.AK.Public, nil },
		"want 1 to 1024":                               func(h *attest.Hello) { h.AK.Public = make([]byte, 2000) },
		"other creation data":                          func(h *attest.Hello) { h.AK.CreateData[len(h.AK.CreateData)-3] ^= 1 },
		"ak.createAttestation is not signed by the AK": func(h *attest.Hello) { h.AK.CreateSignature[len(h.AK.CreateSignature)-1] ^= 1 },
	} {
		var h attest.Hello
		if err := json.Unmarshal(good, &h); err != nil {
			t.Fatal(err)
		}
		spoil(&h)
		if code, _, body := w.posts("challenge", h); code != 400 || !strings.Contains(body, text) {
			t.Errorf("want 400 and %q, got %d %s", text, code, body)
		}
	}
	if n := w.evidenceOf(""); n != 0 {
		t.Errorf("%d signs of evidence of what anybody may send", n)
	}
}

// Who does not have the TPM gets nowhere with what it once said.
func TestAnswersWithoutTheTPM(t *testing.T) {
	w := openedForTPMs(t, nil)
	vendor := swtpm.NewVendor(t)
	genuine, thief := attesttest.New(t, vendor.New(t), attesttest.P384), attesttest.New(t, vendor.New(t), attesttest.P384)
	w.lists("G-1", genuine.EK())
	stale := w.proves(genuine)
	began := func(text string, change func(*tpmProof)) {
		t.Helper()
		m := stale
		p := *stale.Proof
		m.Proof = &p
		change(&m)
		if code, _, body := w.posts("enrol", m); code != 401 || !strings.Contains(body, text) {
			t.Errorf("want 401 and %q, got %d %s", text, code, body)
		}
	}
	began("not what was encrypted", func(m *tpmProof) { m.Answer = make([]byte, 32) })
	began("not what was encrypted", func(m *tpmProof) { m.Challenge = w.challenged(genuine).Challenge })
	began("not one of this server's", func(m *tpmProof) { m.Challenge = "" })
	began("not what was encrypted", func(m *tpmProof) { m.AK = thief.Hello.AK }) // another AK with the genuine EK
	// The thief's TPM cannot decrypt what is for the genuine one, or for
	// another AK.
	h := thief.Hello
	h.EK = genuine.Hello.EK
	code, _, body := w.posts("challenge", h)
	var c attest.Challenge
	if err := json.Unmarshal([]byte(body), &c); code != 200 || err != nil {
		t.Fatalf("%d %s %v", code, body, err)
	}
	if thief.Activate(&c) != nil {
		t.Error("another TPM decrypts the credential")
	}
	w.ahead.Add(int64(attest.ChallengeLife) + int64(2*time.Second))
	began("too old", func(*tpmProof) {})
	w.enrolled(0)
}

// Which TPM is which device's.
func TestTPMsOfOthers(t *testing.T) {
	vendor, other := swtpm.NewVendor(t), swtpm.NewVendor(t)
	one := attesttest.New(t, vendor.New(t), attesttest.P384)
	two := attesttest.New(t, vendor.New(t), attesttest.P384)
	foreign := attesttest.New(t, other.New(t), attesttest.P384)
	w := openedForTPMs(t, func(p *vetting.Product) {
		p.TPM.Makers = []vetting.Vendor{{Name: "example", Anchors: attesttest.PEM(vendor.Root)}}
	})
	w.lists("G-1", one.EK())
	w.world.Load(t, vetting.Record{Identity: vetting.Identity{Serial: "G-2"}})
	one.Hello.Serial = "G-2"
	w.refuses(w.proves(one), "the record of this device has", vetting.EvidenceMismatch)
	two.Hello.Serial = "G-1"
	w.refuses(w.proves(two), "with another TPM", vetting.EvidenceWrongKey)
	two.Hello.Serial = "G-9"
	w.refuses(w.proves(two), "No manufacturing record", vetting.EvidenceUnknownDevice)
	two.Hello.Serial = "G-2"
	w.refuses(w.proves(two), "from the networks of its site only", vetting.EvidenceWrongSite)
	foreign.Hello.Serial = "G-2"
	w.refuses(w.proves(foreign), "trusts no maker", "")
	one.Hello.Serial, one.Hello.EK.Certificates = "G-1", nil
	w.refuses(w.proves(one), "trusts no maker", "")
	w.enrolled(0)

	site := *w.world.Site
	site.Networks = []string{"127.0.0.0/8", "::1/128"}
	if _, err := w.server.store.UpdateSite(t.Context(), storetest.By, &site); err != nil {
		t.Fatal(err)
	}
	if code, _, body := w.posts("enrol", w.proves(two)); code != 200 {
		t.Errorf("a maker's TPM from the site: %d %s", code, body)
	}
	w.enrolled(1)
}

// A product says which registers are quoted; its rules judge them.
func TestQuotedRegisters(t *testing.T) {
	w := openedForTPMs(t, func(p *vetting.Product) {
		p.TPM.PCRs = []int{0, 9}
		p.Rules = []vetting.Rule{{Name: "booted", Expression: `tpm.pcrs["9"] == "` + strings.Repeat("0", 64) + `" && !("7" in tpm.pcrs)`, Otherwise: vetting.Refused, Text: "booted otherwise"}}
	})
	machine := swtpm.New(t)
	d := attesttest.New(t, machine, attesttest.P384)
	wants := func(what string, want ...int) *attest.Challenge {
		t.Helper()
		c := w.challenged(d)
		if !slices.Equal(c.PCRs, want) {
			t.Errorf("%s: the registers %v are to be quoted, want %v", what, c.PCRs, want)
		}
		return c
	}
	wants("of a TPM that nobody knows", 0, 1, 2, 3, 4, 5, 6, 7)
	d.Hello.Product = w.world.Product.Name
	wants("of a product", 0, 9)
	d.Hello.Product = "none"
	wants("of no product", 0, 1, 2, 3, 4, 5, 6, 7)
	d.Hello.Product = ""
	w.lists("G-1", d.EK())
	c := wants("of a record", 0, 9)
	m := tpmProof{d.Prove(c), d.Key.CSR()} // which quotes 7
	w.refuses(m, "booted otherwise", "")
	m.Quote = d.Quote(attesttest.Nonce(m.Answer), 0, 9)
	if code, _, body := w.posts("enrol", m); code != 200 {
		t.Errorf("with the registers that the product wants: %d %s", code, body)
	}
	w.enrolled(1)
}

// A device that is in service has no more use for its TPM's word, and where
// keys must be attested renews on its own.
func TestAttestedKeys(t *testing.T) {
	w := openedForTPMs(t, func(p *vetting.Product) { p.TPM.Attested = true })
	d := attesttest.New(t, swtpm.New(t), attesttest.P256)
	w.lists("G-1", d.EK())
	bare := w.build("S-1", w.now().Add(time.Hour))
	_, csr := w.request(nil)
	if code, _, body := w.est(v13, bare, "simpleenroll", csr); code != 403 || !strings.Contains(body, "only keys that a TPM attested") {
		t.Errorf("a key without a TPM: %d %s", code, body)
	}
	official := w.official(d)
	_, csr = w.request(official.cert)
	if code, _, body := w.est(v13, official, "simplereenroll", csr); code != 403 || !strings.Contains(body, "renews on its own key only") {
		t.Errorf("renewal on another key: %d %s", code, body)
	}
	if code, _, body := w.est(v13, official, "simplereenroll", w.sameKey(official)); code != 200 {
		t.Errorf("renewal on its key: %d %s", code, body)
	}
	w.refuses(w.proves(d), "no longer counts", vetting.EvidenceSpentKey)
	w.enrolled(1)
}

// renews sends the second message with an official certificate in the
// handshake.
func (w *tpmWorld) renews(by pair, m any) (code int, body string) {
	w.t.Helper()
	text, err := json.Marshal(m)
	if err != nil {
		w.t.Fatal(err)
	}
	resp, answer := w.send(v13, by, "POST", "/device/v1/tpm/enrol", string(text), "Content-Type", "application/json")
	return resp.StatusCode, answer
}

// Where keys must be attested, a device renews on another key by its official
// one and its TPM's word on the new one: both, and of that device.
func TestAttestedRenewal(t *testing.T) {
	w := openedForTPMs(t, func(p *vetting.Product) { p.TPM.Attested = true })
	tpm, other := swtpm.New(t), swtpm.New(t)
	d, neighbour := attesttest.New(t, tpm, attesttest.P256), attesttest.New(t, other, attesttest.P256)
	w.lists("G-1", d.EK())
	w.lists("G-2", neighbour.EK())
	official := w.official(d)
	wants := func(what string, m any, text string, kind vetting.EvidenceKind) {
		t.Helper()
		if code, body := w.renews(official, m); code != 403 || !strings.Contains(body, text) || kind != "" && w.evidenceOf(kind) == 0 {
			t.Errorf("%s: %d %s, %d pieces of evidence", what, code, body, w.evidenceOf(kind))
		}
	}
	wants("a neighbour's TPM", w.proves(neighbour), "is not the device's", vetting.EvidenceWrongKey)
	d.NewKey()
	lie := w.proves(d)
	_, lie.CSR = w.request(nil)
	wants("a key outside", lie, "another key than the certificate request's", vetting.EvidenceAttestation)
	m := w.proves(d)
	code, body := w.renews(official, m)
	var answer struct {
		Certificate []byte `json:"certificate"`
	}
	if err := json.Unmarshal([]byte(body), &answer); code != 200 || err != nil {
		t.Fatalf("%d %s %v", code, body, err)
	}
	renewed := parsed(t, answer.Certificate)
	if print, err := vetting.PublicKeyFingerprint(d.Key.Public()); err != nil || vetting.KeyFingerprint(renewed.RawSubjectPublicKeyInfo) != print || print == vetting.KeyFingerprint(official.cert.RawSubjectPublicKeyInfo) {
		t.Errorf("the certificate is on another key than the one that was attested: %v", err)
	}
	code, again := w.renews(official, m)
	if code != 200 || again != body {
		t.Errorf("asked again: %d %s", code, again)
	}
	if n := w.device("G-1").Certificate; n != enroll.SerialHex(renewed) {
		t.Errorf("the device's certificate is %s", n)
	}
	w.enrolled(1)
	storetest.Verify(t, w.server.store)
}

// selfSigned is a certificate by which a device speaks with a key of its TPM.
func (w *tpmWorld) selfSigned(d *attesttest.Device) pair {
	w.t.Helper()
	der, err := x509.CreateCertificate(rand.Reader, bootstrapTemplate(w.now()), bootstrapTemplate(w.now()), d.Key.Public(), d.Key)
	if err != nil {
		w.t.Fatal(err)
	}
	return pair{d.Key, parsed(w.t, der)}
}

func bootstrapTemplate(now time.Time) *x509.Certificate {
	return &x509.Certificate{SerialNumber: big.NewInt(1), NotBefore: now.Add(-time.Hour), NotAfter: now.Add(time.Hour)}
}

// The exchange over MQTT, signed by the key that is to be certified.
func TestTPMOverMQTT(t *testing.T) {
	w := openedForTPMs(t, nil)
	d := attesttest.New(t, swtpm.New(t), attesttest.P256)
	w.lists("G-1", d.EK())
	unit := w.selfSigned(d)
	c := w.mqtt(unit, "device")
	c.subscribe(branchOf(unit) + "/reply")
	ask := func(by pair, c *mqttClient, operation, nonce string, proof any, csr []byte) mqttReply {
		t.Helper()
		m := map[string]any{"operation": operation, "nonce": nonce, "reply": branchOf(by) + "/reply", "tpm": proof}
		if csr != nil {
			m["csr"] = csr
		}
		answers, cut := c.publish(branchOf(by)+"/request", w.signed(by, w.now(), m))
		if cut || len(answers) != 1 {
			t.Fatalf("%d answers, cut off: %v", len(answers), cut)
		}
		return w.replied(answers[0])
	}
	first := ask(unit, c, "tpm-challenge", nonce1, d.Hello, nil)
	if first.Status != 200 || first.TPM == nil {
		t.Fatalf("%+v", first)
	}
	proof := d.Prove(first.TPM)
	stranger := w.build("S-1", w.now().Add(time.Hour))
	other := w.mqtt(stranger, "stranger")
	other.subscribe(branchOf(stranger) + "/reply")
	if r := ask(stranger, other, "tpm-enrol", nonce1, proof, d.Key.CSR()); r.Status != 403 || !strings.Contains(r.Text, "signed by the key to be certified") {
		t.Errorf("signed by another key: %+v", r)
	}
	if r := ask(unit, c, "tpm-enrol", nonce2, nil, d.Key.CSR()); r.Status != 400 {
		t.Errorf("without the TPM's word: %+v", r)
	}
	bad := *proof
	bad.Answer = nil
	if r := ask(unit, c, "tpm-enrol", nonce2, bad, d.Key.CSR()); r.Status != 401 {
		t.Errorf("without the answer: %+v", r)
	}
	w.enrolled(0)
	r := ask(unit, c, "tpm-enrol", nonce2, proof, d.Key.CSR())
	if r.Status != 200 || len(r.CAs) == 0 || parsed(t, r.Certificate).Subject.SerialNumber != "G-1" {
		t.Errorf("%+v", r)
	}
	if again := ask(unit, c, "tpm-enrol", nonce3, proof, d.Key.CSR()); again.Status != 200 || string(again.Certificate) != string(r.Certificate) {
		t.Errorf("asked again: %+v", again)
	}
	w.enrolled(1)
}
