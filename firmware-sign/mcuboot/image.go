package mcuboot

import (
	"bytes"
	"crypto"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
)

// Image describes an image that is to be made of a payload; it is a
// [firmwaresign.Format].
type Image struct {
	Version Version
	// HeaderSize is how many bytes stand before the payload, at least 32. They
	// are at the beginning of the file, as zeros, unless PadHeader adds them.
	HeaderSize uint16
	PadHeader  bool
	// SecurityCounter is what the bootloader compares to refuse older images
	// that have holes; nil leaves it out.
	SecurityCounter *uint32
	Dependencies    []Dependency
	VendorID        *[16]byte // UUID
	ClassID         *[16]byte // UUID
	Custom          []TLV     // further protected TLVs, types 0x00a0 to 0xfffe
	// LoadAddress is where in RAM the image is copied to; ROMAddress is the only
	// place in flash that it runs from. At most one of them is not zero.
	LoadAddress, ROMAddress uint32
	NonBootable             bool
	// Keys sign, one after the other: two while bootloaders with an old key
	// and such with a new one are in use. RSA-2048, RSA-3072, ECDSA on P-256
	// or P-384, Ed25519; P-384, which has a hash of its own, with no other.
	Keys []crypto.PublicKey
	// FullKeys puts the keys into the image instead of their hashes, for
	// bootloaders that know nothing but a hash (MCUBOOT_HW_KEY).
	FullKeys bool
	// SHA512 is for bootloaders that are so configured; Ed25519 only.
	SHA512 bool
	// Pure signs the image itself and not its digest; Ed25519 only. The image
	// goes to the key and is at most [firmwaresign.MaxMessage] long.
	Pure bool
	// ContentKey, of 16 or 32 bytes, encrypts the payload with AES-CTR. It must
	// be random and of this image alone. Recipient is who can decrypt the image;
	// without one it is for [Wrap] to add one after the other.
	ContentKey []byte
	Recipient  *Recipient
	// Slot holds the image to its place in flash; nil leaves that unchecked.
	Slot *Slot
}

// Dependency is the least version that another image on the device must have.
type Dependency struct {
	Image   uint8
	Version Version
}

// TLV is a typed value beside the payload.
type TLV struct {
	Type  uint16
	Value []byte
}

// layout is where things go in an image.
type layout struct {
	header    []byte // of HeaderSize bytes
	skip      int64  // at the beginning of the file
	payload   int64  // bytes taken from the file
	padding   int64  // bytes after it, so that encryption has whole blocks
	protected []byte
}

// lay checks the parameters and the file against each other.
func (im *Image) lay(file *io.SectionReader) (l layout, err error) {
	if err := im.check(); err != nil {
		return l, err
	}
	if err := im.checkFile(file); err != nil {
		return l, err
	}
	if !im.PadHeader {
		l.skip = int64(im.HeaderSize)
	}
	l.payload = file.Size() - l.skip
	if n := (l.payload + int64(im.HeaderSize)) % 16; im.ContentKey != nil && n > 0 {
		l.padding = 16 - n
	}
	if l.payload+l.padding > math.MaxUint32 {
		return l, fmt.Errorf("the payload is %d bytes long: an image holds at most %d", l.payload, uint32(math.MaxUint32))
	}
	if l.protected, err = im.protected(); err != nil {
		return l, err
	}
	l.header = im.header(uint32(l.payload+l.padding), uint16(len(l.protected)))
	return l, nil
}

func (im *Image) check() error {
	switch {
	case im.HeaderSize < headerLen:
		return fmt.Errorf("the header size is %d: the header alone takes %d", im.HeaderSize, headerLen)
	case im.LoadAddress != 0 && im.ROMAddress != 0:
		return errors.New("an image that is copied to RAM has no fixed place in flash: give one address")
	case im.ContentKey != nil && len(im.ContentKey) != 16 && len(im.ContentKey) != 32:
		return fmt.Errorf("the content key is %d bytes long: AES takes 16 or 32 here", len(im.ContentKey))
	case im.Recipient != nil && im.ContentKey == nil:
		return errors.New("there is a recipient, but no content key")
	case im.ContentKey != nil && im.Pure:
		return errors.New("an encrypted image cannot have a pure signature: the bootloader checks that over flash as it is")
	case im.ContentKey != nil && im.HeaderSize%16 != 0:
		return fmt.Errorf("the header size is %d: of an encrypted image it is a multiple of 16", im.HeaderSize)
	}
	return nil
}

// checkFile refuses what is no payload.
func (im *Image) checkFile(file *io.SectionReader) error {
	if !im.PadHeader && file.Size() <= int64(im.HeaderSize) || file.Size() == 0 {
		return fmt.Errorf("the file is %d bytes long: there is no payload in it after a header of %d", file.Size(), im.HeaderSize)
	}
	head := make([]byte, min(file.Size(), int64(im.HeaderSize)))
	if _, err := file.ReadAt(head, 0); err != nil {
		return fmt.Errorf("read the payload: %w", err)
	}
	if format := foreign(head); format != "" {
		return fmt.Errorf("the file is %s: give the bare binary (objcopy -O binary)", format)
	}
	if !im.PadHeader && !bytes.Equal(head, make([]byte, len(head))) {
		return fmt.Errorf("the file does not begin with %d zeros, which the header replaces: link it so, or have the header added", im.HeaderSize)
	}
	return nil
}

// foreign names the format that a file begins like, if it is known and no
// payload.
func foreign(head []byte) string {
	for _, f := range []struct{ begins, name string }{
		{"\x3d\xb8\xf3\x96", "an MCUboot image already"},
		{"\x7fELF", "an ELF file"},
		{"UF2\n", "a UF2 file"},
		{":02000004", "an Intel HEX file"},
		{":02000002", "an Intel HEX file"},
		{"S0", "a file of S-records"},
		{"PK\x03\x04", "a ZIP archive"},
		{"\x1f\x8b\x08", "compressed (gzip)"},
	} {
		if bytes.HasPrefix(head, []byte(f.begins)) {
			return f.name
		}
	}
	return ""
}

// header makes the header (struct image_header), and what is before the
// payload besides.
func (im *Image) header(payload uint32, protected uint16) []byte {
	le := binary.LittleEndian
	b := le.AppendUint32(nil, magic)
	b = le.AppendUint32(b, im.LoadAddress|im.ROMAddress) // one is zero
	b = le.AppendUint16(b, im.HeaderSize)
	b = le.AppendUint16(b, protected)
	b = le.AppendUint32(b, payload)
	b = le.AppendUint32(b, im.flags())
	b = le.AppendUint32(im.Version.append(b), 0)
	fill := byte(0)
	if im.PadHeader {
		fill = erased
	}
	return append(b, bytes.Repeat([]byte{fill}, int(im.HeaderSize)-headerLen)...)
}

func (im *Image) flags() (flags uint32) {
	for _, f := range []struct {
		set  bool
		flag uint32
	}{
		{len(im.ContentKey) == 16, flagAES128},
		{len(im.ContentKey) == 32, flagAES256},
		{im.LoadAddress != 0, flagRAMLoad},
		{im.ROMAddress != 0, flagROMFixed},
		{im.NonBootable, flagNonBootable},
	} {
		if f.set {
			flags |= f.flag
		}
	}
	return flags
}
