package release

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/ed25519"
	"crypto/rsa"
	"errors"
	"fmt"
	"slices"
	"time"

	"filippo.io/mldsa"
	pkix "filippo.io/mldsa/x509"
)

// Stage says what a key is for.
type Stage string

const (
	Test       Stage = "test"       // signs what is asked of it, for devices of developers
	Production Stage = "production" // signs nothing but approved releases
)

// Stages lists every stage.
var Stages = []Stage{Test, Production}

// Key is a signing key of a product and stage. Its private half is in the
// installation's key store, unless it is offline.
type Key struct {
	ID      int64  `json:"id" doc:"The key's number"`
	Name    string `json:"name" doc:"The key's name"`
	Product string `json:"product" doc:"The product's name"`
	Stage   Stage  `json:"stage" enum:"test,production" doc:"What it is for"`
	Kind    string `json:"kind" enum:"P-256,P-384,RSA-2048,RSA-3072,Ed25519,ML-DSA-65,ML-DSA-87" doc:"What kind of key it is"`
	// PublicKey is a SubjectPublicKeyInfo, DER.
	PublicKey   []byte   `json:"publicKey" doc:"The public key: a SubjectPublicKeyInfo, DER in base64"`
	Certificate []byte   `json:"certificate,omitempty" doc:"Its certificate by the code signing CA, DER in base64; absent of ML-DSA keys"`
	Chain       [][]byte `json:"chain" nullable:"false" doc:"The CA certificates above it without the root, DER in base64"`
	// Offline keys are used where no server reaches: in a vault, on a machine
	// without a network. What they sign is imported.
	Offline bool      `json:"offline,omitempty" doc:"Whether the private key is kept elsewhere, and its signatures are imported"`
	By      string    `json:"by" doc:"The operator who created it"`
	Created time.Time `json:"created" doc:"When it was created"`
	Revoked time.Time `json:"revoked,omitzero" doc:"When it was revoked; absent if it was not"`
	Reason  string    `json:"reason,omitempty" doc:"Why it was revoked"`
}

// KeyKinds lists the kinds of keys: those that sign firmware, and those that
// sign statements about it.
var KeyKinds = append([]string{"P-256", "P-384", "RSA-2048", "RSA-3072", "Ed25519"}, statementKinds...)

// Check reports the first thing wrong with what a key is created with.
func (k *Key) Check() error {
	switch {
	case !slices.Contains(Stages, k.Stage):
		return fmt.Errorf("the stage %q: it is test or production", k.Stage)
	case !slices.Contains(KeyKinds, k.Kind):
		return fmt.Errorf("a key of kind %q signs no firmware: take one of %v", k.Kind, KeyKinds)
	case k.Offline && k.Stage != Production:
		return errors.New("only keys for production are kept offline: those for test sign drafts at once")
	case k.SignsStatements() && k.Stage != Production:
		return fmt.Errorf("a key of kind %s signs statements about approved releases: it is for the stage production", k.Kind)
	}
	return nil
}

// Public is the public key.
func (k *Key) Public() (crypto.PublicKey, error) {
	pub, err := pkix.ParsePKIXPublicKey(k.PublicKey)
	if err != nil {
		return nil, fmt.Errorf("the public key of %s: %w", k.Name, err)
	}
	return pub, nil
}

// KindOf is the kind of a public key, "" if no such key signs firmware.
func KindOf(pub crypto.PublicKey) string {
	switch pub := pub.(type) {
	case *ecdsa.PublicKey:
		return pub.Curve.Params().Name
	case *rsa.PublicKey:
		return fmt.Sprintf("RSA-%d", pub.N.BitLen())
	case ed25519.PublicKey:
		return "Ed25519"
	case *mldsa.PublicKey:
		return pub.Parameters().String()
	}
	return ""
}
