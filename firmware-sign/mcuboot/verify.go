package mcuboot

import (
	"bytes"
	"crypto"
	"crypto/aes"
	"crypto/cipher"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"slices"
)

// Verification shares nothing with the code that makes images but the numbers
// of format.go: it is the second opinion on what leaves.

// Info is what an image says of itself. It counts only once it is verified.
type Info struct {
	Version         Version
	HeaderSize      uint16
	PayloadSize     uint32 // with the padding of an encrypted one
	SecurityCounter *uint32
	Dependencies    []Dependency
	Encrypted       bool
	Pure            bool
	Digest          []byte // of header, plain payload and protected TLVs
	Size            int64  // without what fills a slot
	SHA256          []byte // of the whole file; only from Verify
}

// File is an image as Verify reads it, such as an *io.SectionReader. It may
// still be written: ReadAt then waits for what is not there yet, Size for the
// end.
type File interface {
	io.ReaderAt
	Size() int64
}

// Trust is what an image is held against.
type Trust struct {
	// Keys must all have signed it.
	Keys []crypto.PublicKey
	// ContentKey is needed for an encrypted image.
	ContentKey []byte
}

// found is an image taken apart.
type found struct {
	info      Info
	flags     uint32
	protected []entry
	open      []entry // the TLVs that are not signed
	signed    int64   // bytes that the signature covers
}

type entry struct {
	kind  uint16
	value []byte
}

// Verify checks an image as a bootloader does, and more strictly: it has the
// signatures of all the keys, nothing twice, nothing unknown outside of what is
// signed, and nothing after it but a slot's filling.
func Verify(file File, trust Trust) (*Info, error) {
	f, err := readHeader(file)
	if err != nil {
		return nil, err
	}
	if len(trust.Keys) == 0 {
		return nil, errors.New("no key is given to verify the image with")
	}
	if f.info.Encrypted && trust.ContentKey == nil {
		return nil, errors.New("the image is encrypted: give its content key")
	}
	// What is signed is hashed before anything behind it is read, which may not
	// be written yet. If the file is cut off, readTLVs says so.
	h := sha256.New()
	if err := hashPart(h, file, 0, f.signed); err != nil {
		return nil, err
	}
	digest := h.Sum(nil)
	whole := io.NewSectionReader(file, 0, file.Size())
	if err := f.readTLVs(whole); err != nil {
		return nil, err
	}
	kind, err := f.checkDigest(whole, digest, trust.ContentKey)
	if err != nil {
		return nil, err
	}
	for i, key := range trust.Keys {
		if err := f.signedBy(whole, key, kind); err != nil {
			return nil, fmt.Errorf("key %d of %d: %w", i+1, len(trust.Keys), err)
		}
	}
	if err := hashPart(h, file, f.signed, whole.Size()-f.signed); err != nil {
		return nil, err
	}
	f.info.SHA256 = h.Sum(nil)
	return &f.info, nil
}

// checkDigest holds the image to the digest that it says it has, and returns
// the type of that. Mostly it is sum, the SHA-256 of what is signed as it is in
// the file.
func (f *found) checkDigest(file *io.SectionReader, sum, contentKey []byte) (kind uint16, err error) {
	kind, stated, err := f.statedDigest()
	if err != nil {
		return 0, err
	}
	if kind != tlvSHA256 || f.info.Encrypted {
		h := []func() hash.Hash{sha256.New, sha512.New384, sha512.New}[kind-tlvSHA256]()
		if err := f.digest(file, h, contentKey); err != nil {
			return 0, err
		}
		sum = h.Sum(nil)
	}
	if f.info.Digest = sum; !bytes.Equal(sum, stated) {
		return 0, fmt.Errorf("the image was changed, or decrypted with another key: its digest is %x, but it says %x", sum, stated)
	}
	return kind, nil
}

// Inspect reads an image without judging it.
func Inspect(file *io.SectionReader) (*Info, error) {
	f, err := dissect(file)
	if err != nil {
		return nil, err
	}
	return &f.info, nil
}

func dissect(file *io.SectionReader) (*found, error) {
	f, err := readHeader(file)
	if err != nil {
		return nil, err
	}
	return f, f.readTLVs(file)
}

func readHeader(file File) (*found, error) {
	head := make([]byte, 32)
	if _, err := file.ReadAt(head, 0); err != nil {
		return nil, fmt.Errorf("the file is %d bytes long: an MCUboot image has a header of 32", file.Size())
	}
	u16, u32 := binary.LittleEndian.Uint16, binary.LittleEndian.Uint32
	if u32(head) != 0x96f3b83d {
		return nil, fmt.Errorf("the file begins with %x: it is no MCUboot image", head[:4])
	}
	f := &found{flags: u32(head[16:])}
	f.info = Info{
		HeaderSize: u16(head[8:]), PayloadSize: u32(head[12:]), Encrypted: f.flags&0xc != 0,
		Version: Version{head[20], head[21], u16(head[22:]), u32(head[24:])},
	}
	const known = 0x4 | 0x8 | 0x10 | 0x20 | 0x100
	switch {
	case f.info.HeaderSize < 32:
		return nil, fmt.Errorf("the header says that it is %d bytes long: it has 32", f.info.HeaderSize)
	case f.flags&^known != 0 || f.flags&0xc == 0xc:
		return nil, fmt.Errorf("the header has flags 0x%x: not all of them are known, or they contradict each other", f.flags)
	case u32(head[28:]) != 0:
		return nil, errors.New("the header's last field is not zero")
	}
	f.signed = f.tail() + int64(u16(head[10:]))
	return f, nil
}

// tail is where the payload ends.
func (f *found) tail() int64 { return int64(f.info.HeaderSize) + int64(f.info.PayloadSize) }

// readTLVs reads both areas, and checks what is behind them.
func (f *found) readTLVs(file *io.SectionReader) (err error) {
	if said := f.signed - f.tail(); said > 0 {
		var size uint16
		if f.protected, size, err = readArea(file, f.tail(), 0x6908); err != nil {
			return fmt.Errorf("the protected TLVs: %w", err)
		}
		if int64(size) != said {
			return fmt.Errorf("the protected TLVs take %d bytes, but the header says %d", size, said)
		}
	}
	open, size, err := readArea(file, f.signed, 0x6907)
	if err != nil {
		return fmt.Errorf("the TLVs: %w", err)
	}
	f.open, f.info.Size = open, f.signed+int64(size)
	if err := f.readProtected(); err != nil {
		return err
	}
	if err := f.checkOpen(); err != nil {
		return err
	}
	return checkFilling(file, f.info.Size)
}

// readArea reads an area of TLVs, which the format bounds to 64 KiB.
func readArea(file *io.SectionReader, at int64, magic uint16) (entries []entry, size uint16, err error) {
	head := make([]byte, 4)
	if _, err := file.ReadAt(head, at); err != nil {
		return nil, 0, fmt.Errorf("they should begin at byte %d, but the file has %d: it was cut off", at, file.Size())
	}
	size = binary.LittleEndian.Uint16(head[2:])
	if got := binary.LittleEndian.Uint16(head); got != magic || size < 4 {
		return nil, 0, fmt.Errorf("they begin with 0x%04x and a size of %d, not with 0x%04x: the image was not signed, or changed", got, size, magic)
	}
	body := make([]byte, size-4)
	if _, err := file.ReadAt(body, at+4); err != nil && len(body) > 0 {
		return nil, 0, fmt.Errorf("they are %d bytes long, but the file ends before that: it was cut off", size)
	}
	for len(body) > 0 {
		if len(body) < 4 {
			return nil, 0, errors.New("the last one breaks off")
		}
		n := 4 + int(binary.LittleEndian.Uint16(body[2:]))
		if n > len(body) {
			return nil, 0, errors.New("one is longer than the area")
		}
		entries = append(entries, entry{binary.LittleEndian.Uint16(body), body[4:n]})
		body = body[n:]
	}
	return entries, size, nil
}

// readProtected takes what Info has of the signed TLVs.
func (f *found) readProtected() error {
	for _, e := range f.protected {
		switch e.kind {
		case 0x50:
			if len(e.value) != 4 || f.info.SecurityCounter != nil {
				return errors.New("the security counter is there twice, or not a number of 32 bits")
			}
			counter := binary.LittleEndian.Uint32(e.value)
			f.info.SecurityCounter = &counter
		case 0x40:
			if len(e.value) != 12 {
				return fmt.Errorf("a dependency is %d bytes long: it has 12", len(e.value))
			}
			v := e.value[4:]
			f.info.Dependencies = append(f.info.Dependencies, Dependency{e.value[0],
				Version{v[0], v[1], binary.LittleEndian.Uint16(v[2:]), binary.LittleEndian.Uint32(v[4:])}})
		}
	}
	return nil
}

// checkOpen lets pass outside of what is signed only what must be there: a
// bootloader would believe the rest without a signature.
func (f *found) checkOpen() error {
	allowed := []uint16{0x01, 0x02, 0x10, 0x11, 0x12, 0x20, 0x22, 0x23, 0x24, 0x25}
	if f.info.Encrypted {
		allowed = append(allowed, 0x30, 0x31, 0x32, 0x33, 0x34)
	}
	wrapped := 0
	for _, e := range f.open {
		switch {
		case !slices.Contains(allowed, e.kind):
			return fmt.Errorf("a TLV of type 0x%02x is outside of what is signed", e.kind)
		case e.kind == 0x25:
			if f.info.Pure || !bytes.Equal(e.value, []byte{1}) {
				return errors.New("the mark of a pure signature is there twice, or is not 1")
			}
			f.info.Pure = true
		case e.kind >= 0x30:
			wrapped++
		}
	}
	if wrapped > 1 {
		return fmt.Errorf("the content key is there %d times: a bootloader reads one", wrapped)
	}
	return nil
}

// checkFilling reads what is behind the image: nothing, or a slot that is
// filled up, with the bootloader's mark at its end.
func checkFilling(file *io.SectionReader, at int64) error {
	left := file.Size() - at
	if left == 0 {
		return nil
	}
	mark := make([]byte, min(16, left))
	if _, err := file.ReadAt(mark, file.Size()-int64(len(mark))); err != nil {
		return fmt.Errorf("read the end of the slot: %w", err)
	}
	if !isMark(mark) {
		return fmt.Errorf("%d bytes follow the image: something was added to it", left)
	}
	buf := make([]byte, 64<<10)
	for left -= 16; left > 0; {
		n := min(left, int64(len(buf)))
		if _, err := file.ReadAt(buf[:n], at); err != nil {
			return fmt.Errorf("read the slot's filling: %w", err)
		}
		for i, b := range buf[:n] {
			confirmed := b == 1 && left-int64(i) <= 48 // an image that is marked as good
			if b != 0xff && !confirmed {
				return fmt.Errorf("at byte %d, behind the image, is 0x%02x: something was added to it", at+int64(i), b)
			}
		}
		at, left = at+n, left-n
	}
	return nil
}

// isMark reports whether these are the last bytes of a slot whose image is to
// be installed.
func isMark(b []byte) bool {
	return string(b) == "\x77\xc2\x95\xf3\x60\xd2\xef\x7f\x35\x52\x50\x0f\x2c\xb6\x79\x80" ||
		len(b) == 16 && (b[0] == 16 || b[0] == 32) && string(b[1:]) == "\x00\x2d\xe1\x5d\x29\x41\x0b\x8d\x77\x67\x9c\x11\x0f\x1f\x8a"
}

// statedDigest finds the one digest that the image says it has.
func (f *found) statedDigest() (kind uint16, digest []byte, err error) {
	for _, e := range f.open {
		size, ok := map[uint16]int{0x10: 32, 0x11: 48, 0x12: 64}[e.kind]
		if !ok {
			continue
		}
		if digest != nil || len(e.value) != size {
			return 0, nil, errors.New("the image has two digests, or one of a wrong length")
		}
		kind, digest = e.kind, e.value
	}
	if digest == nil {
		return 0, nil, errors.New("the image has no digest")
	}
	return kind, digest, nil
}

// digest hashes what is signed, its payload decrypted.
func (f *found) digest(file *io.SectionReader, h hash.Hash, contentKey []byte) error {
	head := int64(f.info.HeaderSize)
	payload := io.Reader(io.NewSectionReader(file, head, f.tail()-head))
	if f.info.Encrypted {
		if len(contentKey) != f.keyLength() {
			return fmt.Errorf("the content key is %d bytes long: the image says %d", len(contentKey), f.keyLength())
		}
		block, err := aes.NewCipher(contentKey)
		if err != nil {
			return err
		}
		payload = cipher.StreamReader{S: cipher.NewCTR(block, make([]byte, 16)), R: payload}
	}
	return hashAll(h, io.MultiReader(io.NewSectionReader(file, 0, head), payload, io.NewSectionReader(file, f.tail(), f.signed-f.tail())))
}

func hashPart(h hash.Hash, file io.ReaderAt, at, size int64) error {
	return hashAll(h, io.NewSectionReader(file, at, size))
}

func hashAll(h hash.Hash, r io.Reader) error {
	if _, err := io.CopyBuffer(struct{ io.Writer }{h}, r, make([]byte, 256<<10)); err != nil {
		return fmt.Errorf("read the image: %w", err)
	}
	return nil
}

// keyLength is that of an encrypted image's content key, in bytes.
func (f *found) keyLength() int { return map[uint32]int{0x4: 16, 0x8: 32}[f.flags&0xc] }

// signedBy looks for a key and the signature that follows it.
func (f *found) signedBy(file *io.SectionReader, key crypto.PublicKey, hashKind uint16) error {
	names, err := keyNames(key, hashKind)
	if err != nil {
		return err
	}
	for i, e := range f.open {
		if e.kind > 0x02 || !slices.ContainsFunc(names, func(n []byte) bool { return bytes.Equal(n, e.value) }) {
			continue
		}
		if i+1 == len(f.open) {
			return errors.New("the image names it, but no signature follows")
		}
		return f.check(file, key, f.open[i+1])
	}
	return errors.New("the image is not signed with it")
}

// keyNames are the key as a bootloader has it built in, and its hash.
func keyNames(key crypto.PublicKey, hashKind uint16) ([][]byte, error) {
	der, err := x509.MarshalPKIXPublicKey(key)
	if err != nil {
		return nil, err
	}
	if k, ok := key.(*rsa.PublicKey); ok {
		der = x509.MarshalPKCS1PublicKey(k)
	}
	h256, h384, h512 := sha256.Sum256(der), sha512.Sum384(der), sha512.Sum512(der)
	return [][]byte{der, [][]byte{h256[:], h384[:], h512[:]}[hashKind-0x10]}, nil
}

var errSignature = errors.New("the signature is not good")

// check checks one signature, of the type that belongs to the key.
func (f *found) check(file *io.SectionReader, key crypto.PublicKey, sig entry) error {
	good, kind := false, uint16(0)
	switch key := key.(type) {
	case *rsa.PublicKey:
		kind = map[int]uint16{256: 0x20, 384: 0x23}[key.Size()]
		good = len(f.info.Digest) == 32 && rsa.VerifyPSS(key, crypto.SHA256, f.info.Digest, sig.value, &rsa.PSSOptions{SaltLength: 32}) == nil
	case *ecdsa.PublicKey:
		kind = 0x22
		good = len(f.info.Digest) == key.Params().BitSize/8 && ecdsa.VerifyASN1(key, f.info.Digest, sig.value)
	case ed25519.PublicKey:
		kind = 0x24
		message, err := f.message(file)
		if err != nil {
			return err
		}
		good = ed25519.Verify(key, message, sig.value)
	}
	switch {
	case sig.kind != kind:
		return fmt.Errorf("a TLV of type 0x%02x follows it, not a signature by a %T", sig.kind, key)
	case f.info.Pure && kind != 0x24:
		return errors.New("it signed the digest, but the image says that signatures are pure")
	case !good:
		return errSignature
	}
	return nil
}

// message is what Ed25519 signed.
func (f *found) message(file *io.SectionReader) ([]byte, error) {
	if !f.info.Pure {
		return f.info.Digest, nil
	}
	if f.signed > 16<<20 {
		return nil, fmt.Errorf("the image is %d bytes long: a pure signature is checked over at most 16 MiB", f.signed)
	}
	message := make([]byte, f.signed)
	_, err := file.ReadAt(message, 0)
	return message, err
}
