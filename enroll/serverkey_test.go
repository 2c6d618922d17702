package enroll_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"errors"
	"fmt"
	"testing"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/vetting"
)

// asksForKey lets the device ask the server for its key.
func asksForKey(l *ledger, r *enroll.Request) {
	l.facts.Product.ServerKeys = vetting.ServerKeysPlain
	r.Claim.Key, r.Claim.ServerKey = vetting.Fingerprint{}, vetting.ServerKeysPlain
}

// However often a verdict is made anew, the key that leaves is the one that
// was committed, and no formatter shows it.
func TestServerKeyIsTheCommittedOne(t *testing.T) {
	e, l, _, r := setup(t, enroll.ErrStale, nil)
	asksForKey(l, &r)
	out, err := e.Enroll(context.Background(), r)
	if err != nil || out.Key == nil || len(l.commits) != 2 {
		t.Fatalf("%+v, %v, %d commits", out, err, len(l.commits))
	}
	der, err := out.Key.PKCS8()
	if err != nil {
		t.Fatal(err)
	}
	key, err := x509.ParsePKCS8PrivateKey(der)
	if err != nil {
		t.Fatal(err)
	}
	print, err := vetting.PublicKeyFingerprint(key.(crypto.Signer).Public())
	if err != nil || print != l.commits[1].Facts.Claim.Key || print == l.commits[0].Facts.Claim.Key {
		t.Errorf("answered the key %s, committed %s, %v", print, l.commits[1].Facts.Claim.Key, err)
	}
	if a, ok := l.commits[1].Verdict.Admission(); !ok || a.Key() != print {
		t.Errorf("admitted was %s", a.Key())
	}
	for _, verb := range []string{"%v", "%+v", "%#v", "%s"} {
		if got := fmt.Sprintf(verb, out.Key); got != "a private key" {
			t.Errorf("%s prints %s", verb, got)
		}
	}
}

// Where nothing is committed as admitted no key leaves, nor is one made in
// vain.
func TestNoServerKeyWithoutAdmission(t *testing.T) {
	broken := errors.New("the disk is full")
	e, l, _, r := setup(t, broken)
	asksForKey(l, &r)
	if out, err := e.Enroll(context.Background(), r); !errors.Is(err, broken) || out.Key != nil {
		t.Errorf("no commit: %+v, %v", out, err)
	}
	for want, change := range map[vetting.Outcome]func(*vetting.Facts){
		vetting.Refused: func(f *vetting.Facts) { f.Product.ServerKeys = vetting.ServerKeysOff },
		vetting.Held:    func(f *vetting.Facts) { f.Order.State = vetting.OrderDraft },
	} {
		e, l, _, r := setup(t, nil)
		asksForKey(l, &r)
		change(&l.facts)
		out, err := e.Enroll(context.Background(), r)
		if err != nil || out.Verdict != want || out.Key != nil || !l.commits[0].Facts.Claim.Key.IsZero() {
			t.Errorf("%s: %+v, %v, key %s", want, out, err, l.commits[0].Facts.Claim.Key)
		}
	}
}
