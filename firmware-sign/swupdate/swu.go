// Package swupdate signs SWU files for SWUpdate: a CMS signature over
// sw-description, which has the digests of all images ("Update images from
// verified source" in SWUpdate's documentation).
package swupdate

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"time"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/internal/cmsdraft"
	"github.com/touchmark/touchmark/firmware-sign/internal/stream"
	"github.com/touchmark/touchmark/internal/cms"
)

const (
	description    = "sw-description"
	signature      = "sw-description.sig"
	maxDescription = 1 << 20 // bytes
)

// File describes how an SWU file is signed; it is a [firmwaresign.Format].
// The file has no signature yet.
type File struct {
	Certificate *x509.Certificate
	Chain       []*x509.Certificate // issuing CAs that go along, without the root
	At          time.Time           // the signing time, to the second
	PSS         bool                // an RSA key signs with PSS
}

type draft struct {
	file  *io.SectionReader
	first member // sw-description
	cms   *cms.Draft
	want  firmwaresign.ToSign
}

// Prepare holds every image to sw-description. It writes nothing: the
// signature comes before the images. An image that is exchanged later has
// another digest than the description that was signed.
func (f File) Prepare(file *io.SectionReader, _ io.Writer) (firmwaresign.Draft, error) {
	all, text, err := open(file)
	if err != nil {
		return nil, err
	}
	if len(all) > 1 && all[1].name == signature {
		return nil, errors.New("the SWU file is signed already")
	}
	if err := checkImages(file, all[1:], text); err != nil {
		return nil, err
	}
	d := cms.Detached{Certificate: f.Certificate, Chain: f.Chain, At: f.At, PSS: f.PSS}
	message, want, err := cmsdraft.New(d, cms.DigestOf(text))
	return &draft{file, all[0], message, want}, err
}

func (d *draft) ToSign() []firmwaresign.ToSign { return []firmwaresign.ToSign{d.want} }

// Finish writes the archive with the signature as its second member.
func (d *draft) Finish(out io.Writer, signatures [][]byte) error {
	sig, err := d.cms.Finish(signatures[0])
	if err != nil {
		return err
	}
	at := d.first.next()
	_, err = io.Copy(out, io.MultiReader(io.NewSectionReader(d.file, 0, at),
		bytes.NewReader(appendMember(nil, signature, sig)), io.NewSectionReader(d.file, at, d.file.Size()-at)))
	return err
}

// open reads the archive's directory and its description.
func open(file *io.SectionReader) (all []member, text []byte, err error) {
	if all, err = members(file); err != nil {
		return nil, nil, err
	}
	if len(all) == 0 || all[0].name != description {
		return nil, nil, fmt.Errorf("the first member is not %s: this is no SWU file", description)
	}
	if all[0].size == 0 || all[0].size > maxDescription {
		return nil, nil, fmt.Errorf("%s is %d bytes long: it has 1 to %d", description, all[0].size, maxDescription)
	}
	text = make([]byte, all[0].size)
	if _, err := file.ReadAt(text, all[0].data); err != nil {
		return nil, nil, fmt.Errorf("read %s: %w", description, err)
	}
	return all, text, nil
}

// checkImages wants each image's name and SHA-256 in the description, without
// which SWUpdate would not check the image. It does not read the description's
// grammar; SWUpdate does.
func checkImages(file *io.SectionReader, images []member, text []byte) error {
	seen := map[string]bool{description: true, signature: true}
	lower := bytes.ToLower(text)
	for _, m := range images {
		if seen[m.name] {
			return fmt.Errorf("%q is in the archive twice, or is no image", m.name)
		}
		seen[m.name] = true
		h := sha256.New()
		if err := stream.Copy(h, nil, m.reader(file), m.size); err != nil {
			return fmt.Errorf("read %q: %w", m.name, err)
		}
		if sum := hex.EncodeToString(h.Sum(nil)); !bytes.Contains(text, []byte(`"`+m.name+`"`)) || !bytes.Contains(lower, []byte(sum)) {
			return fmt.Errorf("%s does not have %q with the sha256 %s: SWUpdate would not check it", description, m.name, sum)
		}
	}
	return nil
}

// Verify checks an SWU file: the signature over its description, by
// certificates that one of the roots issued and that are valid at the given
// time, and the digests of all images.
func Verify(file *io.SectionReader, roots *x509.CertPool, at time.Time) ([]cms.Signer, error) {
	all, text, err := open(file)
	if err != nil {
		return nil, err
	}
	sig, err := signatureIn(file, all)
	if err != nil {
		return nil, err
	}
	signers, err := cms.VerifyDetached(sig, cms.DigestOf(text), roots, at)
	if err != nil {
		return nil, fmt.Errorf("the signature: %w", err)
	}
	return signers, checkImages(file, all[2:], text)
}

func signatureIn(file *io.SectionReader, all []member) ([]byte, error) {
	if len(all) < 2 || all[1].name != signature || all[1].size > cms.MaxSignature {
		return nil, errors.New("the SWU file is not signed")
	}
	sig := make([]byte, all[1].size)
	if _, err := file.ReadAt(sig, all[1].data); err != nil {
		return nil, fmt.Errorf("read the signature: %w", err)
	}
	return sig, nil
}

// Signature is the CMS message in an SWU file, which is not verified.
func Signature(file *io.SectionReader) ([]byte, error) {
	all, _, err := open(file)
	if err != nil {
		return nil, err
	}
	return signatureIn(file, all)
}
