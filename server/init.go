package server

import (
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

// Plan is what Init makes.
type Plan struct {
	// Dir is the data directory. It must be empty or not exist.
	Dir string
	// Organization names the CAs.
	Organization string
	// Config becomes the configuration file; its Dir is ignored. An empty
	// Audit.Origin is made of the first name.
	Config *Config
	// RootKeyDir, if set, is where the root's key goes, to be taken offline.
	RootKeyDir string
	// KMS, if set, is a key URI in which "{name}" stands for a key's name and
	// "{id}" for a hexadecimal number, which PKCS#11 wants: there go the keys of the root (unless RootKeyDir is set), the CAs,
	// the log, OCSP answers, the attestation CA, and time stamps.
	KMS string
	// Admin names the first operator.
	Admin string
}

// Made tells what Init made.
type Made struct {
	Dir     string
	Files   []string // below Dir unless absolute, in the order of making
	RootKey string   // URI of the root's key, secrets hidden
	Root    *x509.Certificate
	Profile *Profile
	// Verifier is the audit log's public key for auditors.
	Verifier string
}

// Init makes a new Touchmark: CAs, keys, database, configuration and the
// first operator. It never touches what is there; if it fails, the directory
// is left as it was found.
func Init(ctx context.Context, p Plan, env Environment) (made *Made, err error) {
	env = env.complete()
	if err := p.check(); err != nil {
		return nil, err
	}
	existed, err := requireEmpty(p.Dir)
	if err != nil {
		return nil, err
	}
	defer func() {
		if err != nil {
			err = errors.Join(err, clean(p.Dir, existed))
		}
	}()
	if err := os.MkdirAll(p.Dir, 0o700); err != nil {
		return nil, err
	}
	i := &initialization{Plan: p, env: env, made: &Made{Dir: p.Dir}}
	for _, step := range []func(context.Context) error{i.makeAuthorities, i.makeConfig, i.makeAdmin} {
		if err := step(ctx); err != nil {
			return nil, err
		}
	}
	return i.made, nil
}

func (p *Plan) check() error {
	if strings.TrimSpace(p.Organization) == "" {
		return errors.New("the organisation needs a name: it stands in every CA certificate (--name)")
	}
	if p.KMS != "" && !strings.Contains(p.KMS, "{name}") {
		return fmt.Errorf("the key URI %q needs {name} where the key's name goes, as in pkcs11:module-path=…;token=touchmark;id={id};object={name}?pin-source=…", keys.Redact(p.KMS))
	}
	if err := (&access.Operator{Name: p.Admin, Role: access.RoleAdmin}).Check(); err != nil {
		return err
	}
	c := *p.Config
	if c.Audit.Origin == "" && len(c.Names) > 0 {
		c.Audit.Origin = c.Names[0] + "/audit"
	}
	c.Dir, p.Config = p.Dir, &c
	return c.Check()
}

// requireEmpty refuses a directory with anything in it.
func requireEmpty(dir string) (existed bool, err error) {
	entries, err := os.ReadDir(dir)
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return false, nil
	case err != nil:
		return false, err
	case len(entries) > 0:
		return true, fmt.Errorf("%s is not empty (it holds %s): choose another directory; init never overwrites a CA", dir, entries[0].Name())
	}
	return true, nil
}

// clean removes what a failed Init made in the directory that it found empty.
func clean(dir string, existed bool) error {
	if !existed {
		return os.RemoveAll(dir)
	}
	entries, err := os.ReadDir(dir)
	for _, e := range entries {
		err = errors.Join(err, os.RemoveAll(filepath.Join(dir, e.Name())))
	}
	return err
}

type initialization struct {
	Plan
	env         Environment
	authorities *ca.Authorities
	made        *Made
}

func (i *initialization) path(name string) string { return filepath.Join(i.Dir, name) }

func (i *initialization) makeAuthorities(ctx context.Context) error {
	uris := map[string]string{ca.TimestampKeyName: "file:keys/" + ca.TimestampKeyName + ".key"}
	if i.KMS != "" {
		for n, name := range []string{ca.RootName, ca.DeviceName, ca.FactoryName, ca.OperatorName, ca.CodeSignName, ca.LogKeyName, ca.ResponderKeyName, ca.AttestationKeyName, ca.TimestampKeyName} {
			uris[name] = strings.NewReplacer("{name}", name, "{id}", fmt.Sprintf("%02x", n+1)).Replace(i.KMS)
		}
		uris[contentKeyName] = strings.NewReplacer("{name}", contentKeyName, "{id}", "c0").Replace(i.KMS)
		uris[firmwareKeys] = strings.ReplaceAll(i.KMS, "{name}", "firmware-{name}")
		uris[licenceKeysPlace] = i.KMS
		uris[tufKeys] = i.KMS
	}
	if i.RootKeyDir != "" {
		dir, err := filepath.Abs(i.RootKeyDir)
		if err != nil {
			return err
		}
		uris[ca.RootName] = "file:" + filepath.Join(dir, ca.RootName+".key")
	}
	a, err := ca.Init(ctx, ca.Places{Dir: i.Dir, Keys: uris}, i.Organization, i.env.Now())
	if err != nil {
		return err
	}
	i.made.RootKey = "file:keys/" + ca.RootName + ".key"
	if uri := uris[ca.RootName]; uri != "" {
		i.made.RootKey = keys.Redact(uri)
	}
	delete(uris, ca.RootName)
	for name, uri := range i.Config.Keys {
		uris[name] = uri
	}
	i.Config.Keys = uris
	i.authorities, i.made.Root = a, a.Root
	i.made.Files = append(i.made.Files, "ca/", "keys/")
	return nil
}

func (i *initialization) makeConfig(context.Context) error {
	signer, err := audit.NewSigner(i.Config.Audit.Origin, i.authorities.Log)
	if err != nil {
		return err
	}
	i.made.Verifier = signer.VerifierKey()
	if err := os.MkdirAll(i.path("log"), 0o755); err != nil {
		return err
	}
	if err := os.WriteFile(i.Config.VerifierFile(), []byte(i.made.Verifier+"\n"), 0o644); err != nil {
		return err
	}
	c := *i.Config
	c.Dir = "." // the file can move with its directory
	// The database's address or a key's URI may hold a password.
	if err := keys.WriteFile(i.path(ConfigFile), []byte(Sample(&c))); err != nil {
		return err
	}
	i.made.Files = append(i.made.Files, "log/verifier", ConfigFile)
	return nil
}

// makeAdmin opens the database for the first time and gives the first
// operator a key and a certificate.
func (i *initialization) makeAdmin(ctx context.Context) (err error) {
	ring := keys.Ring{Dir: i.Dir}
	key, err := ring.Create(ctx, "file:admin.key", keys.P256)
	if err != nil {
		return err
	}
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: pkix.Name{CommonName: i.Admin}}, key)
	if err != nil {
		return err
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		return err
	}
	issuer := ca.OperatorIssuer{Authorities: i.authorities, Now: i.env.Now}
	cert, err := issuer.IssueOperator(csr, &access.Operator{Name: i.Admin, Role: access.RoleAdmin})
	if err != nil {
		return err
	}
	if err := os.WriteFile(i.path("admin.crt"), ca.PEM(cert.DER), 0o644); err != nil {
		return err
	}
	i.made.Profile = &Profile{Server: serverURL(i.Config), Certificate: "admin.crt", Key: "admin.key", CA: "ca/" + ca.RootName + ".crt"}
	if err := os.WriteFile(i.path(ProfileFile), []byte(i.made.Profile.Text()), 0o644); err != nil {
		return err
	}
	i.made.Files = append(i.made.Files, "admin.crt", "admin.key", ProfileFile)
	return i.found(ctx, csr, cert.NotAfter)
}

// found is the last step: a database elsewhere is not cleaned up after a
// failure of a later one.
func (i *initialization) found(ctx context.Context, csr *x509.CertificateRequest, notAfter time.Time) (err error) {
	db, err := store.Open(ctx, store.Options{DSN: i.Config.DSN(), Log: slog.New(slog.DiscardHandler), Now: i.env.Now})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	err = db.Found(ctx, i.authorities.Name(), &access.Operator{
		Name: i.Admin, Role: access.RoleAdmin, Key: vetting.KeyFingerprint(csr.RawSubjectPublicKeyInfo), NotAfter: notAfter,
	})
	if strings.HasPrefix(i.Config.Database, "sqlite:") {
		i.made.Files = append(i.made.Files, strings.TrimPrefix(i.Config.Database, "sqlite:"))
	}
	return err
}

// serverURL is where the API is reached by the server's first name.
func serverURL(c *Config) string {
	host, port, err := net.SplitHostPort(c.API.Listen)
	if err != nil || !slices.Contains(c.Names, host) {
		host = c.Names[0] // the server's certificate is for its names alone
	}
	return (&url.URL{Scheme: "https", Host: net.JoinHostPort(host, port)}).String()
}
