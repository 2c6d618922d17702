package offline_test

import (
	"bytes"
	"crypto/elliptic"
	"crypto/x509"
	"errors"
	"testing"
	"time"

	"github.com/touchmark/touchmark/ocsp/offline"
)

func TestCheck(t *testing.T) {
	ca := newCA(t)
	f := fleet{1000, func(i int) bool { return i%10 == 0 }}
	p := plan(1, nil)
	filter := ca.open(t, ca.build(t, p, f))
	long := start.Add(1e4 * time.Hour)
	impostor := newAuthority(t, "Device CA", ecKey(t, elliptic.P256()))
	tests := map[string]struct {
		cert *x509.Certificate
		now  time.Time
		want error
	}{
		"good":                                   {ca.issue(t, serialOf(5), start, long), p.ThisUpdate, nil},
		"good, at the end":                       {ca.issue(t, serialOf(5), start, long), p.NextUpdate, nil},
		"good, clock a little behind":            {ca.issue(t, serialOf(5), start, long), p.ThisUpdate.Add(-4 * time.Minute), nil},
		"as late as it covers":                   {ca.issue(t, serialOf(5), p.CoversUntil, long), p.ThisUpdate, nil},
		"not good":                               {ca.issue(t, serialOf(20), start, long), p.ThisUpdate, offline.ErrNotGood},
		"expired":                                {ca.issue(t, serialOf(5), start, p.ThisUpdate.Add(time.Hour)), p.ThisUpdate.Add(2 * time.Hour), offline.ErrExpired},
		"expired when it was made, clock behind": {ca.issue(t, serialOf(5), start, p.ThisUpdate.Add(-time.Minute)), p.ThisUpdate.Add(-2 * time.Minute), offline.ErrExpired},
		"later than it covers":                   {ca.issue(t, serialOf(5), p.CoversUntil.Add(time.Second), long), p.ThisUpdate, offline.ErrNotCovered},
		"outdated":                               {ca.issue(t, serialOf(5), start, long), p.NextUpdate.Add(time.Second), offline.ErrOutdated},
		"outdated, and not good":                 {ca.issue(t, serialOf(20), start, long), p.NextUpdate.Add(time.Second), offline.ErrNotGood},
		"from the future":                        {ca.issue(t, serialOf(5), start, long), p.ThisUpdate.Add(-time.Hour), offline.ErrOutdated},
		"another CA's":                           {newAuthority(t, "Other CA", ca.key).issue(t, serialOf(5), start, long), p.ThisUpdate, offline.ErrOtherIssuer},
		"another CA's of the same name":          {impostor.issue(t, serialOf(5), start, long), p.ThisUpdate, offline.ErrOtherIssuer},
		"forged":                                 {forged(t, ca.issue(t, serialOf(5), start, long)), p.ThisUpdate, offline.ErrOtherIssuer},
	}
	for name, c := range tests {
		if err := filter.Check(c.cert, c.now); !errors.Is(err, c.want) {
			t.Errorf("%s: %v, want %v", name, err, c.want)
		}
	}
}

// forged changes a signed certificate's names.
func forged(t *testing.T, cert *x509.Certificate) *x509.Certificate {
	t.Helper()
	out, err := x509.ParseCertificate(bytes.Replace(cert.Raw, []byte("device"), []byte("DEVICE"), 1))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TestFileRefused goes through what can be wrong with a file.
func TestFileRefused(t *testing.T) {
	ca := newCA(t)
	file := ca.build(t, plan(1, nil), fleet{500, share(0.1)})
	for end := range len(file) {
		if _, err := offline.Open(file[:end], ca.cert); err == nil {
			t.Fatalf("cut off after %d of %d bytes, it was opened", end, len(file))
		}
	}
	for i := range file {
		altered := bytes.Clone(file)
		altered[i] ^= 0x10
		if _, err := offline.Open(altered, ca.cert); err == nil {
			t.Fatalf("altered at byte %d, it was opened", i)
		}
	}
	if _, err := offline.Open(append(bytes.Clone(file), 0), ca.cert); !errors.Is(err, offline.ErrFile) {
		t.Errorf("with a byte more: %v", err)
	}
	newer := bytes.Clone(file)
	newer[16] = 2
	if _, err := offline.Open(newer, ca.cert); err == nil || !errors.Is(err, offline.ErrFile) {
		t.Errorf("of a newer format: %v", err)
	}
	if _, err := offline.Open(ca.cert.Raw, ca.cert); !errors.Is(err, offline.ErrFile) {
		t.Errorf("a certificate: %v", err)
	}
}

func TestSupersedes(t *testing.T) {
	ca := newCA(t)
	f := fleet{10, none}
	first, second := ca.open(t, ca.build(t, plan(1, nil), f)), ca.open(t, ca.build(t, plan(2, nil), f))
	if err := second.Supersedes(first); err != nil {
		t.Error(err)
	}
	if err := first.Supersedes(first); err != nil {
		t.Error(err)
	}
	if err := first.Supersedes(second); !errors.Is(err, offline.ErrOlder) {
		t.Errorf("the older one: %v", err)
	}
}
