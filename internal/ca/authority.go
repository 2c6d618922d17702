// Package ca holds the certificate authorities and issues what they sign:
// device certificates from a product's profile, certificates of operators and
// rigs, and the server's own TLS certificate.
//
// A device certificate goes prepare → issue: [DeviceIssuer] takes nothing but
// a vetting.Admission, renders the profile, refuses a request that asks for
// more, and signs. Profiles are linted when they are saved.
package ca

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/hex"
	"encoding/pem"
	"errors"
	"fmt"
	"math/big"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/vetting"
)

// Names of the authorities, of their files, and of the other keys.
const (
	RootName     = "root"
	DeviceName   = vetting.DeviceCA
	FactoryName  = vetting.FactoryCA
	OperatorName = vetting.OperatorCA
	CodeSignName = vetting.CodeSigningCA
	LogKeyName   = "log"
	serialFile   = "serial.key"
)

// Authority is one CA that can sign.
type Authority struct {
	Certificate *x509.Certificate
	Signer      crypto.Signer

	seen *certificates // good ones; nil where clients come once, as devices do
}

// Authorities are the CAs of one Touchmark.
type Authorities struct {
	Root *x509.Certificate // its key is needed for ceremonies only
	// The CAs of files. Others may have taken their places.
	Device   Authority
	Factory  Authority
	Operator Authority
	CodeSign Authority
	Serials  Serials
	// Log signs the audit log's checkpoints.
	Log crypto.Signer
	// StatusPoints, if set, gives where devices' certificates say that their
	// status can be learnt, by the CA's name and the serial number. It is set
	// before the first is issued.
	StatusPoints func(issuer string, serial *big.Int) Points

	rollover *Rollover           // nil unless the root's key is being changed
	further  []*x509.Certificate // of the roll-over, those still valid at the start

	places   Places
	founders []*issuer // the CAs of files, the device CA first
	issuers  atomic.Pointer[issuers]
	learning sync.Mutex
	keyless  bool // opened by OpenKeyless

	own map[string]*ownKey
}

// Places say where certificates and keys are.
type Places struct {
	// Dir is the data directory: certificates are DIR/ca/NAME.crt.
	Dir string
	// Keys gives key URIs by name; one that is missing is
	// file:keys/NAME.key below Dir.
	Keys map[string]string
}

func (p Places) key(name string) string {
	if uri := p.Keys[name]; uri != "" {
		return uri
	}
	return "file:keys/" + name + ".key"
}

func (p Places) certificate(name string) string { return filepath.Join(p.Dir, "ca", name+".crt") }

// Root reads the root certificate in force.
func (p Places) Root() (*x509.Certificate, error) { return readCertificate(p.certificate(RootName)) }

func (p Places) serialKey() string { return filepath.Join(p.Dir, "keys", serialFile) }

// Lifetimes of the authorities.
const (
	rootYears    = 30
	issuingYears = 20
)

// Init makes the authorities, their keys and the log's key. It refuses a
// directory that holds any of them already.
func Init(ctx context.Context, p Places, organization string, now time.Time) (*Authorities, error) {
	if _, err := os.Stat(p.certificate(RootName)); err == nil {
		return nil, fmt.Errorf("%s holds a CA already: choose another directory; an existing CA is never overwritten", p.Dir)
	}
	ring := keys.Ring{Dir: p.Dir}
	rootKey, err := ring.Create(ctx, p.key(RootName), keys.P384)
	if err != nil {
		return nil, err
	}
	root, err := selfSign(rootKey, organization, now)
	if err != nil {
		return nil, err
	}
	if err := writeCertificate(p.certificate(RootName), root); err != nil {
		return nil, err
	}
	for _, purpose := range vetting.Purposes {
		name := purpose.FoundingCA()
		key, err := ring.Create(ctx, p.key(name), keys.P256)
		if err != nil {
			return nil, err
		}
		cert, err := signCA(caTemplate(organization, units[purpose], now, issuingYears, 0), root, key.Public(), rootKey)
		if err != nil {
			return nil, err
		}
		if err := writeCertificate(p.certificate(name), cert); err != nil {
			return nil, err
		}
	}
	if _, err := ring.Create(ctx, p.key(LogKeyName), p.logKind()); err != nil {
		return nil, err
	}
	if err := p.makeOwn(ctx); err != nil {
		return nil, err
	}
	if err := p.makeSerialKey(); err != nil {
		return nil, err
	}
	return Open(ctx, p, now)
}

func (p Places) makeSerialKey() error {
	secret := make([]byte, 32)
	rand.Read(secret)
	if err := os.MkdirAll(filepath.Dir(p.serialKey()), 0o700); err != nil {
		return err
	}
	return keys.WriteFile(p.serialKey(), []byte(hex.EncodeToString(secret)+"\n"))
}

// logKind is the kind of the log's key: hardly any HSM, and no library for
// them, signs with Ed25519.
func (p Places) logKind() keys.Kind {
	if strings.HasPrefix(p.key(LogKeyName), "file:") {
		return keys.Ed25519
	}
	return keys.P256
}

// rootPathLen leaves room for the root signed by another root: RFC 5280 §6.1.4
// does not count that one, but Go does.
const rootPathLen = 2

func selfSign(key crypto.Signer, organization string, now time.Time) (*x509.Certificate, error) {
	t := caTemplate(organization, "Root CA", now, rootYears, rootPathLen)
	return signCA(t, t, key.Public(), key)
}

func caTemplate(organization, title string, now time.Time, years, pathLen int) *x509.Certificate {
	serial := make([]byte, 16)
	rand.Read(serial)
	serial[0] = serial[0]&0x7f | 0x40
	return &x509.Certificate{
		SerialNumber:          new(big.Int).SetBytes(serial),
		Subject:               pkix.Name{Organization: []string{organization}, CommonName: organization + " " + title},
		NotBefore:             now.Add(-time.Minute).UTC().Truncate(time.Second),
		NotAfter:              now.AddDate(years, 0, 0).UTC().Truncate(time.Second),
		KeyUsage:              x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true, IsCA: true, MaxPathLen: pathLen, MaxPathLenZero: pathLen == 0,
	}
}

func signCA(t, parent *x509.Certificate, pub crypto.PublicKey, by crypto.Signer) (*x509.Certificate, error) {
	der, err := x509.CreateCertificate(rand.Reader, t, parent, pub, by)
	if err != nil {
		return nil, fmt.Errorf("sign %s: %w", t.Subject.CommonName, err)
	}
	return x509.ParseCertificate(der)
}

func writeCertificate(path string, cert *x509.Certificate) error {
	if err := os.MkdirAll(filepath.Dir(path), 0o755); err != nil {
		return err
	}
	return os.WriteFile(path, PEM(cert.Raw), 0o644)
}

// PEM gives a certificate's PEM form.
func PEM(der []byte) []byte {
	return pem.EncodeToMemory(&pem.Block{Type: certificateType, Bytes: der})
}

// Open loads the authorities and refuses what does not fit together: a device
// CA with a key that is not its certificate's, that the root did not sign or
// whose time is over. Of the other CAs [Authorities.Ready] tells, when those of
// the database were learnt. The root's key is not needed.
func Open(ctx context.Context, p Places, now time.Time) (*Authorities, error) {
	root, err := p.Root()
	if err != nil {
		return nil, err
	}
	a := &Authorities{Root: root, places: p}
	if a.rollover, err = readRollover(p, root); err != nil {
		return nil, err
	}
	a.further = a.rollover.valid(now)
	if a.Device, err = a.openAuthority(ctx, DeviceName, now); err != nil {
		return nil, err
	}
	if a.Log, err = (keys.Ring{Dir: p.Dir}).Open(ctx, p.key(LogKeyName)); err != nil {
		return nil, err
	}
	if err := a.openOwn(ctx, OwnKeys...); err != nil {
		return nil, err
	}
	if a.Serials, err = readSerialKey(p.serialKey()); err != nil {
		return nil, err
	}
	if err := a.openFounders(ctx); err != nil {
		return nil, err
	}
	a.issuers.Store(newIssuers(a.founders))
	return a, nil
}

func (a *Authorities) openAuthority(ctx context.Context, name string, now time.Time) (Authority, error) {
	file := a.places.certificate(name)
	cert, err := readCertificate(file)
	if err != nil {
		return Authority{}, err
	}
	if err := a.belowRoot(cert); err != nil {
		return Authority{}, fmt.Errorf("%s: %w", file, err)
	}
	if now.After(cert.NotAfter) {
		return Authority{}, fmt.Errorf("%s ran out at %s: it cannot sign any more", file, cert.NotAfter.Format(time.RFC3339))
	}
	signer, err := a.places.openKey(ctx, a.places.key(name), cert)
	return Authority{Certificate: cert, Signer: signer}, err
}

// openKey opens the key of a certificate.
func (p Places) openKey(ctx context.Context, uri string, cert *x509.Certificate) (crypto.Signer, error) {
	signer, err := keys.Ring{Dir: p.Dir}.Open(ctx, uri)
	if err != nil {
		return nil, err
	}
	have, err := x509.MarshalPKIXPublicKey(signer.Public())
	if err != nil {
		return nil, err
	}
	if !bytes.Equal(have, cert.RawSubjectPublicKeyInfo) {
		return nil, fmt.Errorf("the key %s is not the key of the certificate of %q: one of them belongs to another CA", keys.Redact(uri), cert.Subject)
	}
	return signer, nil
}

func readCertificate(path string) (*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("CA certificate: %w", err)
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != certificateType {
		return nil, fmt.Errorf("%s holds no certificate in PEM", path)
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return cert, nil
}

func readSerialKey(path string) (Serials, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return Serials{}, fmt.Errorf("serial number key: %w", err)
	}
	key, err := hex.DecodeString(string(bytes.TrimSpace(text)))
	if err != nil || len(key) < 16 {
		return Serials{}, errors.New(path + " is not a serial number key: want at least 16 bytes in hexadecimal")
	}
	return NewSerials(key), nil
}

// Name is the hex SHA-256 of the root certificate: what the database is
// bound to.
func (a *Authorities) Name() string {
	return nameOf(a.Root)
}

// CACerts are what EST's /cacerts answers (RFC 7030 §4.1.3): the root, in a
// roll-over the other root and both roots signed by each other, and every
// intermediate that a device may meet. Order means nothing by the standard,
// but openssl takes the first issuer that fits: so the roots that others
// signed come before those that signed themselves, where it would stop.
func (a *Authorities) CACerts() [][]byte {
	var certs [][]byte
	for _, c := range a.further {
		if !c.Equal(a.Root) {
			certs = append(certs, c.Raw)
		}
	}
	certs = append(certs, a.Root.Raw)
	for _, i := range slices.Concat(a.issuers.Load().list, a.trusted(vetting.ForOperators), a.trusted(vetting.ForSites)) {
		certs = append(certs, i.Certificate.Raw)
	}
	return certs
}

// Expiries gives the end of each authority that a server cannot do without,
// for monitoring.
func (a *Authorities) Expiries() map[string]time.Time {
	m := map[string]time.Time{RootName: a.Root.NotAfter, DeviceName: a.Device.Certificate.NotAfter}
	known := a.issuers.Load()
	for _, p := range vetting.Purposes[1:] {
		i := known.present(p)
		m[a.keyName(i.name)] = i.Certificate.NotAfter
	}
	return m
}

// FurtherExpiries gives the ends of the issuing CAs that were learnt, by the
// names of their keys, and of the certificates of a root roll-over.
func (a *Authorities) FurtherExpiries() map[string]time.Time {
	m := map[string]time.Time{}
	for _, c := range a.List() {
		if c.ofRollover {
			m[c.Name] = c.Certificate.NotAfter
		}
	}
	for _, i := range a.issuers.Load().list[1:] {
		m[IssuingKeyName(i.name)] = i.Certificate.NotAfter
	}
	return m
}
