package authenticode

import (
	"bytes"
	"crypto"
	_ "crypto/sha256" // the digests of images
	_ "crypto/sha512"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"time"

	"github.com/touchmark/touchmark/internal/cms"
)

// Verification digests an image as firmware does (UEFI 2.10, section 32.5.1):
// by its headers and sections, and what follows them. Signing goes through the
// file as it stands.

// Info is what is known of a verified image.
type Info struct {
	Machine    uint16
	Signatures int          // all that it has
	By         []cms.Signer // those that count
}

// Verify checks an image: all its signatures are over its digest, and one at
// least is by a certificate that one of the roots issued (they may be issuing
// CAs) and that is valid at the given time. The checksum in the header must be
// right.
func Verify(file *io.SectionReader, roots *x509.CertPool, at time.Time) (*Info, error) {
	im, err := parse(file)
	if err != nil {
		return nil, err
	}
	if len(im.signatures) == 0 {
		return nil, errors.New("the image is not signed")
	}
	if err := im.checkSum(); err != nil {
		return nil, err
	}
	info := &Info{Machine: im.machine, Signatures: len(im.signatures)}
	digests := map[crypto.Hash][]byte{}
	var refused error
	for i, message := range im.signatures {
		by, err := im.signer(message, digests)
		if err != nil {
			return nil, fmt.Errorf("signature %d of %d: %w", i+1, len(im.signatures), err)
		}
		if err := by.Check(roots, at); err != nil {
			refused = errors.Join(refused, err)
			continue
		}
		info.By = append(info.By, by)
	}
	if len(info.By) == 0 {
		return nil, refused
	}
	return info, nil
}

// parsed is an image taken apart.
type parsed struct {
	file       *io.SectionReader
	machine    uint16
	headers    int64 // bytes, the section table included
	sumAt      int64
	entryAt    int64
	sections   []span
	end        int64 // where the signatures begin
	signatures [][]byte
}

type span struct{ at, size int64 }

func parse(file *io.SectionReader) (*parsed, error) {
	im := &parsed{file: file}
	u16, u32 := binary.LittleEndian.Uint16, binary.LittleEndian.Uint32
	dos, err := im.read(0, 64)
	if err != nil {
		return nil, err
	}
	pe := int64(u32(dos[0x3c:]))
	coff, err := im.read(pe, 24)
	if err != nil {
		return nil, err
	}
	if dos[0] != 'M' || dos[1] != 'Z' || !bytes.Equal(coff[:4], []byte{'P', 'E', 0, 0}) || pe < 64 {
		return nil, errors.New("the file is no PE image")
	}
	im.machine = u16(coff[4:])
	optional, err := im.read(pe+24, int64(u16(coff[20:])))
	if err != nil {
		return nil, err
	}
	if len(optional) < 96 {
		return nil, errors.New("the optional header is too short")
	}
	directory := 96
	if u16(optional) == 0x20b {
		directory = 112
	} else if u16(optional) != 0x10b {
		return nil, fmt.Errorf("the optional header has the magic number 0x%x", u16(optional))
	}
	if len(optional) < directory+40 || u32(optional[directory-4:]) < 5 {
		return nil, errors.New("the image has no place for signatures in its data directory")
	}
	im.headers, im.sumAt, im.entryAt = int64(u32(optional[60:])), pe+88, pe+24+int64(directory)+32
	if err := im.readSections(pe+24+int64(len(optional)), int64(u16(coff[6:]))); err != nil {
		return nil, err
	}
	return im, im.readSignatures(int64(u32(optional[directory+32:])), int64(u32(optional[directory+36:])))
}

// read reads what must be there; headers are short.
func (im *parsed) read(at, n int64) ([]byte, error) {
	b := make([]byte, n)
	if _, err := im.file.ReadAt(b, at); err != nil && (n > 0 || at > im.file.Size()) {
		return nil, fmt.Errorf("%d bytes should be at byte %d, but the file has %d: it is no PE image, or cut off", n, at, im.file.Size())
	}
	return b, nil
}

func (im *parsed) readSections(at, n int64) error {
	if n == 0 || n > 96 {
		return fmt.Errorf("the image has %d sections: it has 1 to 96", n)
	}
	if im.headers < at+n*40 {
		return errors.New("the section table is outside of the headers")
	}
	table, err := im.read(at, n*40)
	if err != nil {
		return err
	}
	for i := range n {
		row := table[i*40:]
		size := int64(binary.LittleEndian.Uint32(row[16:]))
		if size > 0 {
			im.sections = append(im.sections, span{int64(binary.LittleEndian.Uint32(row[20:])), size})
		}
	}
	slices.SortFunc(im.sections, func(a, b span) int { return int(a.at - b.at) })
	next := im.headers
	for _, s := range im.sections {
		if s.at != next {
			return errors.New("headers and sections do not follow one another: not everything would be digested")
		}
		next += s.size
	}
	return nil
}

// readSignatures goes through the certificate table.
func (im *parsed) readSignatures(at, size int64) error {
	im.end = im.file.Size()
	if at != 0 || size != 0 {
		im.end = at
	}
	last := im.headers
	if len(im.sections) > 0 {
		s := im.sections[len(im.sections)-1]
		last = s.at + s.size
	}
	if im.end < last || im.end == at && (at%8 != 0 || size > 1<<20 || at+size != im.file.Size()) {
		return fmt.Errorf("the image ends at byte %d of %d, its sections at %d: it was cut off, or something was added", im.end, im.file.Size(), last)
	}
	table, err := im.read(im.end, im.file.Size()-im.end)
	if err != nil {
		return err
	}
	for len(table) > 0 {
		if len(table) < 8 || len(im.signatures) == 16 {
			return errors.New("the table of signatures breaks off, or has more than 16")
		}
		n := int(binary.LittleEndian.Uint32(table))
		if n < 10 || n > len(table) || !bytes.Equal(table[4:8], []byte{0, 2, 2, 0}) {
			return fmt.Errorf("a signature of %d bytes with the header %x is not known, or longer than the table", n, table[:8])
		}
		message, err := withoutPadding(table[8:n])
		if err != nil {
			return err
		}
		im.signatures = append(im.signatures, message)
		if n = (n + 7) &^ 7; n > len(table) {
			return errors.New("a signature is not aligned to 8 bytes")
		}
		table = table[n:]
	}
	return nil
}

// withoutPadding cuts off the zeros that some tools count as the message's.
func withoutPadding(b []byte) ([]byte, error) {
	var message asn1.RawValue
	rest, err := asn1.Unmarshal(b, &message)
	if err != nil || len(rest) > 7 || !bytes.Equal(rest, make([]byte, len(rest))) {
		return nil, fmt.Errorf("a signature is no PKCS #7 message (%w), or followed by %d bytes", err, len(rest))
	}
	return message.FullBytes, nil
}

// signer holds a signature to the image's digest, which is made once for each
// hash.
func (im *parsed) signer(message []byte, digests map[crypto.Hash][]byte) (cms.Signer, error) {
	content, by, err := cms.OpenContent(message, 1<<20, asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 4})
	if err != nil {
		return by, err
	}
	hash, signed, err := readIndirectData(content)
	if err != nil {
		return by, err
	}
	if digests[hash] == nil {
		if digests[hash], err = im.digest(hash); err != nil {
			return by, err
		}
	}
	if !bytes.Equal(digests[hash], signed) {
		return by, fmt.Errorf("the image was changed: its digest is %x, but %x is signed", digests[hash], signed)
	}
	return by, nil
}

// readIndirectData takes the digest out of what is signed. The content is that
// of a SEQUENCE: what kind of thing is signed, and a DigestInfo.
func readIndirectData(content []byte) (crypto.Hash, []byte, error) {
	var kind struct {
		Type  asn1.ObjectIdentifier
		Value asn1.RawValue
	}
	var info struct {
		Algorithm struct {
			Type       asn1.ObjectIdentifier
			Parameters asn1.RawValue `asn1:"optional"`
		}
		Digest []byte
	}
	rest, err := asn1.Unmarshal(content, &kind)
	if err != nil || kind.Type.String() != "1.3.6.1.4.1.311.2.1.15" {
		return 0, nil, fmt.Errorf("what is signed is of type %v, and no PE image (%w)", kind.Type, err)
	}
	if rest, err = asn1.Unmarshal(rest, &info); err != nil || len(rest) > 0 {
		return 0, nil, fmt.Errorf("the signed digest cannot be read (%w), or %d bytes follow it", err, len(rest))
	}
	hash, ok := map[string]crypto.Hash{
		"2.16.840.1.101.3.4.2.1": crypto.SHA256, "2.16.840.1.101.3.4.2.2": crypto.SHA384, "2.16.840.1.101.3.4.2.3": crypto.SHA512,
	}[info.Algorithm.Type.String()]
	if !ok {
		return 0, nil, fmt.Errorf("the image is digested with %s: SHA-256, SHA-384 and SHA-512 are accepted", info.Algorithm.Type)
	}
	return hash, info.Digest, nil
}

// digest is the image's: headers, sections, and what follows them.
func (im *parsed) digest(hash crypto.Hash) ([]byte, error) {
	h := hash.New()
	add := func(from, to int64) error {
		_, err := io.CopyBuffer(struct{ io.Writer }{h}, io.NewSectionReader(im.file, from, to-from), make([]byte, 256<<10))
		return err
	}
	err := errors.Join(add(0, im.sumAt), add(im.sumAt+4, im.entryAt), add(im.entryAt+8, im.headers))
	done := im.headers
	for _, s := range im.sections {
		err = errors.Join(err, add(s.at, s.at+s.size))
		done += s.size
	}
	err = errors.Join(err, add(done, im.end))
	return h.Sum(nil), err
}

// checkSum computes the header's checksum again, over the file as it is.
func (im *parsed) checkSum() error {
	field, err := im.read(im.sumAt, 4)
	if err != nil {
		return err
	}
	buf := make([]byte, 256<<10)
	sum, at := uint32(0), int64(0)
	for {
		n, err := im.file.ReadAt(buf, at)
		for i := 0; i < n; i++ {
			place := at + int64(i)
			if place >= im.sumAt && place < im.sumAt+4 {
				continue
			}
			sum += uint32(buf[i]) << (8 * (place & 1))
			sum = sum>>16 + sum&0xffff
		}
		at += int64(n)
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			return err
		}
	}
	if want := sum + uint32(at); want != binary.LittleEndian.Uint32(field) {
		return fmt.Errorf("the header says 0x%x as checksum, but it is 0x%x", binary.LittleEndian.Uint32(field), want)
	}
	return nil
}

// Signatures are the messages in an image's table, which are not verified.
func Signatures(file *io.SectionReader) ([][]byte, error) {
	im, err := parse(file)
	if err != nil {
		return nil, err
	}
	return im.signatures, nil
}
