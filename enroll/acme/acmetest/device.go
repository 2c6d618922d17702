package acmetest

import (
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"encoding/pem"
	"fmt"
	"math/big"
	"strings"
	"time"

	"github.com/fxamacker/cbor/v2"
)

// Device is a device of which its chip's maker says that a key is in it.
type Device struct {
	Serial string

	key   *ecdsa.PrivateKey
	chain [][]byte // of the attesting certificate
	csr   string   // base64url
}

// statement is an attestation of format step over a key authorization.
func (d Device) statement(authorization string) (string, error) {
	sum := sha256.Sum256([]byte(authorization))
	sig, err := ecdsa.SignASN1(rand.Reader, d.key, sum[:])
	if err != nil {
		return "", err
	}
	if sig, err = cbor.Marshal(sig); err != nil {
		return "", err
	}
	obj, err := cbor.Marshal(map[string]any{"fmt": "step", "attStmt": map[string]any{"x5c": d.chain, "alg": -7, "sig": sig}})
	return base64.RawURLEncoding.EncodeToString(obj), err
}

// Manifest has the devices' records.
func Manifest(devices []Device) []byte {
	var b strings.Builder
	for _, d := range devices {
		fmt.Fprintf(&b, "{\"serial\":%q}\n", d.Serial)
	}
	return []byte(b.String())
}

// Maker makes the chips that attest.
type Maker struct {
	cert *x509.Certificate
	key  *ecdsa.PrivateKey
}

// NewMaker makes one with a root of its own.
func NewMaker() (*Maker, error) {
	m := new(Maker)
	der, err := m.certify(&x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Chips"}, IsCA: true, BasicConstraintsValid: true}, &m.key)
	if err == nil {
		m.cert, err = x509.ParseCertificate(der)
	}
	return m, err
}

// PEM is the maker's root, as a product trusts it.
func (m *Maker) PEM() string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: m.cert.Raw}))
}

// certify makes a key and its certificate, self-signed if it is the first.
func (m *Maker) certify(template *x509.Certificate, key **ecdsa.PrivateKey) (der []byte, err error) {
	if *key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	template.NotBefore, template.NotAfter = time.Now().Add(-time.Hour), time.Now().Add(24*time.Hour)
	parent := m.cert
	if parent == nil {
		parent = template
	}
	return x509.CreateCertificate(rand.Reader, template, parent, (*key).Public(), m.key)
}

// oidManagedDevice names the device in an attesting certificate, as smallstep
// has it.
var oidManagedDevice = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 37476, 9000, 64, 4}

// Devices makes n, each with a key, its attesting certificate and the request
// for its official one.
func (m *Maker) Devices(n int) ([]Device, error) {
	list := make([]Device, n)
	for i := range list {
		d := &list[i]
		d.Serial = fmt.Sprintf("AT-%d", i)
		id, err := asn1.Marshal(struct{ DeviceID string }{d.Serial})
		if err != nil {
			return nil, err
		}
		leaf, err := m.certify(&x509.Certificate{SerialNumber: big.NewInt(int64(i + 2)), Subject: pkix.Name{CommonName: "attested"},
			ExtraExtensions: []pkix.Extension{{Id: oidManagedDevice, Value: id}}}, &d.key)
		if err != nil {
			return nil, err
		}
		csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: d.Serial}}, d.key)
		if err != nil {
			return nil, err
		}
		d.chain, d.csr = [][]byte{leaf}, base64.RawURLEncoding.EncodeToString(csr)
	}
	return list, nil
}
