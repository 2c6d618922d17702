package device

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"math/big"
	"testing"
	"time"
)

// anchor is a root's key, under a name.
type anchor struct {
	name string
	key  *ecdsa.PrivateKey
}

func newAnchor(t *testing.T, name string) anchor {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return anchor{name, key}
}

// signs certifies another anchor's key, or its own, until a time.
func (a anchor) signs(t *testing.T, of anchor, isCA bool, until time.Time) *x509.Certificate {
	t.Helper()
	made := func(n string) *x509.Certificate {
		return &x509.Certificate{SerialNumber: big.NewInt(time.Now().UnixNano()), Subject: pkix.Name{CommonName: n}, NotBefore: time.Now().Add(-2 * time.Hour), NotAfter: until,
			IsCA: isCA, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign}
	}
	der, err := x509.CreateCertificate(rand.Reader, made(of.name), made(a.name), &of.key.PublicKey, a.key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return cert
}

// A root is taken up only if a trusted one, in force, signed its name and key.
func TestSuccessors(t *testing.T) {
	now, later := time.Now(), time.Now().Add(time.Hour)
	before := now.Add(-time.Hour)
	old, next, foreign, renamed := newAnchor(t, "Root"), newAnchor(t, "Root"), newAnchor(t, "Root"), newAnchor(t, "Other Root")
	root := func(a anchor) *x509.Certificate { return a.signs(t, a, true, later) }
	trusted, fresh := root(old), root(next)
	cross := old.signs(t, next, true, later)
	for what, c := range map[string]struct {
		trusted *x509.Certificate
		cas     []*x509.Certificate
		taken   bool
	}{
		"vouched for":                   {trusted, []*x509.Certificate{trusted, cross, fresh, next.signs(t, old, true, later)}, true},
		"without the voucher":           {trusted, []*x509.Certificate{trusted, fresh, next.signs(t, old, true, later)}, false},
		"the voucher alone":             {trusted, []*x509.Certificate{trusted, cross}, false},
		"vouched for by a stranger":     {trusted, []*x509.Certificate{trusted, fresh, foreign.signs(t, next, true, later), root(foreign)}, false},
		"a voucher that ran out":        {trusted, []*x509.Certificate{fresh, old.signs(t, next, true, before)}, false},
		"a root that ran out":           {trusted, []*x509.Certificate{next.signs(t, next, true, before), cross}, false},
		"a trusted root that ran out":   {old.signs(t, old, true, before), []*x509.Certificate{fresh, cross}, false},
		"a voucher for another key":     {trusted, []*x509.Certificate{root(foreign), cross}, false},
		"another name":                  {trusted, []*x509.Certificate{root(renamed), old.signs(t, renamed, true, later)}, false},
		"a leaf's certificate":          {trusted, []*x509.Certificate{fresh, old.signs(t, next, false, later)}, false},
		"a root that is no CA":          {trusted, []*x509.Certificate{next.signs(t, next, false, later), cross}, false},
		"only what is trusted already":  {trusted, []*x509.Certificate{trusted}, false},
		"the trusted root once more":    {trusted, []*x509.Certificate{trusted, trusted, old.signs(t, old, true, later)}, true}, // another certificate of the trusted key
		"nothing":                       {trusted, nil, false},
		"two, of which one is vouched":  {trusted, []*x509.Certificate{root(foreign), fresh, cross}, true},
		"a voucher of a voucher's root": {root(foreign), []*x509.Certificate{trusted, fresh, cross}, false},
	} {
		if got := successors([]*x509.Certificate{c.trusted}, c.cas, now); (len(got) > 0) != c.taken || len(got) > 1 {
			t.Errorf("%s: %d roots were taken up", what, len(got))
		}
	}
}
