package catalogue

import (
	"crypto/x509"
	"errors"
	"io"
	"os"

	"github.com/touchmark/touchmark/firmware-sign/authenticode"
	"github.com/touchmark/touchmark/firmware-sign/timestamp"
	"github.com/touchmark/touchmark/internal/cms"
)

// Stamp is how an output holds a time stamp (RFC 3161) over its signature.
type Stamp struct {
	// Put puts one into an output. The function stamp gets the bytes to be
	// stamped, and returns the token.
	Put func(signed *os.File, stamp func(content []byte) ([]byte, error)) error
	// Get verifies the one that is there, or fails with a [timestamp.ErrNoStamp].
	Get func(signed *io.SectionReader, roots *x509.CertPool) (*timestamp.Token, error)
}

// good refuses a time stamp that is there and no good.
func (s *Stamp) good(out Output) error {
	if _, err := s.Get(out.signed(), out.Roots); err != nil && !errors.Is(err, timestamp.ErrNoStamp) {
		return err
	}
	return nil
}

var stampInCMS = &Stamp{
	Put: func(signed *os.File, stamp func(content []byte) ([]byte, error)) error {
		signature, err := io.ReadAll(io.NewSectionReader(signed, 0, maxSignature))
		if err != nil {
			return err
		}
		if signature, err = timestamp.Attach(signature, timestamp.InCMS, stamp); err != nil {
			return err
		}
		_, err = signed.WriteAt(signature, 0) // it is longer than it was
		return err
	},
	Get: func(signed *io.SectionReader, roots *x509.CertPool) (*timestamp.Token, error) {
		signature, err := signatureOf(signed)
		if err != nil {
			return nil, err
		}
		if signature, err = cms.Decode(signature); err != nil {
			return nil, err
		}
		return timestamp.Attached(signature, timestamp.InCMS, roots)
	},
}

var stampInImage = &Stamp{
	Put: func(signed *os.File, stamp func(content []byte) ([]byte, error)) error {
		info, err := signed.Stat()
		if err != nil {
			return err
		}
		return authenticode.Stamp(signed, info.Size(), stamp)
	},
	Get: authenticode.Stamped,
}
