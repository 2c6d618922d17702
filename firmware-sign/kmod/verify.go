package kmod

import (
	"bytes"
	"crypto"
	_ "crypto/sha256" // the digests that are accepted
	_ "crypto/sha512"
	"crypto/x509"
	"errors"
	"fmt"
	"io"

	"github.com/touchmark/touchmark/internal/cms"
)

// Verify checks a module as the kernel does that has the certificates built
// in, and returns the one whose key signed. Like the kernel it does not look at
// the certificate's validity.
func Verify(file *io.SectionReader, certs []*x509.Certificate) (*x509.Certificate, error) {
	size, message, err := split(file)
	if err != nil {
		return nil, err
	}
	by, err := cms.VerifyBare(message, func(hash crypto.Hash) ([]byte, error) {
		h := hash.New()
		n, err := io.CopyBuffer(struct{ io.Writer }{h}, io.NewSectionReader(file, 0, size), make([]byte, 256<<10))
		if err == nil && n != size {
			err = io.ErrUnexpectedEOF
		}
		return h.Sum(nil), err
	}, certs)
	if err != nil {
		return nil, fmt.Errorf("the module's signature: %w", err)
	}
	return by, nil
}

// split gives a signed module's size without the signature, and that. The end
// is: message, 8 bytes of which only the kind is not zero, the message's length
// (big-endian), and 28 of text.
func split(file *io.SectionReader) (size int64, message []byte, err error) {
	end := make([]byte, 40)
	if file.Size() < 40 {
		return 0, nil, fmt.Errorf("the file has %d bytes: it is no signed module", file.Size())
	}
	if _, err := file.ReadAt(end, file.Size()-40); err != nil {
		return 0, nil, fmt.Errorf("read the module's end: %w", err)
	}
	if string(end[12:]) != "~Module signature appended~\n" {
		return 0, nil, errors.New("the module is not signed, or was changed behind its signature (stripped, compressed, cut off)")
	}
	if !bytes.Equal(end[:8], []byte{0, 0, 2, 0, 0, 0, 0, 0}) {
		return 0, nil, fmt.Errorf("the signature is described by %x: only PKCS #7 is known", end[:8])
	}
	length := int64(end[8])<<24 | int64(end[9])<<16 | int64(end[10])<<8 | int64(end[11])
	if size = file.Size() - 40 - length; length > cms.MaxSignature || size <= 0 {
		return 0, nil, fmt.Errorf("the signature is said to be %d bytes long: the file has %d, and a signature at most %d", length, file.Size(), cms.MaxSignature)
	}
	message = make([]byte, length)
	_, err = file.ReadAt(message, size)
	if errors.Is(err, io.EOF) && length == 0 {
		err = nil
	}
	return size, message, err
}
