// Package kmod signs modules of the Linux kernel, to the byte as the kernel's
// scripts/sign-file does.
//
// Behind the module stand a CMS message with neither attributes nor
// certificates, a struct module_signature with its length, and a mark
// (Documentation/admin-guide/module-signing.rst; include/linux/module_signature.h).
// The kernel has the certificates built in, and does not look at their validity.
package kmod

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/internal/cmsdraft"
	"github.com/touchmark/touchmark/firmware-sign/internal/stream"
	"github.com/touchmark/touchmark/internal/cms"
)

const (
	mark          = "~Module signature appended~\n"
	trailerLength = 12 // of struct module_signature
	kindPKCS7     = 2  // PKEY_ID_PKCS7
)

// Module describes how a module is signed; it is a [firmwaresign.Format]. The
// file is the module as it was linked: neither stripped nor compressed
// afterwards. The kernel must have the digest built in: SHA-256, with a key on
// P-384 SHA-384.
type Module struct {
	Certificate *x509.Certificate
}

type draft struct {
	cms  *cms.Draft
	want firmwaresign.ToSign
}

// Prepare copies the module.
func (m Module) Prepare(file *io.SectionReader, out io.Writer) (firmwaresign.Draft, error) {
	if err := checkFile(file); err != nil {
		return nil, err
	}
	message, want, err := cmsdraft.New(cms.Detached{Certificate: m.Certificate, Bare: true}, func(hash crypto.Hash) ([]byte, error) {
		h := hash.New()
		if err := stream.Copy(h, out, io.NewSectionReader(file, 0, file.Size()), file.Size()); err != nil {
			return nil, fmt.Errorf("read the module: %w", err)
		}
		return h.Sum(nil), nil
	})
	return draft{message, want}, err
}

func (d draft) ToSign() []firmwaresign.ToSign { return []firmwaresign.ToSign{d.want} }

// Finish writes the message, its length and the mark.
func (d draft) Finish(out io.Writer, signatures [][]byte) error {
	message, err := d.cms.Finish(signatures[0])
	if err != nil {
		return err
	}
	end := append(message, 0, 0, kindPKCS7, 0, 0, 0, 0, 0)
	end = binary.BigEndian.AppendUint32(end, uint32(len(message)))
	_, err = out.Write(append(end, mark...))
	return err
}

// checkFile refuses what is no whole module, and what is signed already.
func checkFile(file *io.SectionReader) error {
	head := make([]byte, 64)
	n, err := file.ReadAt(head, 0)
	if err != nil && !errors.Is(err, io.EOF) {
		return fmt.Errorf("read the module: %w", err)
	}
	if name := compressed(head[:n]); name != "" {
		return fmt.Errorf("the module is compressed (%s): sign it before that", name)
	}
	if n < len(head) || string(head[:4]) != "\x7fELF" {
		return errors.New("the file is no ELF file, so it is no kernel module (.ko)")
	}
	end := make([]byte, len(mark))
	if _, err := file.ReadAt(end, file.Size()-int64(len(mark))); err != nil {
		return fmt.Errorf("read the module's end: %w", err)
	}
	if string(end) == mark {
		return errors.New("the module is signed already: sign the one that the build made (or strip the signature with \"strip --strip-debug\")")
	}
	return checkELF(head, file.Size())
}

// compressed names how a file is compressed, if it is.
func compressed(head []byte) string {
	for _, f := range []struct{ begins, name string }{
		{"\x1f\x8b", "gzip"}, {"\xfd7zXZ\x00", "xz"}, {"\x28\xb5\x2f\xfd", "zstd"},
	} {
		if bytes.HasPrefix(head, []byte(f.begins)) {
			return f.name
		}
	}
	return ""
}

// checkELF wants a relocatable file that is not cut off: its section headers
// are at its end.
func checkELF(head []byte, size int64) error {
	order := binary.ByteOrder(binary.LittleEndian)
	if head[5] == 2 {
		order = binary.BigEndian
	}
	if kind := order.Uint16(head[16:]); kind != 1 {
		return fmt.Errorf("the ELF file is of type %d: a kernel module is relocatable (1)", kind)
	}
	at, entries := uint64(order.Uint32(head[32:])), head[46:]
	if head[4] == 2 {
		at, entries = order.Uint64(head[40:]), head[58:]
	}
	table := uint64(order.Uint16(entries)) * uint64(order.Uint16(entries[2:]))
	if at == 0 || table == 0 || at > math.MaxInt64 || at+table > uint64(size) {
		return fmt.Errorf("the module's section headers end at byte %d, but the file at %d: it was cut off", at+table, size)
	}
	return nil
}
