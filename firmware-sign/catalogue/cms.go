package catalogue

import (
	"fmt"
	"io"
	"time"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/detached"
	"github.com/touchmark/touchmark/firmware-sign/rauc"
	"github.com/touchmark/touchmark/firmware-sign/swupdate"
)

// Certificates are checked at the signing time: devices decide by their own
// clocks.
var raucFormat = &Format{
	Name: "rauc", About: "bundles of RAUC, format verity or crypt, signed anew", Suffix: ".signed", Certified: certifiedInBundle, MaxKeys: 1,
	Parameters: []Parameter{signingTime, pss, {Name: "encrypt", About: "cms encrypts the key of a bundle of the format crypt; firmware wrap makes what devices get"}},
	Key:        certificateOf, Encryption: raucEncryption,
	New: func(v *Values, s []Signer) (firmwaresign.Format, error) {
		return rauc.Bundle{Certificate: s[0].Certificate, Chain: s[0].Chain, At: v.Time("at"), PSS: v.Bool("pss")}, nil
	},
	Verify: func(v *Values, out Output) error {
		_, _, err := rauc.Verify(out.signed(), out.Roots, checkedAt(v))
		return err
	},
	Programs: []Program{{Name: "rauc", Version: []string{"--version"}, Config: raucConfig, Check: func(f Files) []string { return []string{"--conf=" + f.Config, "info", f.Signed} }}},
}

// raucConfig is what a device needs to say so that it takes certificates for
// code.
func raucConfig(f Files) string {
	return "[system]\ncompatible=any\nbootloader=noop\n[keyring]\npath=" + f.Root + "\ncheck-purpose=codesign\n"
}

var swupdateFormat = &Format{
	Name: "swupdate", About: "SWU files of SWUpdate, with a CMS signature", Suffix: ".signed", Certified: certifiedInUpdate, MaxKeys: 1, Parameters: []Parameter{signingTime, pss},
	Key: certificateOf,
	New: func(v *Values, s []Signer) (firmwaresign.Format, error) {
		return swupdate.File{Certificate: s[0].Certificate, Chain: s[0].Chain, At: v.Time("at"), PSS: v.Bool("pss")}, nil
	},
	Verify: func(v *Values, out Output) error {
		_, err := swupdate.Verify(out.signed(), out.Roots, checkedAt(v))
		return err
	},
}

var cmsFormat = &Format{
	Name: "cms", About: "a detached CMS signature, as openssl cms verifies it", Suffix: ".p7s", Detached: true, Stamp: stampInCMS, Certified: certifiedInCMS, MaxKeys: 1, Parameters: []Parameter{signingTime, pss},
	Key: certificateOf,
	New: func(v *Values, s []Signer) (firmwaresign.Format, error) {
		return detached.CMS{Certificate: s[0].Certificate, Chain: s[0].Chain, At: v.Time("at"), PSS: v.Bool("pss")}, nil
	},
	Verify: func(v *Values, out Output) error {
		signature, err := signatureOf(out.signed())
		if err != nil {
			return err
		}
		if _, err := detached.VerifyCMS(out.Source, signature, out.Roots, checkedAt(v)); err != nil {
			return err
		}
		return stampInCMS.good(out)
	},
	Programs: []Program{{Name: "openssl", Version: []string{"version"}, Check: func(f Files) []string {
		return []string{"cms", "-verify", "-binary", "-inform", "DER", "-in", f.Signed, "-content", f.Source, "-CAfile", f.Root, "-purpose", "any", "-out", "/dev/null"}
	}}},
}

var rawFormat = &Format{
	Name: "raw", About: "a bare signature, as openssl dgst verifies it", Suffix: ".sig", Detached: true, MaxKeys: 1, Parameters: []Parameter{pss},
	New: func(v *Values, s []Signer) (firmwaresign.Format, error) {
		return detached.Raw{Key: s[0].Public, PSS: v.Bool("pss")}, nil
	},
	Verify: func(v *Values, out Output) error {
		signature, err := signatureOf(out.signed())
		if err != nil {
			return err
		}
		return detached.VerifyRaw(out.Source, signature, out.Signers[0].Public, v.Bool("pss"))
	},
}

// checkedAt is when certificates must be valid: at the signing time.
func checkedAt(v *Values) time.Time { return v.Time("at") }

// signatureOf is an output that is no more than a signature.
func signatureOf(signed *io.SectionReader) ([]byte, error) {
	if size := signed.Size(); size > maxSignature {
		return nil, fmt.Errorf("the signature is %d bytes long: at most %d are read", size, maxSignature)
	}
	return io.ReadAll(io.NewSectionReader(signed, 0, signed.Size()))
}

// maxSignature bounds a detached signature, in bytes.
const maxSignature = 1 << 20
