package enroll_test

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"log/slog"
	"testing"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/vetting"
)

// ledger is a Ledger whose commits go as the test says, one answer each.
type ledger struct {
	facts   vetting.Facts
	answers []error
	commits []enroll.Commit
	counted int
	sited   int // how often the site's networks were looked at
	looks   vetting.Looks
}

func (l *ledger) Facts(_ context.Context, c vetting.Claim) (vetting.Facts, error) {
	f := l.facts
	f.Claim = c
	return f, nil
}

func (l *ledger) Commit(_ context.Context, c enroll.Commit) (enroll.Committed, error) {
	l.commits = append(l.commits, c)
	err := l.answers[0]
	if len(l.answers) > 1 {
		l.answers = l.answers[1:]
	}
	return enroll.Committed{Registration: int64(len(l.commits))}, err
}

func (l *ledger) Count(_ context.Context, _ *vetting.Facts, looks vetting.Looks) (vetting.Counters, error) {
	l.counted++
	l.looks = looks
	return vetting.Counters{OrderLastHour: 7}, nil
}

func (l *ledger) OnSite(context.Context, *vetting.Facts) (bool, error) {
	l.sited++
	return true, nil
}

func (l *ledger) Activate(context.Context, string) error { return nil }

// issuer counts what it signs.
type issuer struct{ signed int }

func (i *issuer) Issue(context.Context, vetting.Admission, *x509.CertificateRequest) (enroll.Issued, error) {
	i.signed++
	return enroll.Issued{Serial: []byte{byte(i.signed)}, DER: []byte{0x30, byte(i.signed)}}, nil
}

func setup(t *testing.T, answers ...error) (*enroll.Enroller, *ledger, *issuer, enroll.Request) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "SN-1"}}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := enroll.ParseCSR(der)
	if err != nil {
		t.Fatal(err)
	}
	l := &ledger{answers: answers, facts: vetting.Facts{
		Record:  &vetting.Record{ID: 1, Identity: vetting.Identity{Serial: "SN-1"}},
		Product: &vetting.Product{Name: "thermo", Proofs: []vetting.Proof{vetting.ProofBootstrapKey}},
		Order:   &vetting.Order{Name: "po-1", Quantity: 10, State: vetting.OrderOpen},
		Device:  &vetting.Device{State: vetting.DeviceManufactured},
	}}
	i := new(issuer)
	e := &enroll.Enroller{Ledger: l, Issuer: i, Log: slog.New(slog.DiscardHandler), Now: time.Now, RetryAfter: time.Minute}
	return e, l, i, enroll.Request{CSR: csr, Claim: vetting.Claim{
		Key: vetting.KeyFingerprint(csr.RawSubjectPublicKeyInfo), Auth: vetting.Auth{Proof: vetting.ProofBootstrapKey}}}
}

func TestStaleVerdictIsMadeAnew(t *testing.T) {
	e, l, i, r := setup(t, enroll.ErrStale, enroll.ErrStale, nil)
	out, err := e.Enroll(context.Background(), r)
	if err != nil || out.Verdict != vetting.Admitted || len(l.commits) != 3 || i.signed != 3 {
		t.Fatalf("%+v, %v, %d commits, %d signed", out, err, len(l.commits), i.signed)
	}
	if out.Certificate[1] != 3 {
		t.Errorf("answered the certificate of attempt %d instead of the committed one", out.Certificate[1])
	}
}

func TestAlwaysStaleEnds(t *testing.T) {
	e, _, _, r := setup(t, enroll.ErrStale)
	if out, err := e.Enroll(context.Background(), r); !errors.Is(err, enroll.ErrStale) || out.Certificate != nil {
		t.Fatalf("%+v, %v", out, err)
	}
}

// A certificate leaves only after its commit: with the outcome unknown it
// stays inside.
func TestNoCertificateWithoutCommit(t *testing.T) {
	broken := errors.New("the disk is full")
	e, _, i, r := setup(t, broken)
	out, err := e.Enroll(context.Background(), r)
	if !errors.Is(err, broken) || out.Certificate != nil || i.signed != 1 {
		t.Fatalf("%+v, %v, %d signed", out, err, i.signed)
	}
}

func TestNothingIsSignedForOthersThanAdmitted(t *testing.T) {
	for want, change := range map[vetting.Outcome]func(*vetting.Facts){
		vetting.Refused: func(f *vetting.Facts) { f.Order.State = vetting.OrderClosed },
		vetting.Held:    func(f *vetting.Facts) { f.Order.State = vetting.OrderDraft },
	} {
		e, l, i, r := setup(t, nil)
		change(&l.facts)
		out, err := e.Enroll(context.Background(), r)
		if err != nil || out.Verdict != want || i.signed != 0 || out.Certificate != nil || l.commits[0].Issued != nil {
			t.Errorf("%s: %+v, %v, %d signed", want, out, err, i.signed)
		}
		if (out.RetryAfter > 0) != (want == vetting.Held) {
			t.Errorf("%s: retry after %v", want, out.RetryAfter)
		}
	}
}

func TestAskingTwiceWritesNothing(t *testing.T) {
	e, l, i, r := setup(t, errors.New("nothing may be written"))
	l.facts.Device.State = vetting.DeviceIssued
	l.facts.Current = &vetting.Certificate{Key: r.Claim.Key, State: vetting.CertificateValid, DER: []byte("the same"), NotAfter: time.Now().Add(time.Hour)}
	out, err := e.Enroll(context.Background(), r)
	if err != nil || string(out.Certificate) != "the same" || i.signed != 0 || len(l.commits) != 0 {
		t.Fatalf("%+v, %v, %d signed, %d commits", out, err, i.signed, len(l.commits))
	}
}

func FuzzParseCSR(f *testing.F) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		f.Fatal(err)
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: "SN-1"}}, key)
	if err != nil {
		f.Fatal(err)
	}
	f.Add(der)
	f.Add([]byte{0x30, 0x80})
	f.Fuzz(func(t *testing.T, der []byte) {
		csr, err := enroll.ParseCSR(der)
		var bad *enroll.RequestError
		switch {
		case err != nil && !errors.As(err, &bad):
			t.Errorf("the client's fault is reported as %T: %v", err, err)
		case err == nil && csr.CheckSignature() != nil:
			t.Error("accepted a request whose signature does not verify")
		case err == nil:
			if _, err := enroll.KeyKind(csr.PublicKey); err != nil {
				t.Errorf("accepted a key: %v", err)
			}
			_, _ = enroll.AssertedIdentity(csr.Subject.Names) // must not panic
		}
	})
}

// ruleBook gives every product the same rule, which looks at counters or not.
type ruleBook struct {
	looks vetting.Looks
	err   error
	seen  *vetting.Facts
}

func (r *ruleBook) Of(*vetting.Product) (vetting.RuleSet, vetting.Looks, error) {
	return r, r.looks, r.err
}

func (r *ruleBook) Broken(f *vetting.Facts) []vetting.BrokenRule {
	r.seen = f
	return []vetting.BrokenRule{{Rule: &vetting.Rule{Name: "never", Expression: "false", Otherwise: vetting.Refused}}}
}

func TestRulesAreAsked(t *testing.T) {
	for name, tt := range map[string]struct {
		book    ruleBook
		change  func(*vetting.Facts)
		counted int
		refused bool
	}{
		"no rules":                 {change: func(f *vetting.Facts) { f.Product.Rules = nil }},
		"a rule":                   {refused: true},
		"a rule that counts":       {book: ruleBook{looks: vetting.Looks{Attempts: true}}, refused: true, counted: 1},
		"a rule that looks around": {book: ruleBook{looks: vetting.Looks{Site: true}}, refused: true},
		"limits alone":             {change: func(f *vetting.Facts) { f.Product.Rules, f.Order.Limits.PerHour = nil, 10 }, counted: 1},
		"a rule without a meaning": {book: ruleBook{err: errors.New("no such field")}},
		"no record to judge it by": {change: func(f *vetting.Facts) { f.Record = nil }, refused: true},
	} {
		t.Run(name, func(t *testing.T) {
			e, l, i, r := setup(t, nil)
			l.facts.Product.Rules = []vetting.Rule{{Name: "never"}}
			if tt.change != nil {
				tt.change(&l.facts)
			}
			e.Rules = &tt.book
			out, err := e.Enroll(t.Context(), r)
			if tt.book.err != nil {
				if !errors.Is(err, tt.book.err) || len(l.commits) > 0 || i.signed > 0 {
					t.Errorf("%+v, %v: a rule that cannot be asked lets nobody in", out, err)
				}
				return
			}
			if err != nil || (out.Verdict == vetting.Refused) != tt.refused || l.counted != tt.counted {
				t.Errorf("%s, %v; counted %d times", out.Text(), err, l.counted)
			}
			if looked := tt.book.looks.Site; (l.sited == 1) != looked || looked && !tt.book.seen.OnSite {
				t.Errorf("the site's networks were looked at %d times; the rule saw %+v", l.sited, tt.book.seen)
			}
			if l.counted > 0 && l.looks != (vetting.Looks{Pace: name == "limits alone", Now: name == "limits alone", Attempts: tt.book.looks.Attempts}) {
				t.Errorf("looked at %+v", l.looks)
			}
			if l.counted > 0 && l.commits[0].Facts.Counters.OrderLastHour != 7 {
				t.Error("the counters are not in the facts")
			}
		})
	}
}
