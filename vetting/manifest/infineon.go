package manifest

import (
	"archive/zip"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"path"
	"slices"
	"strings"

	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/vendorid"
)

// Bounds of an archive. Its directory is read whole.
const (
	MaxArchive  = 128 << 20 // bytes of the file
	MaxUnpacked = 1 << 30   // bytes of all files in it
)

// infineon reads an archive with a PEM file for each chip. CAs' certificates
// and files of other kinds beside them are passed over.
type infineon struct {
	files       []*zip.File
	at          int
	left        int64 // of MaxUnpacked
	serial, uid *vetting.NameRule
}

func newInfineon(in io.ReaderAt, size int64, c Conversion) (*infineon, error) {
	if size > MaxArchive {
		return nil, vetting.Errorf(vetting.Invalid, "the archive is %d bytes long: at most %d are read; split it", size, MaxArchive)
	}
	for _, rule := range []*vetting.NameRule{c.Serial, c.UID} {
		if err := vendorid.CheckRule(rule); err != nil {
			return nil, vetting.Errorf(vetting.Invalid, "%v", err)
		}
	}
	z, err := zip.NewReader(in, size)
	if err != nil {
		return nil, vetting.Errorf(vetting.Invalid, "the file is no ZIP archive: %v", err)
	}
	serial := c.Serial
	if serial == nil {
		serial = &vetting.NameRule{From: "certificate.serialNumber"}
	}
	return &infineon{files: z.File, left: MaxUnpacked, serial: serial, uid: c.UID}, nil
}

// next counts files as lines.
func (a *infineon) next(w *row) (int64, error) {
	for a.at < len(a.files) {
		f := a.files[a.at]
		a.at++
		if !slices.Contains([]string{".pem", ".crt", ".cer"}, strings.ToLower(path.Ext(f.Name))) {
			continue
		}
		cert, err := a.certificate(f)
		if err == nil && cert.IsCA {
			continue
		}
		if err == nil {
			err = a.chip(cert, w)
		}
		if one := new(badLine); errors.As(err, &one) {
			err = bad("file %q: %s", clip(f.Name), one.text)
		}
		return int64(a.at), err
	}
	return int64(a.at), io.EOF
}

// certificate reads a file's first certificate; those above it may follow.
func (a *infineon) certificate(f *zip.File) (*x509.Certificate, error) {
	text, err := a.unpack(f)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "CERTIFICATE" {
		return nil, bad("it holds no certificate in PEM")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, bad("not an X.509 certificate: %v", err)
	}
	return cert, nil
}

// unpack reads one file, whatever its header says of its length.
func (a *infineon) unpack(f *zip.File) ([]byte, error) {
	r, err := f.Open()
	if err != nil {
		return nil, bad("it cannot be unpacked: %v", err)
	}
	defer r.Close()
	text, err := io.ReadAll(io.LimitReader(r, MaxLine+1))
	switch a.left -= int64(len(text)); {
	case err != nil:
		return nil, bad("it cannot be unpacked: %v", err)
	case len(text) > MaxLine:
		return nil, bad("it is longer than %d bytes", MaxLine)
	case a.left < 0:
		return nil, &badFile{[]string{fmt.Sprintf("the files in the archive are longer than %d bytes together: split it", int64(MaxUnpacked))}}
	}
	return text, nil
}

func (a *infineon) chip(cert *x509.Certificate, w *row) error {
	serial, err := find(a.serial, cert)
	if err != nil {
		return err
	}
	uid, err := find(a.uid, cert)
	if err != nil {
		return err
	}
	return w.setAll([2]string{"serial", serial}, [2]string{"uid", uid}, [2]string{"bootstrapKey", keyOf(cert)})
}
