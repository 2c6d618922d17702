package detached

import (
	"fmt"
	"io"

	"filippo.io/mldsa"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
)

// Statement is the bare ML-DSA signature (FIPS 204) of a statement about a
// release, beside the signatures that devices check: for those who must plan for
// the time when the others are worth nothing. The statement is signed as it is,
// under [firmwaresign.StatementContext], and is at most 16 MiB long.
type Statement struct {
	Key *mldsa.PublicKey
}

// Prepare reads the statement, and writes nothing.
func (s Statement) Prepare(file *io.SectionReader, _ io.Writer) (firmwaresign.Draft, error) {
	want, err := s.toSign(file)
	if err != nil {
		return nil, err
	}
	return rawDraft{want}, nil
}

func (s Statement) toSign(file *io.SectionReader) (want firmwaresign.ToSign, err error) {
	if s.Key == nil {
		return want, &firmwaresign.KeyError{Reason: "statements are signed with a key of ML-DSA-65 or ML-DSA-87"}
	}
	if file.Size() == 0 || file.Size() > firmwaresign.MaxMessage {
		return want, fmt.Errorf("the statement is %d bytes long: want 1 to %d", file.Size(), firmwaresign.MaxMessage)
	}
	message := make([]byte, file.Size())
	if _, err := file.ReadAt(message, 0); err != nil {
		return want, fmt.Errorf("read the statement to sign: %w", err)
	}
	alg := firmwaresign.MLDSA65
	if s.Key.Parameters() == mldsa.MLDSA87() {
		alg = firmwaresign.MLDSA87
	}
	return firmwaresign.NewToSign(alg, s.Key, message)
}

// VerifyStatement checks the signature of a statement.
func VerifyStatement(file *io.SectionReader, signature []byte, key *mldsa.PublicKey) error {
	want, err := Statement{key}.toSign(file)
	if err != nil {
		return err
	}
	return want.Verify(signature)
}
