package detached

import (
	"crypto"
	"fmt"
	"io"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
)

// Raw is the bare signature: ECDSA (DER) or RSA, as "openssl dgst -verify"
// takes them, with SHA-384 for P-384 and SHA-256 for the others, or Ed25519,
// as "openssl pkeyutl -verify -rawin" takes it. Ed25519 signs the file itself,
// so the file goes to the key, and is at most [firmwaresign.MaxMessage] long.
type Raw struct {
	Key crypto.PublicKey
	PSS bool // an RSA key signs with PSS, with a salt of 32 bytes
}

type rawDraft struct{ want firmwaresign.ToSign }

// Prepare digests the file, and writes nothing.
func (r Raw) Prepare(file *io.SectionReader, _ io.Writer) (firmwaresign.Draft, error) {
	want, err := r.toSign(file)
	if err != nil {
		return nil, err
	}
	return rawDraft{want}, nil
}

func (r Raw) toSign(file *io.SectionReader) (want firmwaresign.ToSign, err error) {
	alg, err := firmwaresign.AlgorithmFor(r.Key, r.PSS)
	switch {
	case err != nil:
		return want, err
	case alg != firmwaresign.Ed25519:
		sum, err := digest(file, alg.Hash())
		if err != nil {
			return want, err
		}
		return firmwaresign.NewDigestToSign(alg, r.Key, sum)
	case file.Size() > firmwaresign.MaxMessage:
		return want, fmt.Errorf("the file is %d bytes long: Ed25519 signs at most %d, use ECDSA or RSA", file.Size(), firmwaresign.MaxMessage)
	}
	message := make([]byte, file.Size())
	if _, err := file.ReadAt(message, 0); err != nil {
		return want, fmt.Errorf("read the file to sign: %w", err)
	}
	return firmwaresign.NewToSign(alg, r.Key, message)
}

func (d rawDraft) ToSign() []firmwaresign.ToSign { return []firmwaresign.ToSign{d.want} }

func (d rawDraft) Finish(out io.Writer, signatures [][]byte) error {
	_, err := out.Write(signatures[0])
	return err
}

// VerifyRaw checks a bare signature over a file.
func VerifyRaw(file *io.SectionReader, signature []byte, key crypto.PublicKey, pss bool) error {
	want, err := Raw{key, pss}.toSign(file)
	if err != nil {
		return err
	}
	return want.Verify(signature)
}
