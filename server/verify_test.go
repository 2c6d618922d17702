package server

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"math/big"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// ask posts to the operators' API as the administrator.
func (w *works) ask(path string, body any, want int, out any) {
	w.t.Helper()
	answer := send(w.t, as(w.t, w.config, "admin"), "POST", "https://"+w.server.Addrs()["api"]+"/api/v1"+path, body, want)
	if out != nil {
		if err := json.Unmarshal(answer, out); err != nil {
			w.t.Fatalf("%v in %s", err, answer)
		}
	}
}

// verdict is what POST /verify says of a certificate.
func (w *works) verdict(cert *x509.Certificate) (vetting.Authenticity, string) {
	w.t.Helper()
	var r struct {
		Verdict vetting.Authenticity
		Reasons []vetting.Reason
	}
	w.ask("/verify", map[string]string{"certificate": base64.StdEncoding.EncodeToString(cert.Raw)}, 200, &r)
	var codes []string
	for _, reason := range r.Reasons {
		codes = append(codes, string(reason.Code))
	}
	return r.Verdict, strings.Join(codes, " ")
}

func (w *works) expect(cert *x509.Certificate, verdict vetting.Authenticity, code vetting.Code) {
	w.t.Helper()
	if v, codes := w.verdict(cert); v != verdict || !strings.Contains(codes, string(code)) {
		w.t.Errorf("the verdict is %s (%s), want %s (%s)", v, codes, verdict, code)
	}
}

// Certificates as the CA made them and as forgers would.
func TestVerifyCertificates(t *testing.T) {
	w := opened(t)
	soon := w.now().Add(time.Hour)
	boot := w.build("A-1", soon)
	w.expect(boot.cert, vetting.Genuine, vetting.ReasonNotLetIn)
	official := w.enrol(v13, boot, "simpleenroll", nil)
	w.expect(official.cert, vetting.Genuine, vetting.ReasonCertificateGood)
	renewed := w.enrol(v13, official, "simplereenroll", official.cert)
	w.expect(renewed.cert, vetting.Genuine, vetting.ReasonCertificateGood)
	w.expect(official.cert, vetting.Suspect, vetting.ReasonSuperseded)
	w.expect(boot.cert, vetting.Suspect, vetting.ReasonBootstrapSpent)
	w.expect(w.issued("A-1", pair{}, soon).cert, vetting.Counterfeit, vetting.ReasonWrongKey)
	w.expect(w.issued("S-1", w.issued("Stranger CA", pair{}, soon), soon).cert, vetting.Unknown, vetting.ReasonForeign)

	device := w.server.authorities.Device
	own, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	sign := func(serial *big.Int, by crypto.Signer) *x509.Certificate {
		t.Helper()
		der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: serial, NotAfter: soon}, device.Certificate, own.Public(), by)
		if err != nil {
			t.Fatal(err)
		}
		cert, err := x509.ParseCertificate(der)
		if err != nil {
			t.Fatal(err)
		}
		return cert
	}
	for name, tt := range map[string]struct {
		cert    *x509.Certificate
		verdict vetting.Authenticity
		code    vetting.Code
	}{
		"signed by the CA's key, but not by this server": {sign(big.NewInt(4711), device.Signer), vetting.Counterfeit, vetting.ReasonForged},
		"a copy of a serial number":                      {sign(renewed.cert.SerialNumber, device.Signer), vetting.Counterfeit, vetting.ReasonForged},
		"made by this server, but not in the database":   {sign(w.server.authorities.Serials.New(), device.Signer), vetting.Suspect, vetting.ReasonNotKept},
	} {
		t.Run(name, func(*testing.T) { w.expect(tt.cert, tt.verdict, tt.code) })
	}
	tampered := *renewed.cert
	tampered.Raw = append([]byte{}, renewed.cert.Raw...)
	tampered.Raw[len(tampered.Raw)-1] ^= 1
	w.expect(&tampered, vetting.Counterfeit, vetting.ReasonForged)
	list, err := w.server.store.Evidence(t.Context(), vetting.EvidenceFilter{}, vetting.Page{})
	if err != nil || len(list) != 4 {
		t.Errorf("%d signs were kept (%v), want one for each of the four", len(list), err)
	}
}

// A device proves its key by a signature that somebody passes on, and over
// TLS; another one's answer counts against both.
func TestChallenge(t *testing.T) {
	w := opened(t)
	soon := w.now().Add(time.Hour)
	a := w.enrol(v13, w.build("A-1", soon), "simpleenroll", nil)
	b := w.enrol(v13, w.build("B-1", soon), "simpleenroll", nil)
	challenge := func(body map[string]any) (c vetting.Challenge) {
		t.Helper()
		w.ask("/challenges", body, 201, &c)
		return c
	}
	toA := map[string]any{"device": w.device("A-1").ID}
	answer := func(c vetting.Challenge, signature []byte, status int) (out vetting.Challenge) {
		t.Helper()
		w.ask(fmt.Sprintf("/challenges/%d/answer", c.ID), map[string]string{"signature": base64.StdEncoding.EncodeToString(signature)}, status, &out)
		return out
	}
	sign := func(p pair, n vetting.Nonce) []byte {
		t.Helper()
		spki := sha256.Sum256(p.cert.RawSubjectPublicKeyInfo)
		sum := sha256.Sum256(append(append([]byte("Touchmark proof of possession, version 1\x00"), n[:]...), spki[:]...))
		sig, err := ecdsa.SignASN1(rand.Reader, p.key.(*ecdsa.PrivateKey), sum[:])
		if err != nil {
			t.Fatal(err)
		}
		return sig
	}
	c := challenge(map[string]any{"certificate": fmt.Sprintf("%034X", a.cert.SerialNumber)})
	if got := answer(c, sign(a, c.Nonce), 200); got.Result.Outcome != vetting.Proved || w.device("A-1").State != vetting.DeviceActive {
		t.Errorf("by signature: %+v", got.Result)
	}
	w.expect(a.cert, vetting.Genuine, vetting.ReasonProved)
	answer(c, sign(a, c.Nonce), 409) // twice

	c = challenge(toA)
	if got := answer(c, sign(b, c.Nonce), 200); got.Result.Reason != vetting.ReasonWrongSignature {
		t.Errorf("another's signature: %+v", got.Result)
	}
	w.expect(a.cert, vetting.Suspect, vetting.ReasonProofFailed)

	c = challenge(toA)
	path := "/device/v1/challenges/" + c.Nonce.String()
	for name, tt := range map[string]struct {
		who  pair
		path string
		code int
	}{
		"nobody":          {pair{}, path, 401},
		"a bootstrap key": {w.build("C-1", soon), path, 403},
		"no nonce":        {a, "/device/v1/challenges/x", 400},
		"another nonce":   {a, "/device/v1/challenges/" + vetting.Nonce{1}.String(), 404},
	} {
		if code, _, body := w.own(tt.who, "POST", tt.path); code != tt.code {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
	for range 2 { // the second time because the answer may have been lost
		if code, _, body := w.own(a, "POST", path); code != 200 || !strings.Contains(body, `"proved"`) {
			t.Errorf("by TLS: %d %s", code, body)
		}
	}
	if code, _, body := w.own(b, "POST", path); code != 409 {
		t.Errorf("another's answer to an answered challenge: %d %s", code, body)
	}

	c = challenge(toA)
	if code, _, body := w.own(b, "POST", "/device/v1/challenges/"+c.Nonce.String()); code != 403 || !strings.Contains(body, "Another device") {
		t.Errorf("another device: %d %s", code, body)
	}
	if list, err := w.server.store.Evidence(t.Context(), vetting.EvidenceFilter{Kind: vetting.EvidenceForeignProof}, vetting.Page{}); err != nil || len(list) != 2 {
		t.Errorf("%d signs were kept (%v), want one against each", len(list), err)
	}

	c = challenge(map[string]any{"device": toA["device"], "lifetime": "10s"})
	w.ahead.Store(int64(time.Minute))
	answer(c, sign(a, c.Nonce), 409) // late
	for _, bad := range []map[string]any{{}, {"device": 1, "certificate": "0a"}, {"device": toA["device"], "lifetime": "2h"}, {"device": toA["device"], "lifetime": "soon"}} {
		w.ask("/challenges", bad, 422, nil)
	}
	w.ask("/challenges", map[string]any{"device": 1 << 40}, 404, nil)
	c = challenge(toA)
	w.ask(fmt.Sprintf("/challenges/%d/answer", c.ID), map[string]string{"signature": "?"}, 422, nil)
	w.ask(fmt.Sprintf("/challenges/%d/answer", c.ID), map[string]string{"signature": "AAAA", "certificate": "00"}, 422, nil)
	answer(c, sign(a, c.Nonce), 200) // what could not be read was no answer
}
