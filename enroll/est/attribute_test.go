package est

import (
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"testing"
)

// Whatever stands behind it, a challengePassword is found, or the request is
// malformed; it is never overlooked.
func FuzzChallengePassword(f *testing.F) {
	mine, _ := hex.DecodeString("301006092a864886f70d0109073103130178") // PrintableString "x"
	f.Add([]byte{})
	f.Add(append(mine[:len(mine)-1:len(mine)-1], 'y')) // a second one
	f.Add([]byte{0x30, 0x80})
	f.Add([]byte{0x30, 0x04, 0x06, 0x00, 0x31, 0x00})
	f.Fuzz(func(t *testing.T, behind []byte) {
		tbs, err := asn1.Marshal(struct {
			Version      int
			Subject, Key asn1.RawValue
			Attributes   asn1.RawValue
		}{
			Subject: asn1.RawValue{FullBytes: []byte{0x30, 0x00}}, Key: asn1.RawValue{FullBytes: []byte{0x30, 0x00}},
			Attributes: asn1.RawValue{Class: asn1.ClassContextSpecific, IsCompound: true, Bytes: append(mine[:len(mine):len(mine)], behind...)},
		})
		if err != nil {
			t.Fatal(err)
		}
		password, present, err := challengePassword(&x509.CertificateRequest{RawTBSCertificateRequest: tbs})
		if err == nil && (!present || password != "x") {
			t.Errorf("with %x behind it: %q, present %v", behind, password, present)
		}
		if len(behind) == 0 && err != nil {
			t.Error(err)
		}
	})
}
