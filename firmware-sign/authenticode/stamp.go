package authenticode

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/asn1"
	"encoding/binary"
	"errors"
	"fmt"
	"io"

	"github.com/touchmark/touchmark/firmware-sign/timestamp"
)

// File is a signed image that can be written, such as an *os.File.
type File interface {
	io.ReaderAt
	io.WriterAt
	Truncate(size int64) error
}

// Stamp puts a time stamp into the last signature of an image, as an unsigned
// attribute where Windows looks for it. The function stamp gets the bytes to be
// stamped, and returns the token. What was signed stays as it is; the image is
// of no use if an error comes back.
func Stamp(file File, size int64, stamp func(content []byte) (token []byte, err error)) error {
	d := &draft{file: io.NewSectionReader(file, 0, size), hash: crypto.SHA256}
	var err error
	if d.layout, err = readLayout(d.file); err != nil {
		return err
	}
	at, message, err := lastSignature(d.table)
	if err != nil {
		return err
	}
	if message, err = timestamp.Attach(message, timestamp.InAuthenticode, stamp); err != nil {
		return err
	}
	table := appendSignature(bytes.Clone(d.table[:at]), message)
	if len(table) > maxTable {
		return fmt.Errorf("the signatures take %d bytes: at most %d are read", len(table), maxTable)
	}
	_, sum, err := d.copy(io.Discard, nil, nil)
	if err != nil {
		return err
	}
	entry := entryOf(d.content, table)
	_, _ = sum.Write(entry)
	_, _ = sum.Write(table)
	end := d.content + int64(len(table))
	return errors.Join(writeAt(file, table, d.content), writeAt(file, entry, d.entry), writeAt(file, sum.of(end), d.checksum), file.Truncate(end))
}

func writeAt(file io.WriterAt, b []byte, at int64) error {
	_, err := file.WriteAt(b, at)
	return err
}

// lastSignature finds the last message in a certificate table, and where its
// entry begins.
func lastSignature(table []byte) (at int, message []byte, err error) {
	for from := 0; from < len(table); {
		rest := table[from:]
		if len(rest) < certificateHeader {
			return 0, nil, errors.New("the table of signatures breaks off")
		}
		n := int(binary.LittleEndian.Uint32(rest))
		if n <= certificateHeader || n > len(rest) {
			return 0, nil, fmt.Errorf("a signature of %d bytes is not known, or longer than the table", n)
		}
		at, message = from, rest[certificateHeader:n]
		from += n + -n&(alignment-1)
	}
	if message == nil {
		return 0, nil, errors.New("the image is not signed")
	}
	var der asn1.RawValue // zeros follow it, which count as the entry's
	if _, err := asn1.Unmarshal(message, &der); err != nil {
		return 0, nil, fmt.Errorf("the last signature is no PKCS #7 message: %w", err)
	}
	return at, der.FullBytes, nil
}

// Stamped verifies the time stamp in the last signature of an image, whose
// authority's certificate must lead to one of the roots. An image that has none
// is a [timestamp.ErrNoStamp]. Whether the signature is good, Verify tells.
func Stamped(file *io.SectionReader, roots *x509.CertPool) (*timestamp.Token, error) {
	im, err := parse(file)
	if err != nil {
		return nil, err
	}
	if len(im.signatures) == 0 {
		return nil, errors.New("the image is not signed")
	}
	return timestamp.Attached(im.signatures[len(im.signatures)-1], timestamp.InAuthenticode, roots)
}
