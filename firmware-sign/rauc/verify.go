package rauc

import (
	"bufio"
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"time"

	"github.com/touchmark/touchmark/internal/cms"
)

// Verify checks a bundle: the signature in it, by a certificate that one of
// the roots issued (they may be issuing CAs) and that is valid at the given
// time, and every block of the squashfs against the tree of hashes in the
// bundle, up to the root that was signed.
func Verify(file *io.SectionReader, roots *x509.CertPool, at time.Time) (*Info, *cms.Signer, error) {
	e, err := readEnd(file)
	if err != nil {
		return nil, nil, err
	}
	manifest, by, err := cms.Open(e.message, maxSignature)
	if err != nil {
		return nil, nil, fmt.Errorf("the bundle's signature: %w", err)
	}
	if err := by.Check(roots, at); err != nil {
		return nil, nil, err
	}
	if !bytes.Equal(manifest, e.manifest) {
		return nil, nil, errors.New("the manifest is not what was signed")
	}
	if err := checkTree(file, e); err != nil {
		return nil, nil, err
	}
	return &e.info, &by, nil
}

// checkTree goes through the bundle as dm-verity does, from the root down:
// each level of the tree, the upper ones before the lower ones, then the data.
func checkTree(file *io.SectionReader, e end) error {
	var counts []int64 // blocks of each level, the data first
	for n := e.payload / 4096; ; n = (n + 127) / 128 {
		counts = append(counts, n)
		if n == 1 {
			break
		}
	}
	above := io.Reader(bytes.NewReader(e.verity.root))
	at := e.payload
	for level := len(counts) - 1; level > 0; level-- {
		size := counts[level] * 4096
		if err := checkLevel(io.NewSectionReader(file, at, size), above, counts[level], e.verity.salt); err != nil {
			return fmt.Errorf("the hash tree, at byte %d: %w", at, err)
		}
		above, at = io.NewSectionReader(file, at, size), at+size
	}
	if err := checkLevel(io.NewSectionReader(file, 0, e.payload), above, counts[0], e.verity.salt); err != nil {
		return fmt.Errorf("the squashfs: %w", err)
	}
	return nil
}

// checkLevel holds so many blocks to the hashes of the level above.
func checkLevel(blocks, hashes io.Reader, n int64, salt []byte) error {
	blocks, hashes = bufio.NewReaderSize(blocks, 256<<10), bufio.NewReader(hashes)
	buf := make([]byte, 32+4096)
	copy(buf, salt)
	want := make([]byte, 32)
	for i := range n {
		if _, err := io.ReadFull(blocks, buf[32:]); err != nil {
			return err
		}
		if _, err := io.ReadFull(hashes, want); err != nil {
			return err
		}
		if got := sha256.Sum256(buf); !bytes.Equal(got[:], want) {
			return fmt.Errorf("block %d was changed", i)
		}
	}
	return nil
}

// Signature is the CMS message in a bundle, which is not verified.
func Signature(file *io.SectionReader) ([]byte, error) {
	e, err := readEnd(file)
	return e.message, err
}
