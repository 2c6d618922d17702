package catalogue

import (
	"errors"
	"fmt"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/mcuboot"
)

// The names are imgtool's, where it has the option.
var mcubootFormat = &Format{
	Name: "mcuboot", About: "images for the MCUboot bootloader, as imgtool makes them", Suffix: ".signed", MaxKeys: 2,
	Parameters: []Parameter{
		{Name: "version", About: "the image's version, as 1.2.3+4 (default: the release's)", Default: "{version}"},
		{Name: "header-size", About: "bytes before the payload", Default: "0x200"},
		{Name: "pad-header", About: "true adds them; otherwise the file begins with them"},
		{Name: "security-counter", About: "what the bootloader compares (default: the release's)", Default: "{counter}"},
		{Name: "slot-size", About: "the slot's size in flash, which the image is held to"},
		{Name: "align", About: "the smallest write of the flash, in bytes"},
		{Name: "max-sectors", About: "how many sectors the bootloader is built for"},
		{Name: "overwrite-only", About: "true if the bootloader does not swap images"},
		{Name: "pad", About: "true fills the slot"},
		{Name: "confirm", About: "true marks the image as good already"},
		{Name: "load-addr", About: "where in RAM the image is copied to"},
		{Name: "rom-fixed", About: "the only place in flash that it runs from"},
		{Name: "non-bootable", About: "true if it is not started"},
		{Name: "public-key-format", About: "hash or full", Default: "hash"},
		{Name: "sha512", About: "true has an Ed25519 key sign SHA-512"},
		{Name: "pure", About: "true signs the image and not its digest; never by the server"},
		{Name: "encrypt", About: "aes128 or aes256 encrypts the payload; firmware wrap makes what devices get"},
		{Name: "hmac-sha512", About: "true has X25519 keys wrapped with SHA-512, for bootloaders that are so configured"},
	},
	New:        newMCUboot,
	Verify:     verifyMCUboot,
	Digests:    true,
	Encryption: mcubootEncryption,
	// imgtool verifies no encrypted image without the device's private key.
	Programs: []Program{{Name: "imgtool", Unless: "encrypt", Version: []string{"version"}, Check: func(f Files) []string { return []string{"verify", "--key", f.PublicKey, f.Signed} }}},
}

func newMCUboot(v *Values, signers []Signer) (firmwaresign.Format, error) {
	version, err := mcuboot.ParseVersion(v.Text("version"))
	if err != nil {
		return nil, err
	}
	im := &mcuboot.Image{
		Version: version, HeaderSize: uint16(v.Uint("header-size", 16)), PadHeader: v.Bool("pad-header"), LoadAddress: uint32(v.Uint("load-addr", 32)), ROMAddress: uint32(v.Uint("rom-fixed", 32)),
		NonBootable: v.Bool("non-bootable"), Keys: publicKeys(signers), SHA512: v.Bool("sha512"), Pure: v.Bool("pure"), ContentKey: v.ContentKey,
	}
	if v.Has("security-counter") {
		n := uint32(v.Uint("security-counter", 32))
		im.SecurityCounter = &n
	}
	switch form := v.Text("public-key-format"); form {
	case "hash":
	case "full":
		im.FullKeys = true
	default:
		return nil, fmt.Errorf("the parameter public-key-format is %q: want hash or full", form)
	}
	if v.Has("encrypt") && (v.Bool("pad") || v.Bool("confirm")) {
		return nil, errors.New("an encrypted image cannot fill its slot: what each device gets of its own follows it; leave out pad and confirm")
	}
	if v.Has("slot-size") {
		im.Slot = &mcuboot.Slot{Size: int64(v.Uint("slot-size", 40)), Align: int(v.Uint("align", 8)), MaxSectors: int(v.Uint("max-sectors", 20)),
			OverwriteOnly: v.Bool("overwrite-only"), Pad: v.Bool("pad"), Confirm: v.Bool("confirm")}
	}
	return im, nil
}

// verifyMCUboot checks the image, and that it is the one that was asked for, as
// far as that was said.
func verifyMCUboot(v *Values, out Output) error {
	info, err := mcuboot.Verify(out.signed(), mcuboot.Trust{Keys: publicKeys(out.Signers), ContentKey: out.ContentKey})
	if err != nil {
		return err
	}
	if v.Has("version") {
		version, err := mcuboot.ParseVersion(v.Text("version"))
		if err != nil {
			return err
		}
		if info.Version != version {
			return fmt.Errorf("the image says version %s, not %s", info.Version, version)
		}
	}
	if v.Has("security-counter") && (info.SecurityCounter == nil || uint64(*info.SecurityCounter) != v.Uint("security-counter", 32)) {
		return errors.New("the image does not say the security counter that it was signed for")
	}
	if info.Encrypted != v.Has("encrypt") {
		return errors.New("the image is encrypted and should not be, or the other way round")
	}
	if out.Digested != nil {
		out.Digested(info.SHA256)
	}
	return nil
}
