package ocsp_test

import (
	"bytes"
	"crypto"
	"crypto/elliptic"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"io"
	"math/big"
	"net/http"
	"sync"
	"testing"
	"time"

	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/ocsp/ocsptest"
)

func TestStatuses(t *testing.T) {
	p := newPKI(t)
	kept, lost := issue(), issue()
	p.says("before anything happened", p.id(kept), "good")
	p.says("before anything happened", p.id(lost), "good")
	p.becomes(lost, ocsp.KeyCompromise)
	p.says("another's revocation", p.id(kept), "good")
	s := p.says("revoked", p.id(lost), "revoked")
	if s.Revoked.Reason != 1 || !s.Revoked.Time.Equal(p.now.Add(-time.Minute).Truncate(time.Second)) {
		t.Errorf("revoked for %d at %v", s.Revoked.Reason, s.Revoked.Time)
	}
	if !s.ThisUpdate.Equal(p.now.Truncate(time.Second)) || s.NextUpdate.Sub(s.ThisUpdate) != time.Hour {
		t.Errorf("from %v to %v", s.ThisUpdate, s.NextUpdate)
	}
	p.becomes(kept, ocsp.CertificateHold)
	if s := p.says("on hold", p.id(kept), "revoked"); s.Revoked.Reason != 6 {
		t.Errorf("on hold for %d", s.Revoked.Reason)
	}
	p.becomes(kept, ocsp.RemoveFromCRL)
	p.says("released", p.id(kept), "good")
	p.becomes(kept, ocsp.Unspecified)
	if s := p.says("revoked without a reason", p.id(kept), "revoked"); s.Revoked.Reason != 0 || len(s.Revoked.Raw) != 19 {
		t.Errorf("reason %d in %x", s.Revoked.Reason, s.Revoked.Raw)
	}
}

// TestRevocationIsNeverLate asks while certificates are revoked: once the
// change was applied, nobody is told good, whatever was signed or being signed
// before.
func TestRevocationIsNeverLate(t *testing.T) {
	p := newPKI(t)
	for range 20 {
		s := issue()
		der := ocsptest.Question{CertIDs: []ocsptest.CertID{p.id(s)}}.DER()
		var askers sync.WaitGroup
		for range 4 {
			askers.Go(func() {
				for range 20 {
					p.get(der, nil)
				}
			})
		}
		p.set.Apply([]ocsp.Change{{Serial: s, Reason: ocsp.KeyCompromise, Revoked: p.now}})
		p.says("revoked meanwhile", p.id(s), "revoked")
		askers.Wait()
		p.says("revoked", p.id(s), "revoked")
	}
}

func TestForged(t *testing.T) {
	p := newPKI(t)
	wrong := issue()
	wrong[16] ^= 1
	negative := new(big.Int).Neg(issue().Int())
	long := new(big.Int).Lsh(big.NewInt(1), 300)
	for _, serial := range []*big.Int{wrong.Int(), big.NewInt(0), big.NewInt(1), negative, long, wrong.Int()} {
		r := p.read(p.get(ocsptest.Question{CertIDs: []ocsptest.CertID{ocsptest.ID(crypto.SHA1, p.issuer, serial)}}.DER(), nil))
		s := r.Data.Responses[0]
		if s.Says() != "revoked" || s.Revoked.Reason != 6 || s.Revoked.Time.Unix() != 0 || !r.Extends || s.CertID.Serial.Cmp(serial) != 0 {
			t.Errorf("%v: %s for %d at %v, extended %v", serial, s.Says(), s.Revoked.Reason, s.Revoked.Time, r.Extends)
		}
	}
	list, lost := p.forged.Take()
	if len(list) != 4 || lost != 0 || list[0] != (ocsp.Forgery{Issuer: 7, Serial: string(wrong[:]), At: p.now}) {
		t.Errorf("collected %v, lost %d; want those that fit into a certificate, each once", list, lost)
	}
	if again, _ := p.forged.Take(); len(again) != 0 {
		t.Errorf("collected again: %v", again)
	}
	if n := p.responder.Counts.Forged.Load(); n != 6 {
		t.Errorf("counted %d", n)
	}
}

// TestGenuineForAnother asks about a certificate of one CA under another's
// name.
func TestGenuineForAnother(t *testing.T) {
	p := newPKI(t)
	other, _ := p.newCA("Other CA")
	list := []ocsp.Issuer{p.asIssuer(), {ID: 8, Certificate: other, Genuine: func(ocsp.Serial) bool { return false }, Credential: p.asIssuer().Credential}}
	if err := p.responder.SetIssuers(list); err != nil {
		t.Fatal(err)
	}
	der := ocsptest.Question{CertIDs: []ocsptest.CertID{ocsptest.ID(crypto.SHA256, other, issue().Int())}}.DER()
	p.post(der)
	if got, _ := p.forged.Take(); len(got) != 1 || got[0].Issuer != 8 {
		t.Errorf("collected %v", got)
	}
}

func TestForgeriesAreBounded(t *testing.T) {
	var f ocsp.Forgeries
	for i := range 5000 {
		f.Forged(ocsp.Forgery{Serial: string(big.NewInt(int64(i)).Bytes())})
	}
	list, lost := f.Take()
	if len(list) != 1000 || lost != 4000 {
		t.Errorf("%d waited, %d were lost", len(list), lost)
	}
}

func TestFormsOfCertID(t *testing.T) {
	p := newPKI(t)
	s := issue()
	p.becomes(s, ocsp.Superseded)
	for _, h := range []crypto.Hash{crypto.SHA1, crypto.SHA256, crypto.SHA384, crypto.SHA512} {
		id := ocsptest.ID(h, p.issuer, s.Int())
		p.says(h.String(), id, "revoked")
		id.Algorithm.Parameters = asn1.RawValue{}
		p.says(h.String()+" without parameters", id, "revoked")
		id.Algorithm.Parameters = asn1.RawValue{FullBytes: []byte{4, 0}}
		p.says(h.String()+" with other parameters", id, "unknown")
	}
	foreign, _ := p.newCA("Foreign CA")
	p.says("a foreign CA", ocsptest.ID(crypto.SHA1, foreign, s.Int()), "unknown")
	id := p.id(s)
	id.KeyHash = ocsptest.ID(crypto.SHA256, foreign, s.Int()).KeyHash
	p.says("our name with another key", id, "unknown")
	id = p.id(s)
	id.Algorithm.OID = ocsptest.OID(asn1.ObjectIdentifier{1, 2, 3})
	p.says("an unknown hash", id, "unknown")
	id = p.id(s)
	id.KeyHash = nil
	p.says("no hash", id, "unknown")
	if n, _ := p.forged.Take(); len(n) != 0 {
		t.Errorf("taken for forged: %v", n)
	}
}

func TestSeveralInOne(t *testing.T) {
	p := newPKI(t)
	foreign, _ := p.newCA("Foreign CA")
	var ids []ocsptest.CertID
	var want []string
	add := func(id ocsptest.CertID, says string) { ids, want = append(ids, id), append(want, says) }
	add(ocsptest.ID(crypto.SHA1, foreign, big.NewInt(5)), "unknown")
	for i := range ocsp.MaxCertIDs - 2 {
		s := issue()
		if i%3 == 0 {
			p.becomes(s, ocsp.KeyCompromise)
			add(p.id(s), "revoked")
		} else {
			add(ocsptest.ID(crypto.SHA1, p.issuer, s.Int()), "good")
		}
	}
	add(p.id(ocsp.Serial{1}), "revoked")
	r := p.ask(ids...)
	if len(r.Data.Responses) != len(want) || !r.Extends {
		t.Fatalf("status %d, %d answers, extended %v", r.Status, len(r.Data.Responses), r.Extends)
	}
	for i := range want {
		s := r.Data.Responses[i]
		if s.Says() != want[i] || s.CertID.Serial.Cmp(ids[i].Serial) != 0 {
			t.Fatalf("%d: %s about %v, want %s about %v", i, s.Says(), s.CertID.Serial, want[i], ids[i].Serial)
		}
	}
	if r := p.ask(append(ids, ids[0], ids[1])...); r.Status != 1 {
		t.Errorf("%d certificates in one: status %d, want malformedRequest", len(ids)+2, r.Status)
	}
}

func TestNonce(t *testing.T) {
	p := newPKI(t)
	s := issue()
	for n, want := range map[int]int{0: 1, 1: 0, 15: 0, 16: 0, 32: 0, 33: 0, 128: 0, 129: 1, 5000: 1} {
		nonce := bytes.Repeat([]byte{0xa5}, n)
		q := ocsptest.Question{CertIDs: []ocsptest.CertID{p.id(s)}, Extensions: []pkix.Extension{ocsptest.Nonce(nonce)}}
		rec := p.get(q.DER(), nil)
		r := p.read(rec)
		if r.Status != want || want == 0 && !bytes.Equal(r.Nonce, nonce) {
			t.Errorf("%d bytes: status %d, nonce %x", n, r.Status, r.Nonce)
		}
		if rec.Header().Get("Cache-Control") != "no-store" || rec.Header().Get("ETag") != "" {
			t.Errorf("%d bytes: an answer with a nonce may be cached: %v", n, rec.Header())
		}
	}
	if r := p.ask(p.id(s)); r.Nonce != nil {
		t.Error("a nonce that nobody sent")
	}
}

func TestHeaders(t *testing.T) {
	p := newPKI(t)
	der := ocsptest.Question{CertIDs: []ocsptest.CertID{p.id(issue())}}.DER()
	first := p.get(der, nil)
	h := first.Header()
	for name, want := range map[string]string{
		"Content-Type": "application/ocsp-response", "Last-Modified": "Wed, 04 Mar 2026 05:06:07 GMT", "Expires": "Wed, 04 Mar 2026 06:06:07 GMT",
		"Cache-Control": "max-age=900, public, no-transform, must-revalidate",
	} {
		if got := h.Get(name); got != want {
			t.Errorf("%s: %q, want %q", name, got, want)
		}
	}
	etag := h.Get("ETag")
	if len(etag) != 34 || etag[0] != '"' {
		t.Fatalf("ETag %s: want a strong one", etag)
	}
	p.now = p.now.Add(20 * time.Minute)
	p.follow()
	for _, value := range []string{etag, `"x", ` + etag, "W/" + etag, "*"} {
		rec := p.get(der, http.Header{"If-None-Match": {value}})
		if rec.Code != http.StatusNotModified || rec.Body.Len() != 0 || rec.Header().Get("ETag") != etag || rec.Header().Get("Expires") != h.Get("Expires") {
			t.Errorf("If-None-Match %s: %d %v", value, rec.Code, rec.Header())
		}
	}
	if rec := p.get(der, http.Header{"If-None-Match": {`"x"`}, "If-Modified-Since": {h.Get("Last-Modified")}}); rec.Code != 200 || !bytes.Equal(rec.Body.Bytes(), first.Body.Bytes()) {
		t.Errorf("another tag: %d", rec.Code)
	}
	p.now = p.now.Add(10 * time.Minute)
	p.follow()
	if rec := p.get(der, http.Header{"If-None-Match": {etag}}); rec.Code != 200 || rec.Header().Get("ETag") == etag || rec.Header().Get("Expires") != "Wed, 04 Mar 2026 06:36:07 GMT" {
		t.Errorf("after half its time: %d %v", rec.Code, rec.Header())
	}
	if h := p.post(der).Header(); h.Get("Cache-Control") != "no-store" || h.Get("ETag") != "" {
		t.Errorf("to POST: %v", h)
	}
}

// TestRevokedAnswerIsNotConfirmed revalidates an answer after its certificate
// was revoked.
func TestRevokedAnswerIsNotConfirmed(t *testing.T) {
	p := newPKI(t)
	s := issue()
	der := ocsptest.Question{CertIDs: []ocsptest.CertID{p.id(s)}}.DER()
	h := p.get(der, nil).Header()
	p.becomes(s, ocsp.KeyCompromise)
	rec := p.get(der, http.Header{"If-None-Match": {h.Get("ETag")}, "If-Modified-Since": {h.Get("Last-Modified")}})
	if r := p.read(rec); r.Data.Responses[0].Says() != "revoked" {
		t.Errorf("%d, %s", rec.Code, r.Data.Responses[0].Says())
	}
}

func TestTryLater(t *testing.T) {
	for name, c := range map[string]struct {
		spoil func(*pki)
		want  int
	}{
		"nothing loaded":     {func(p *pki) { p.responder.Known = func() (time.Time, bool) { return time.Time{}, false } }, 3},
		"stale":              {func(p *pki) { p.now = p.now.Add(5*time.Minute + 1) }, 3},
		"almost stale":       {func(p *pki) { p.now = p.now.Add(5 * time.Minute) }, 0},
		"clock of last year": {func(p *pki) { p.now = p.now.AddDate(-1, 0, 0) }, 3},
		"certificate ran out": {func(p *pki) {
			p.now = p.now.AddDate(0, 0, 8)
			p.follow()
		}, 3},
		"certificate still to come": {func(p *pki) { p.renew(p.now.Add(time.Second), p.now.Add(time.Hour)) }, 3},
		"no certificate":            {func(p *pki) { p.credential, p.unable = nil, errors.New("none yet") }, 3},
	} {
		t.Run(name, func(t *testing.T) {
			p := newPKI(t)
			known := p.id(issue())
			p.says("before", known, "good")
			c.spoil(p)
			// One that is in the cache may be told as long as it is right.
			rec := p.get(ocsptest.Question{CertIDs: []ocsptest.CertID{p.id(issue())}}.DER(), nil)
			r := p.read(rec)
			if r.Status != c.want || c.want == 3 && rec.Header().Get("Retry-After") == "" {
				t.Errorf("status %d, want %d; %v", r.Status, c.want, rec.Header())
			}
			if r := p.ask(known); c.want == 3 && r.Status == 0 && !r.Data.Responses[0].NextUpdate.After(p.now) {
				t.Error("an answer whose time is over")
			}
		})
	}
}

// TestAnswersEndWithTheirSigner looks at a responder whose certificate ends
// within the time that an answer would have.
func TestAnswersEndWithTheirSigner(t *testing.T) {
	p := newPKI(t)
	end := p.now.Add(10 * time.Minute)
	p.renew(p.now.Add(-time.Hour), end)
	s := p.says("at the end", p.id(issue()), "good")
	if !s.NextUpdate.Equal(end.Truncate(time.Second)) {
		t.Errorf("until %v, want %v", s.NextUpdate, end)
	}
}

func TestSignerFails(t *testing.T) {
	p := newPKI(t)
	key := newKey(t, elliptic.P256())
	cert := certificate(t, responderTemplate(p.now.Add(-time.Hour), p.now.Add(time.Hour)), p.issuer, key.Public(), p.key)
	c, err := ocsp.NewCredential(p.issuer, cert, brokenSigner{key})
	if err != nil {
		t.Fatal(err)
	}
	p.credential = c
	if r := p.ask(p.id(issue())); r.Status != 3 {
		t.Errorf("status %d, want tryLater", r.Status)
	}
}

type brokenSigner struct{ crypto.Signer }

func (brokenSigner) Sign(_ io.Reader, _ []byte, _ crypto.SignerOpts) ([]byte, error) {
	return nil, errors.New("the HSM is gone")
}

func TestCredentialIsRefused(t *testing.T) {
	p := newPKI(t)
	from, until := p.now.Add(-time.Hour), p.now.Add(time.Hour)
	key, other := newKey(t, elliptic.P256()), newKey(t, elliptic.P256())
	foreign, foreignKey := p.newCA("Foreign CA")
	plain := responderTemplate(from, until)
	plain.ExtKeyUsage = nil
	odd := newKey(t, elliptic.P521())
	for name, c := range map[string]struct {
		cert *x509.Certificate
		key  crypto.Signer
	}{
		"another CA's":     {certificate(t, responderTemplate(from, until), foreign, key.Public(), foreignKey), key},
		"not for OCSP":     {certificate(t, plain, p.issuer, key.Public(), p.key), key},
		"another key's":    {certificate(t, responderTemplate(from, until), p.issuer, key.Public(), p.key), other},
		"an unusual curve": {certificate(t, responderTemplate(from, until), p.issuer, odd.Public(), p.key), odd},
	} {
		if _, err := ocsp.NewCredential(p.issuer, c.cert, c.key); err == nil {
			t.Errorf("%s was taken", name)
		}
	}
	strong := newKey(t, elliptic.P384())
	c, err := ocsp.NewCredential(p.issuer, certificate(t, responderTemplate(from, until), p.issuer, strong.Public(), p.key), strong)
	if err != nil {
		t.Fatal(err)
	}
	p.credential = c
	p.says("by a P-384 key", p.id(issue()), "good")
}

func TestCacheIsBounded(t *testing.T) {
	p := newPKI(t)
	asked := make([]ocsp.Serial, 2500)
	for i := range asked {
		asked[i] = issue()
		p.ask(p.id(asked[i]))
	}
	n, size := p.responder.CacheSize()
	if n < 200 || size > 1<<20 {
		t.Errorf("%d answers in %d bytes", n, size)
	}
	signed := p.responder.Counts.Signed.Load()
	for range 10 {
		p.ask(p.id(asked[len(asked)-1]))
	}
	if again := p.responder.Counts.Signed.Load() - signed; again != 0 || p.responder.Counts.Cached.Load() != 10 {
		t.Errorf("signed %d of 10 again", again)
	}
}
