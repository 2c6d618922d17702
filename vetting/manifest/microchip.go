package manifest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"math/big"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// microchip reads the manifest of Microchip's Trust Platform: for each secure
// element a JWS whose payload says its unique ID and public keys.
type microchip struct {
	elements *elements
	signers  []signer
	key      string
	to       string
}

// signer is a certificate whose signatures count, as entries name it.
type signer struct {
	cert       *x509.Certificate
	key        *ecdsa.PublicKey
	thumbprint string // x5t#S256, RFC 7515 §4.1.8
	keyID      string // the subjectKeyIdentifier, as Microchip's kid
}

func newMicrochip(r io.Reader, c Conversion) (*microchip, error) {
	m := &microchip{elements: newElements(r), key: c.Key, to: c.Distributor}
	if m.key == "" {
		m.key = "0"
	}
	for _, cert := range c.Signers {
		key, ok := cert.PublicKey.(*ecdsa.PublicKey)
		if !ok || key.Curve != elliptic.P256() {
			return nil, vetting.Errorf(vetting.Invalid, "the signer %q has no P-256 key, which ES256 wants", cert.Subject)
		}
		sum := sha256.Sum256(cert.Raw)
		m.signers = append(m.signers, signer{cert, key, b64(sum[:]), b64(cert.SubjectKeyId)})
	}
	if len(m.signers) == 0 {
		return nil, vetting.Errorf(vetting.Invalid, "entries are signed, and no signer is named: get the manifest signer's certificate from the vendor")
	}
	return m, nil
}

func b64(b []byte) string { return base64.RawURLEncoding.EncodeToString(b) }

// jws is a flattened JWS (RFC 7515 §7.2.2).
type jws struct {
	Payload   string `json:"payload"`
	Protected string `json:"protected"`
	Header    struct {
		UniqueID string `json:"uniqueId"`
	} `json:"header"`
	Signature string `json:"signature"`
}

// entry is the payload, in the versions 1 and 2. What we make nothing of is
// left out.
type entry struct {
	Version    int    `json:"version"`
	PartNumber string `json:"partNumber"`
	// The documentation spells distributor as distributer, and so do some files.
	Distributor           organization `json:"distributor"`
	Distributer           organization `json:"distributer"`
	ProvisioningTimestamp string       `json:"provisioningTimestamp"`
	UniqueID              string       `json:"uniqueId"`
	PublicKeySet          struct {
		Keys []jwk `json:"keys"`
	} `json:"publicKeySet"`
}

type organization struct {
	Name string `json:"organizationName"`
}

// jwk is a public key (RFC 7517) with the certificates that name it.
type jwk struct {
	ID           string   `json:"kid"`
	Type         string   `json:"kty"`
	Curve        string   `json:"crv"`
	X            string   `json:"x"`
	Y            string   `json:"y"`
	Certificates []string `json:"x5c"`
}

func (m *microchip) next(w *row) (int64, error) {
	text, line, err := m.elements.next()
	if err != nil {
		return line, err
	}
	return line, m.entry(text, w)
}

func (m *microchip) entry(text []byte, w *row) error {
	var j jws
	if err := json.Unmarshal(text, &j); err != nil {
		return bad("not a flattened JWS: %v", err)
	}
	e, err := m.open(&j)
	if err != nil {
		return err
	}
	to := e.Distributor.Name
	if to == "" {
		to = e.Distributer.Name
	}
	switch {
	case e.Version != 1 && e.Version != 2:
		return bad("the entry is of version %d: known are 1 and 2", e.Version)
	case j.Header.UniqueID != "" && j.Header.UniqueID != e.UniqueID:
		return bad("the header says uniqueId %q, the signed payload %q", j.Header.UniqueID, e.UniqueID)
	case m.to != "" && to != m.to:
		return bad("the entry is for the distributor %q, not %q", to, m.to)
	}
	key, err := m.bootstrapKey(e)
	if err != nil {
		return err
	}
	return w.setAll([2]string{"serial", e.UniqueID}, [2]string{"uid", e.UniqueID}, [2]string{"bootstrapKey", key},
		[2]string{"hardwareRevision", e.PartNumber}, [2]string{"time", e.ProvisioningTimestamp})
}

// open checks the signature and reads the payload.
func (m *microchip) open(j *jws) (*entry, error) {
	by, err := m.signer(j.Protected)
	if err != nil {
		return nil, err
	}
	sig, err := base64.RawURLEncoding.DecodeString(j.Signature)
	if err != nil || len(sig) != 64 {
		return nil, bad("the signature is not the 64 bytes of ES256 (RFC 7518 §3.4) in base64url")
	}
	digest := sha256.Sum256([]byte(j.Protected + "." + j.Payload))
	if !ecdsa.Verify(by.key, digest[:], new(big.Int).SetBytes(sig[:32]), new(big.Int).SetBytes(sig[32:])) {
		return nil, bad("the signature of %q does not verify", by.cert.Subject)
	}
	e := new(entry)
	if err := unpack64(j.Payload, e); err != nil {
		return nil, bad("the payload is no JSON object in base64url: %v", err)
	}
	return e, by.checkTime(e.ProvisioningTimestamp)
}

// checkTime holds the signer's certificate to the moment it signed at, by its
// own word; entries are read years later.
func (s *signer) checkTime(stamp string) error {
	at, err := time.Parse(time.RFC3339, stamp)
	switch {
	case err != nil:
		return bad("provisioningTimestamp %q is not in the form of RFC 3339", stamp)
	case at.Before(s.cert.NotBefore) || at.After(s.cert.NotAfter):
		return bad("the signer's certificate %q was not valid at %s, when the chip was provisioned", s.cert.Subject, stamp)
	}
	return nil
}

func (m *microchip) signer(protected string) (*signer, error) {
	var h struct {
		Algorithm  string          `json:"alg"`
		KeyID      string          `json:"kid"`
		Thumbprint string          `json:"x5t#S256"`
		Critical   json.RawMessage `json:"crit"`
	}
	if err := unpack64(protected, &h); err != nil {
		return nil, bad("the protected header is no JSON object in base64url: %v", err)
	}
	if h.Algorithm != "ES256" || h.Critical != nil {
		return nil, bad("the entry is signed with %q and critical headers %s: want ES256 and none", h.Algorithm, h.Critical)
	}
	for i, s := range m.signers {
		named := h.Thumbprint != "" || h.KeyID != ""
		if named && (h.Thumbprint == "" || h.Thumbprint == s.thumbprint) && (h.KeyID == "" || h.KeyID == s.keyID) {
			return &m.signers[i], nil
		}
	}
	return nil, bad("the entry's signer (x5t#S256 %q, kid %q) is none of those that you named", h.Thumbprint, h.KeyID)
}

// bootstrapKey is the fingerprint of the chosen key; "" for an entry without
// keys, which version 2 allows.
func (m *microchip) bootstrapKey(e *entry) (string, error) {
	keys := e.PublicKeySet.Keys
	if len(keys) == 0 && e.Version == 2 {
		return "", nil
	}
	for _, k := range keys {
		if k.ID == m.key {
			return k.fingerprint()
		}
	}
	return "", bad("the entry of %q has no key with the kid %q", e.UniqueID, m.key)
}

// fingerprint checks that the key is that of its certificate.
func (k *jwk) fingerprint() (string, error) {
	x, errX := base64.RawURLEncoding.DecodeString(k.X)
	y, errY := base64.RawURLEncoding.DecodeString(k.Y)
	if errX != nil || errY != nil || k.Type != "EC" || k.Curve != "P-256" || len(x) != 32 || len(y) != 32 {
		return "", bad("the key %q is no P-256 key (RFC 7518 §6.2)", k.ID)
	}
	pub, err := ecdsa.ParseUncompressedPublicKey(elliptic.P256(), append(append([]byte{4}, x...), y...))
	if err != nil {
		return "", bad("the key %q is no point of P-256", k.ID)
	}
	f, err := vetting.PublicKeyFingerprint(pub)
	if err != nil {
		return "", bad("the key %q: %v", k.ID, err)
	}
	if len(k.Certificates) == 0 {
		return f.String(), nil
	}
	of, err := certificateKey(k.Certificates[0])
	switch {
	case err != nil:
		return "", bad("the certificate of key %q: %v", k.ID, err)
	case of != f:
		return "", bad("the certificate of key %q is of another key", k.ID)
	}
	return f.String(), nil
}

func unpack64(text string, into any) error {
	b, err := base64.RawURLEncoding.DecodeString(text)
	if err != nil {
		return err
	}
	if err := checkJSON(b); err != nil {
		return err
	}
	return json.Unmarshal(b, into)
}
