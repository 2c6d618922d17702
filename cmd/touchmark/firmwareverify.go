package main

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/spf13/cobra"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/catalogue"
	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/firmware-sign/timestamp"
)

// verifiedFirmware is what is known of a file that was verified.
type verifiedFirmware struct {
	Format  string           `json:"format"`
	File    release.File     `json:"file"`
	Signers []firmwareSigned `json:"signers"`
	// Stamped is the time by which the signature was there; zero if no time stamp
	// says so.
	Stamped time.Time       `json:"stamped,omitzero"`
	Checks  []release.Check `json:"checks"`
}

// firmwareSigned is a key that signed a file.
type firmwareSigned struct {
	Key     string `json:"key"` // SHA-256 of the SubjectPublicKeyInfo, hex
	Subject string `json:"subject,omitempty"`
}

func (v *verifiedFirmware) show(w io.Writer) {
	field(w, "verified", v.Format)
	field(w, "file", fmt.Sprintf("%s, sha256 %s", counted(v.File.Size, "byte", "bytes"), v.File.SHA256))
	for _, s := range v.Signers {
		field(w, "signed by", strings.TrimSpace(s.Subject+" key (SHA-256) "+s.Key))
	}
	field(w, "time stamp", v.Stamped)
	for _, c := range v.Checks {
		field(w, "verified by", strings.TrimSpace(c.Program+" "+c.Version))
	}
}

// verifying is the verification of one signed file.
type verifying struct {
	path, source, stamp, root string
	keys, set                 []string

	format *catalogue.Format
	signed *io.SectionReader
	pem    []byte // the root
	roots  *x509.CertPool
	now    time.Time
}

func (a *app) firmwareVerify() *cobra.Command {
	v := &verifying{now: time.Now()}
	format := ""
	c := &cobra.Command{Use: "verify FILE", Short: "Verify a signed file, without a server", Args: cobra.ExactArgs(1),
		Long: `verify checks a signed file by a verifier that shares no code with what signed it, and by those programs of others that know the format and are
installed. If one of them does not accept the file, it says why, and the exit status is 1. It needs no server, no configuration and no network.

Formats whose devices know a root (rauc, swupdate, authenticode, cms) are verified below --root; with --key, that key must be among those that
signed. The others are verified by --key: all the keys that must have signed. A certificate is checked at the time of the time stamp, if there
is one: inside the signature, or in a file named with --timestamp; otherwise at the present time, or --set at=TIME.

` + formatHelp(),
		Example: "  touchmark firmware verify app.bin.signed --format mcuboot --key release.pem --timestamp app.bin.signed.tst --root root.crt\n" +
			"  touchmark firmware verify grub.efi.signed --format authenticode --root root.crt\n" +
			"  touchmark firmware verify app.bin.p7s --format cms --source app.bin --root root.crt"}
	f := c.Flags()
	f.StringVar(&format, "format", "", strings.Join(catalogue.Names(), ", ")+" (required)")
	f.StringArrayVar(&v.set, "set", nil, "a parameter of the format, as NAME=VALUE; may be repeated")
	f.StringVar(&v.root, "root", "", "the root certificate, a PEM `file`")
	f.StringArrayVar(&v.keys, "key", nil, "a public key or certificate, a PEM `file`; may be repeated")
	f.StringVar(&v.source, "source", "", "the `file` that a signature beside it is over (cms, raw)")
	f.StringVar(&v.stamp, "timestamp", "", "a `file` with the time stamp over FILE")
	_ = c.MarkFlagRequired("format")
	oneOf(c, "format", catalogue.Names()...)
	c.RunE = func(cmd *cobra.Command, args []string) (err error) {
		if v.format, err = catalogue.ByName(format); err != nil {
			return &usageError{err}
		}
		v.path = args[0]
		out, err := v.verify(cmd.Context())
		if err != nil {
			return err
		}
		raw, err := json.Marshal(out)
		if err != nil {
			return err
		}
		return a.print(raw, out.show)
	}
	return a.jsonFlag(c)
}

func (v *verifying) verify(ctx context.Context) (*verifiedFirmware, error) {
	given, err := parameters(v.set)
	if err != nil {
		return nil, err
	}
	if err := v.complete(); err != nil {
		return nil, err
	}
	if err := v.readRoot(); err != nil {
		return nil, err
	}
	f, err := os.Open(v.path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	if v.signed, err = firmwaresign.File(f); err != nil {
		return nil, err
	}
	have := <-hashOf(v.signed)
	if have.err != nil {
		return nil, have.err
	}
	out := &verifiedFirmware{Format: v.format.Name, File: have.File}
	if out.Stamped, err = v.stamped(have.File); err != nil {
		return nil, fmt.Errorf("%s: the time stamp: %w", v.path, err)
	}
	at := v.now
	if !out.Stamped.IsZero() {
		at = out.Stamped
	}
	all, err := v.format.ToCheck(given, at)
	if err != nil {
		return nil, &usageError{err}
	}
	signers, err := v.signers(all, at)
	if err != nil {
		return nil, err
	}
	for _, s := range signers {
		out.Signers = append(out.Signers, signedBy(s))
	}
	out.Checks, err = v.check(ctx, all, signers)
	return out, err
}

// complete says what was not said that the format wants.
func (v *verifying) complete() error {
	switch {
	case v.format.Certified != nil && v.root == "":
		return usagef("name the root certificate with --root: files of the format %s are verified below it", v.format.Name)
	case v.format.Certified == nil && len(v.keys) == 0:
		return usagef("name the key that must have signed with --key: files of the format %s do not say whose it is", v.format.Name)
	case v.format.Certified == nil && len(v.keys) > v.format.MaxKeys:
		return usagef("files of the format %s are signed by at most %d keys, not by %d", v.format.Name, v.format.MaxKeys, len(v.keys))
	case v.format.Detached && v.source == "":
		return usagef("name the file that %s is over with --source", v.path)
	case v.stamp != "" && v.root == "":
		return usagef("name the root certificate with --root: the time stamp is verified below it")
	}
	return nil
}

func (v *verifying) readRoot() (err error) {
	if v.root == "" {
		return nil
	}
	if v.pem, err = os.ReadFile(v.root); err != nil {
		return err
	}
	v.roots = x509.NewCertPool()
	if !v.roots.AppendCertsFromPEM(v.pem) {
		return fmt.Errorf("%s: it holds no certificate in PEM", v.root)
	}
	return nil
}

// stamped verifies the time stamp, if there is one.
func (v *verifying) stamped(file release.File) (at time.Time, err error) {
	var token *timestamp.Token
	switch {
	case v.stamp != "":
		token, err = v.beside(file)
	case v.format.Stamp != nil:
		if token, err = v.format.Stamp.Get(v.signed, v.roots); errors.Is(err, timestamp.ErrNoStamp) {
			return at, nil
		}
	default:
		return at, nil
	}
	if err != nil {
		return at, err
	}
	return token.Time, nil
}

// beside verifies a time stamp in a file beside the signed one.
func (v *verifying) beside(file release.File) (*timestamp.Token, error) {
	der, err := os.ReadFile(v.stamp)
	if err != nil {
		return nil, err
	}
	token, err := timestamp.Verify(der, v.roots)
	switch {
	case err != nil:
		return nil, err
	case token.Hash != crypto.SHA256 || hex.EncodeToString(token.Digest) != file.SHA256:
		return nil, errors.New("it is over another file")
	}
	return token, nil
}

// signers are who must have signed the file.
func (v *verifying) signers(all map[string]string, at time.Time) ([]catalogue.Signer, error) {
	var wanted []catalogue.Signer
	for _, path := range v.keys {
		s, err := readSigner(path)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		wanted = append(wanted, s)
	}
	if v.format.Certified == nil {
		return wanted, nil
	}
	if said, err := time.Parse(time.RFC3339, all["at"]); err == nil {
		at = said
	}
	have, err := v.format.Signers(v.signed, v.roots, at)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", v.path, err)
	}
	for i, want := range wanted {
		if !slices.ContainsFunc(have, func(s catalogue.Signer) bool { return sameKey(s.Public, want.Public) }) {
			return nil, fmt.Errorf("%s is signed by %q, and not by the key of %s", v.path, have[0].Certificate.Subject, v.keys[i])
		}
	}
	return have, nil
}

func sameKey(a, b crypto.PublicKey) bool {
	k, ok := a.(interface{ Equal(crypto.PublicKey) bool })
	return ok && k.Equal(b)
}

// readSigner reads a public key or a certificate.
func readSigner(path string) (s catalogue.Signer, err error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return s, err
	}
	block, _ := pem.Decode(text)
	switch {
	case block != nil && block.Type == "PUBLIC KEY":
		s.Public, err = x509.ParsePKIXPublicKey(block.Bytes)
	case block != nil && block.Type == "CERTIFICATE":
		if s.Certificate, err = x509.ParseCertificate(block.Bytes); err == nil {
			s.Public = s.Certificate.PublicKey
		}
	default:
		err = errors.New("it holds no public key and no certificate in PEM")
	}
	return s, err
}

func signedBy(s catalogue.Signer) (out firmwareSigned) {
	if spki, err := x509.MarshalPKIXPublicKey(s.Public); err == nil {
		sum := sha256.Sum256(spki)
		out.Key = hex.EncodeToString(sum[:])
	}
	if s.Certificate != nil {
		out.Subject = s.Certificate.Subject.String()
	}
	return out
}

// check has the second verifier, and the programs that are installed, verify
// the file.
func (v *verifying) check(ctx context.Context, all map[string]string, signers []catalogue.Signer) ([]release.Check, error) {
	out := catalogue.Output{Signed: v.signed, Signers: signers, Roots: v.roots}
	if v.roots == nil {
		out.Roots = x509.NewCertPool()
	}
	if v.source != "" {
		f, err := os.Open(v.source)
		if err != nil {
			return nil, err
		}
		defer f.Close()
		if out.Source, err = firmwaresign.File(f); err != nil {
			return nil, err
		}
	}
	if err := v.format.Check(all, out); err != nil {
		return nil, fmt.Errorf("%s does not verify: %w", v.path, err)
	}
	checks, err := outside{v.format, all, v.source, v.path, v.pem, signers[0].Public}.check(ctx)
	if err != nil {
		return nil, fmt.Errorf("%s does not verify: %w", v.path, err)
	}
	return append([]release.Check{{Program: "touchmark", Version: version}}, checks...), nil
}
