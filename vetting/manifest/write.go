package manifest

import (
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"time"

	"github.com/touchmark/touchmark/internal/cms"
	"github.com/touchmark/touchmark/vetting"
)

// Writer writes records as JSON Lines.
type Writer struct{ enc *json.Encoder }

// NewWriter makes a Writer.
func NewWriter(w io.Writer) *Writer {
	enc := json.NewEncoder(w)
	enc.SetEscapeHTML(false)
	return &Writer{enc}
}

// Write writes one record; what [Read] reads back is the same but for places
// and database IDs.
func (w *Writer) Write(r vetting.Record) error {
	if err := r.Check(); err != nil {
		return err
	}
	return w.enc.Encode(struct {
		vetting.Identity
		BootstrapKey vetting.Fingerprint `json:"bootstrapKey,omitzero"`
		vetting.Manufacturing
	}{r.Identity, r.BootstrapKey, r.Made})
}

// SignFile makes a detached CMS signature (DER) over a file, as
// [Importer.Receive] wants it. The key must be the certificate's.
func SignFile(path string, cert *x509.Certificate, key crypto.Signer, at time.Time) (sig []byte, err error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, f.Close()) }()
	if sig, err = cms.SignDetached(f, cert, key, at); err != nil {
		return nil, fmt.Errorf("sign %s: %w", path, err)
	}
	return sig, nil
}
