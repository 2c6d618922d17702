package release

import (
	"bytes"
	"crypto"
	"encoding/json"
	"fmt"
	"slices"
	"time"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
)

// statementKinds are the kinds of keys that sign statements, and no files.
var statementKinds = []string{"ML-DSA-65", "ML-DSA-87"}

// statementAlgorithms are what they sign with.
var statementAlgorithms = map[string]firmwaresign.Algorithm{"ML-DSA-65": firmwaresign.MLDSA65, "ML-DSA-87": firmwaresign.MLDSA87}

// SignsStatements reports whether the key signs statements about releases
// instead of files.
func (k *Key) SignsStatements() bool { return slices.Contains(statementKinds, k.Kind) }

// StatementSignature is the signature of a release's statement by one key.
type StatementSignature struct {
	Key       string                 `json:"key" doc:"The name of the key that signed"`
	Algorithm firmwaresign.Algorithm `json:"algorithm" enum:"ml-dsa-65,ml-dsa-87" doc:"How it signed: the pure ML-DSA of FIPS 204 with the context string \"touchmark release statement\""`
	PublicKey []byte                 `json:"publicKey" doc:"The public key: a SubjectPublicKeyInfo (RFC 9881), DER in base64"`
	Signature []byte                 `json:"signature" doc:"The signature over the statement's bytes"`
	// Timestamp is a token over the SHA-256 of the signature's bytes.
	Timestamp []byte    `json:"timestamp,omitempty" doc:"A time stamp (RFC 3161) over the signature, DER in base64; absent if the server had no authority for time stamps"`
	By        string    `json:"by" doc:"The operator at whose wish it was made"`
	At        time.Time `json:"at" doc:"When it was kept"`
}

// Verify checks the signature, without asking whose key it is.
func (s *StatementSignature) Verify(statement []byte) error {
	return firmwaresign.ToSign{Algorithm: s.Algorithm, PublicKey: s.PublicKey, Message: statement}.Verify(s.Signature)
}

// StatementPermit is the right to sign the statement of one release with one
// key. Only [AllowStatement] makes one.
type StatementPermit struct {
	key  *Key
	want firmwaresign.ToSign
}

// AllowStatement decides whether a key may sign the statement of a release: a
// key for statements of the release's product that was not revoked, once the
// release was approved. What was approved is the statement, and it cannot
// change any more.
func AllowStatement(r *Release, k *Key) (*StatementPermit, error) {
	if err := r.state("statements are signed of approved releases alone", Approved, Signed, Published); err != nil {
		return nil, err
	}
	switch {
	case !k.SignsStatements():
		return nil, fmt.Errorf("the key %s is of kind %s, and signs files: statements are signed by keys of the kinds %v", k.Name, k.Kind, statementKinds)
	case k.Product != r.Product || k.Stage != Production:
		return nil, fmt.Errorf("the key %s is for %s of product %s, not for releases of %s", k.Name, k.Stage, k.Product, r.Product)
	case !k.Revoked.IsZero():
		return nil, fmt.Errorf("the key %s was revoked: it signs nothing more", k.Name)
	}
	pub, err := k.Public()
	if err != nil {
		return nil, err
	}
	want, err := firmwaresign.NewToSign(statementAlgorithms[k.Kind], pub, r.Statement().Bytes())
	return &StatementPermit{k, want}, err
}

// Sign makes the signature. Nobody may have it before it is kept that it was
// made.
func (p *StatementPermit) Sign(signer crypto.Signer) (*StatementSignature, error) {
	sig, err := p.want.Sign(signer)
	if err != nil {
		return nil, fmt.Errorf("sign the statement with %s: %w", p.key.Name, err)
	}
	return &StatementSignature{Key: p.key.Name, Algorithm: p.want.Algorithm, PublicKey: p.want.PublicKey, Signature: sig}, nil
}

// Accept verifies a signature that was made elsewhere in the program against
// what the permit is for.
func (p *StatementPermit) Accept(s *StatementSignature) error {
	if s.Key != p.key.Name || s.Algorithm != p.want.Algorithm || !bytes.Equal(s.PublicKey, p.want.PublicKey) {
		return fmt.Errorf("the signature is not one of the key %s", p.key.Name)
	}
	return p.want.Verify(s.Signature)
}

// ReadStatement reads a statement that somebody kept. It takes the canonical
// JSON alone, so that all who read the same bytes see the same.
func ReadStatement(text []byte) (*Statement, error) {
	s := new(Statement)
	if err := json.Unmarshal(text, s); err != nil {
		return nil, fmt.Errorf("the statement cannot be read: %w", err)
	}
	switch {
	case s.Type != StatementType:
		return nil, fmt.Errorf("the statement is of type %q: this program knows %q", s.Type, StatementType)
	case !bytes.Equal(s.Bytes(), text):
		return nil, fmt.Errorf("the statement is not canonical JSON, or has members that are not known: take the file as it was written, to the byte")
	}
	return s, nil
}

// Name is product@version.
func (s *Statement) Name() string { return s.Product + "@" + s.Version }
