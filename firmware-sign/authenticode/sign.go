package authenticode

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"time"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/internal/cmsdraft"
	"github.com/touchmark/touchmark/firmware-sign/internal/stream"
	"github.com/touchmark/touchmark/internal/cms"
)

// Image describes how an image is signed; it is a [firmwaresign.Format]. The
// digest is SHA-256, with a key on P-384 SHA-384. Firmware has mostly RSA
// alone.
type Image struct {
	Certificate *x509.Certificate
	Chain       []*x509.Certificate // issuing CAs that go along, without the root
	At          time.Time           // the signing time, to the second
	// Append adds a signature to those that the image has, for firmware with
	// another key. Otherwise an image that is signed is refused.
	Append bool
}

type draft struct {
	file *io.SectionReader
	layout
	hash   crypto.Hash
	digest []byte
	sum    checksum // of the content
	cms    *cms.Draft
	want   firmwaresign.ToSign
}

// Prepare digests the image. It writes nothing: the header has a checksum that
// depends on the signature. Finish reads the image again, and fails if that was
// changed meanwhile.
func (im Image) Prepare(file *io.SectionReader, _ io.Writer) (firmwaresign.Draft, error) {
	l, err := readLayout(file)
	if err != nil {
		return nil, err
	}
	if len(l.table) > 0 && !im.Append {
		return nil, errors.New("the image is signed already: sign the one that the build made, or add a signature to those it has")
	}
	d := cms.Detached{Certificate: im.Certificate, Chain: im.Chain, At: im.At}
	if im.Certificate == nil {
		return nil, &firmwaresign.KeyError{Reason: "the certificate of the key that signs is missing"}
	}
	prepared := &draft{file: file, layout: l, hash: d.Hash()}
	if prepared.digest, prepared.sum, err = prepared.copy(io.Discard, nil, nil); err != nil {
		return nil, err
	}
	content, err := indirectData(prepared.hash, prepared.digest)
	if err != nil {
		return nil, err
	}
	prepared.cms, prepared.want, err = cmsdraft.Around(d, oidIndirectData, content)
	return prepared, err
}

func (d *draft) ToSign() []firmwaresign.ToSign { return []firmwaresign.ToSign{d.want} }

// Finish writes the image and its signatures.
func (d *draft) Finish(out io.Writer, signatures [][]byte) error {
	message, err := d.cms.Finish(signatures[0])
	if err != nil {
		return err
	}
	table := appendSignature(bytes.Clone(d.table), message)
	if len(table) > maxTable {
		return fmt.Errorf("the signatures take %d bytes: at most %d are read", len(table), maxTable)
	}
	at := d.content + d.padding()
	entry := entryOf(at, table)
	sum := d.sum
	_, _ = sum.Write(entry)
	_, _ = sum.Write(table)
	digest, _, err := d.copy(out, sum.of(at+int64(len(table))), entry)
	if err != nil {
		return err
	}
	if !bytes.Equal(digest, d.digest) {
		return stream.ErrChanged
	}
	_, err = out.Write(table)
	return err
}

// entryOf is the directory's entry for a certificate table at a place.
func entryOf(at int64, table []byte) []byte {
	return binary.LittleEndian.AppendUint32(binary.LittleEndian.AppendUint32(nil, uint32(at)), uint32(len(table)))
}

// copy copies the image without its signatures, with the given checksum and
// directory entry. It returns the digest, and the checksum of all but those two.
func (d *draft) copy(out io.Writer, checksumField, entry []byte) (digest []byte, sum checksum, err error) {
	h := both{d.hash.New(), &sum}
	from := int64(0)
	for _, field := range []struct {
		at, length int64
		value      []byte
	}{{d.checksum, 4, checksumField}, {d.entry, 8, entry}, {d.content, 0, nil}} {
		part := io.NewSectionReader(d.file, from, field.at-from)
		if err := stream.Copy(h, out, part, part.Size()); err != nil {
			return nil, sum, fmt.Errorf("read the image: %w", err)
		}
		if _, err := out.Write(field.value); err != nil {
			return nil, sum, err
		}
		from = field.at + field.length
	}
	zeros := make([]byte, d.padding())
	_, _ = h.Write(zeros)
	_, err = out.Write(zeros)
	return h.Sum(nil), sum, err
}

// both is a hash that counts a checksum, too.
type both struct {
	hash.Hash
	sum *checksum
}

func (b both) Write(p []byte) (int, error) {
	_, _ = b.sum.Write(p)
	return b.Hash.Write(p)
}

// checksum adds up words of 16 bits, each at an even place in the file; the
// fields that are left out leave the places even.
type checksum struct {
	sum uint64
	odd bool // a byte of a word is still to come
}

func (c *checksum) Write(p []byte) (int, error) {
	n := len(p)
	if c.odd && len(p) > 0 {
		c.sum += uint64(p[0]) << 8
		c.odd, p = false, p[1:]
	}
	for ; len(p) >= 4; p = p[4:] {
		v := binary.LittleEndian.Uint32(p)
		c.sum += uint64(v&0xffff) + uint64(v>>16)
	}
	for i, b := range p {
		c.sum += uint64(b) << (8 * (i % 2))
	}
	c.odd = c.odd != (len(p)%2 == 1)
	return n, nil
}

// of is the header's field for a file of that length: the words with their
// carries added back, and the length.
func (c checksum) of(length int64) []byte {
	for c.sum > 0xffff {
		c.sum = c.sum&0xffff + c.sum>>16
	}
	return binary.LittleEndian.AppendUint32(nil, uint32(c.sum)+uint32(length))
}
