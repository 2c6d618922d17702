package catalogue

import (
	"crypto/x509"
	"errors"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/authenticode"
	"github.com/touchmark/touchmark/firmware-sign/esp32"
	"github.com/touchmark/touchmark/firmware-sign/fit"
	"github.com/touchmark/touchmark/firmware-sign/kmod"
)

var authenticodeFormat = &Format{
	Name: "authenticode", About: "PE images for UEFI and Windows: applications, drivers, unified kernel images", Suffix: ".signed", Stamp: stampInImage, Certified: certifiedInPE, MaxKeys: 1,
	Parameters: []Parameter{signingTime, {Name: "append", About: "true adds a signature to those that the image has"}},
	Key:        certificateOf,
	New: func(v *Values, s []Signer) (firmwaresign.Format, error) {
		return authenticode.Image{Certificate: s[0].Certificate, Chain: s[0].Chain, At: v.Time("at"), Append: v.Bool("append")}, nil
	},
	Verify: func(v *Values, out Output) error {
		if _, err := authenticode.Verify(out.signed(), out.Roots, checkedAt(v)); err != nil {
			return err
		}
		return stampInImage.good(out)
	},
	Programs: []Program{{Name: "osslsigncode", Unless: "append", Version: []string{"--version"}, Check: func(f Files) []string {
		return []string{"verify", "-in", f.Signed, "-CAfile", f.Root, "-TSA-CAfile", f.Root}
	}}},
}

var kmodFormat = &Format{
	Name: "kmod", About: "modules of the Linux kernel, as its sign-file makes them", Suffix: ".signed", MaxKeys: 1,
	Key: certificateOf,
	New: func(_ *Values, s []Signer) (firmwaresign.Format, error) {
		return kmod.Module{Certificate: s[0].Certificate}, nil
	},
	Verify: func(_ *Values, out Output) error {
		if out.Signers[0].Certificate == nil {
			return errors.New("a module names a certificate: give that, and not the public key")
		}
		_, err := kmod.Verify(out.signed(), []*x509.Certificate{out.Signers[0].Certificate})
		return err
	},
}

var esp32Format = &Format{
	Name: "esp32", About: "bootloaders and applications for Secure Boot v2 of the ESP32 family, as espsecure makes them", Suffix: ".signed", MaxKeys: 3,
	Key: func(_ *Values, s Signer) ([]byte, error) { return esp32.KeyDigest(s.Public) },
	New: func(_ *Values, s []Signer) (firmwaresign.Format, error) {
		return esp32.Image{Keys: publicKeys(s)}, nil
	},
	Verify: func(_ *Values, out Output) error { return esp32.Verify(out.signed(), publicKeys(out.Signers)...) },
	Programs: []Program{{Name: "espsecure", Version: []string{"version"}, Check: func(f Files) []string {
		return []string{"verify_signature", "--version", "2", "--keyfile", f.PublicKey, f.Signed}
	}}},
}

var fitFormat = &Format{
	Name: "fit", About: "configurations of U-Boot's FIT images, as mkimage -F signs them", Suffix: ".signed", MaxKeys: 1,
	Parameters: []Parameter{{Name: "key-name", About: "the key's name in the image and in U-Boot (key-name-hint; required)"}},
	New: func(v *Values, s []Signer) (firmwaresign.Format, error) {
		name, err := keyName(v)
		return fit.Image{Key: s[0].Public, Name: name}, err
	},
	Verify: func(v *Values, out Output) error {
		return fit.Verify(out.signed(), out.Signers[0].Public, v.Text("key-name"))
	},
	Key: func(v *Values, s Signer) ([]byte, error) {
		name, err := keyName(v)
		if err != nil {
			return nil, err
		}
		node, err := fit.KeyNode(s.Public, name)
		return []byte(node), err
	},
}

func keyName(v *Values) (string, error) {
	if !v.Has("key-name") {
		return "", errors.New("say with the parameter key-name what the image and U-Boot call the key (key-name-hint)")
	}
	return v.Text("key-name"), nil
}
