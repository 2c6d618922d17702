// Package rauc signs update bundles of RAUC anew: a build makes them with a
// key of its own, and what leaves has the signature of the release's.
//
// A bundle is a squashfs, the tree of its hashes (dm-verity), a CMS message
// with the manifest inside, and that message's length (8 bytes, big-endian).
// The manifest has the tree's root, so the signature covers all
// (RAUC's reference, "Bundle Formats"). Bundles of the format plain are
// refused: they are checked only once they are read whole, and those over
// 2 GiB have not always been checked rightly.
package rauc

import (
	"bytes"
	"crypto/x509"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"time"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/internal/cmsdraft"
	"github.com/touchmark/touchmark/firmware-sign/internal/stream"
	"github.com/touchmark/touchmark/internal/cms"
)

// maxSignature is how long the CMS message may be, as RAUC has it.
const maxSignature = 64 << 10

// blockSize is that of data and of the hash tree.
const blockSize = 4096

// Bundle describes how a bundle is signed; it is a [firmwaresign.Format]. The
// file is a bundle of the format verity, or crypt before it is encrypted for
// its recipients, with whatever signature.
type Bundle struct {
	Certificate *x509.Certificate
	Chain       []*x509.Certificate // issuing CAs that go along, without the root
	At          time.Time           // the signing time, to the second
	PSS         bool                // an RSA key signs with PSS
}

// Info is what a bundle says of itself.
type Info struct {
	Compatible, Version string
	Format              string // verity or crypt
	Manifest            []byte
}

type draft struct {
	cms      *cms.Draft
	manifest []byte
	want     firmwaresign.ToSign
}

// Prepare writes the bundle up to its signature, and holds the squashfs to the
// manifest meanwhile.
func (b Bundle) Prepare(file *io.SectionReader, out io.Writer) (firmwaresign.Draft, error) {
	end, err := readEnd(file)
	if err != nil {
		return nil, err
	}
	tree := newTree(end.verity.salt)
	if err := stream.Copy(tree, out, io.NewSectionReader(file, 0, end.payload), end.payload); err != nil {
		return nil, fmt.Errorf("read the bundle: %w", err)
	}
	if root := tree.root(); !bytes.Equal(root, end.verity.root) {
		return nil, fmt.Errorf("the bundle was changed since it was made: the root of its hashes is %x, but the manifest says %x", root, end.verity.root)
	}
	if out != nil {
		if _, err := io.Copy(out, io.NewSectionReader(file, end.payload, end.verity.size)); err != nil {
			return nil, fmt.Errorf("copy the hash tree: %w", err)
		}
	}
	d := cms.Detached{Certificate: b.Certificate, Chain: b.Chain, At: b.At, PSS: b.PSS}
	message, want, err := cmsdraft.New(d, cms.DigestOf(end.manifest))
	return &draft{message, end.manifest, want}, err
}

func (d *draft) ToSign() []firmwaresign.ToSign { return []firmwaresign.ToSign{d.want} }

// Finish writes the message with manifest and signature, and its length.
func (d *draft) Finish(out io.Writer, signatures [][]byte) error {
	message, err := d.cms.FinishAround(d.manifest, signatures[0])
	if err != nil {
		return err
	}
	if len(message) > maxSignature {
		return fmt.Errorf("the signature takes %d bytes: RAUC reads %d", len(message), maxSignature)
	}
	_, err = out.Write(binary.BigEndian.AppendUint64(message, uint64(len(message))))
	return err
}

// end is what stands behind a bundle's squashfs, and how long that is.
type end struct {
	message  []byte // CMS
	manifest []byte
	info     Info
	verity   verity
	payload  int64 // bytes
}

// readEnd reads a bundle's signature without judging it.
func readEnd(file *io.SectionReader) (e end, err error) {
	if file.Size() < 8 {
		return e, fmt.Errorf("the file has %d bytes: it is no RAUC bundle", file.Size())
	}
	length := make([]byte, 8)
	if _, err := file.ReadAt(length, file.Size()-8); err != nil {
		return e, fmt.Errorf("read the end of the bundle: %w", err)
	}
	n := binary.BigEndian.Uint64(length)
	if n == 0 || n > maxSignature || int64(n)+8 > file.Size() {
		return e, fmt.Errorf("the bundle ends with %d as the length of its signature: it is cut off, a squashfs alone, or no bundle at all (make it with \"rauc bundle\", with any key)", n)
	}
	e.message = make([]byte, n)
	if _, err := file.ReadAt(e.message, file.Size()-8-int64(n)); err != nil {
		return e, fmt.Errorf("read the bundle's signature: %w", err)
	}
	p7, err := cms.Parse(e.message, maxSignature)
	switch {
	case err != nil:
		return e, fmt.Errorf("the bundle's signature: %w", err)
	case len(p7.Content) == 0:
		return e, errors.New("the bundle has no manifest in its signature: it is of the format plain, or encrypted already; build it with format=verity, or sign before \"rauc encrypt\"")
	}
	e.manifest = p7.Content
	if e.info, e.verity, err = readManifest(e.manifest); err != nil {
		return e, fmt.Errorf("the manifest: %w", err)
	}
	head := make([]byte, 4)
	if _, err := file.ReadAt(head, 0); err != nil || e.info.Format == "verity" && string(head) != "hsqs" {
		return e, errors.New("the bundle does not begin with a squashfs")
	}
	e.payload = file.Size() - 8 - int64(n) - e.verity.size
	if e.payload <= 0 || e.payload%blockSize != 0 || e.verity.size != treeSize(e.payload/blockSize) {
		return e, fmt.Errorf("%d bytes of hashes do not belong to a squashfs of %d", e.verity.size, e.payload)
	}
	return e, nil
}
