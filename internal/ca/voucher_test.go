package ca_test

import (
	"crypto/x509"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/cms"
	"github.com/touchmark/touchmark/vetting"
)

// TestVoucherSigner reads a voucher with another implementation than the one
// that wrote it.
func TestVoucherSigner(t *testing.T) {
	a, _ := initCA(t)
	now := time.Now()
	for name, end := range map[string]time.Time{"until a time": now.Add(24 * time.Hour).UTC().Truncate(time.Second), "once": {}} {
		der, err := ca.VoucherSigner{Authorities: a, Now: time.Now}.SignVoucher(&vetting.Voucher{CreatedOn: now, ExpiresOn: end, SerialNumber: "A-0001"})
		if err != nil {
			t.Fatal(err)
		}
		m, err := cms.Parse(der, 1<<16)
		if err != nil {
			t.Fatal(err)
		}
		roots := x509.NewCertPool()
		roots.AddCert(a.Root)
		if err := m.VerifyWithChain(roots); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		signer := m.GetOnlySigner()
		want := end
		if end.IsZero() {
			want = a.CodeSign.Certificate.NotAfter
		}
		if signer.CheckSignatureFrom(a.CodeSign.Certificate) != nil || len(signer.ExtKeyUsage) != 0 || !signer.NotAfter.Equal(want) {
			t.Errorf("%s: the signer is of %s, for %v, until %s", name, signer.Issuer, signer.ExtKeyUsage, signer.NotAfter)
		}
	}
}
