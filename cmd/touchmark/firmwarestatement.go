package main

import (
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"time"

	"filippo.io/mldsa"
	pkix "filippo.io/mldsa/x509"
	"github.com/spf13/cobra"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/detached"
	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/firmware-sign/timestamp"
	"github.com/touchmark/touchmark/server/api"
)

// statementFile is the statement's name in a directory with its signatures.
const statementFile = "statement.json"

func (a *app) releaseStatement() *cobra.Command {
	out, sign := "", false
	c := &cobra.Command{Use: "statement PRODUCT@VERSION", Short: "Write the statement about a release, with its signatures", Args: cobra.ExactArgs(1),
		Long: `statement writes what was approved of a release, as canonical JSON (statement.json), and for each key that signed it KEY.sig (ML-DSA, FIPS 204,
pure, with the context string "touchmark release statement"), KEY.pem (the public key) and KEY.tst (a time stamp over KEY.sig). A product's keys of
the kinds ML-DSA-65 and ML-DSA-87 sign when the release is published. With --sign they do so now: for releases that are older than the key.`,
		Example: "  touchmark firmware release statement thermostat@1.4.0 --out thermostat-1.4.0"}
	c.Flags().StringVar(&out, "out", ".", "the `directory` for the files")
	c.Flags().BoolVar(&sign, "sign", false, "have those keys sign it that have not yet")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) ([]byte, error) {
		r, _, err := releaseNamed(ctx, cl, args[0])
		if err != nil {
			return nil, err
		}
		var raw json.RawMessage
		if sign {
			err = cl.api(ctx, http.MethodPost, releasePath(r.ID)+"/statement/sign", nil, &raw)
		} else {
			err = cl.api(ctx, http.MethodGet, releasePath(r.ID)+"/statement", nil, &raw)
		}
		if err != nil {
			return nil, err
		}
		st, err := answered[api.SignedStatement](raw)
		if err != nil {
			return nil, err
		}
		return raw, writeStatement(out, st)
	}, showStatement)
}

// writeStatement writes the files. It trusts no signature that it writes.
func writeStatement(dir string, st *api.SignedStatement) error {
	if err := os.MkdirAll(dir, 0o755); err != nil {
		return err
	}
	files := map[string][]byte{statementFile: st.Statement}
	for _, s := range st.Signatures {
		if err := s.Verify(st.Statement); err != nil {
			return fmt.Errorf("the signature by %s: %w", s.Key, err)
		}
		name := filepath.Base(s.Key)
		files[name+".sig"], files[name+".pem"] = s.Signature, pemOf("PUBLIC KEY", s.PublicKey)
		if len(s.Timestamp) > 0 {
			files[name+stampSuffix] = s.Timestamp
		}
	}
	for name, data := range files {
		if err := os.WriteFile(filepath.Join(dir, name), data, 0o644); err != nil {
			return err
		}
	}
	return nil
}

func showStatement(w io.Writer, st *api.SignedStatement) {
	field(w, "release", st.Release)
	field(w, "statement", "sha256 "+st.SHA256)
	for _, s := range st.Signatures {
		field(w, "signed by", fmt.Sprintf("%s (%s) at %s", s.Key, s.Algorithm, text(s.At)))
	}
	if len(st.Signatures) == 0 {
		field(w, "signed by", "nobody")
	}
}

// verifiedStatement is what the signature of a statement proves.
type verifiedStatement struct {
	Release   string                 `json:"release"`
	SHA256    string                 `json:"sha256"`
	Algorithm firmwaresign.Algorithm `json:"algorithm"`
	// Stamped is when an authority saw the signature; zero if that was not
	// asked for.
	Stamped   time.Time          `json:"stamped,omitzero"`
	Statement *release.Statement `json:"statement"`
}

func (v *verifiedStatement) show(w io.Writer) {
	field(w, "verified", "the statement is what the key signed")
	field(w, "release", v.Release)
	field(w, "algorithm", v.Algorithm)
	field(w, "security counter", v.Statement.Counter)
	field(w, "supported until", v.Statement.SupportEnd)
	for _, a := range v.Statement.Artefacts {
		field(w, "artefact", fmt.Sprintf("%s (%s), sha256 %s", a.Name, a.Format, a.Source.SHA256))
	}
	for _, d := range v.Statement.Documents {
		field(w, d.Kind, "sha256 "+d.SHA256)
	}
	field(w, "stamped", v.Stamped)
}

func (a *app) releaseVerifyStatement() *cobra.Command {
	var in struct{ signature, key, stamp, root, release string }
	c := &cobra.Command{Use: "verify-statement FILE", Short: "Verify the statement about a release offline, by a public key alone", Args: cobra.ExactArgs(1),
		Long: `verify-statement checks that an ML-DSA key signed the statement, and prints what it says. Take the public key from where you trust it, not from
beside the signature. With --timestamp it also checks, below the root certificate, when an authority saw the signature.`,
		Example: "  touchmark firmware release verify-statement statement.json --signature thermostat-pq.sig --key thermostat-pq.pem --release thermostat@1.4.0\n" +
			"  touchmark firmware release verify-statement statement.json --signature thermostat-pq.sig --key thermostat-pq.pem --timestamp thermostat-pq.tst --root root.crt"}
	f := c.Flags()
	f.StringVar(&in.signature, "signature", "", "the signature, a `file` (required)")
	f.StringVar(&in.key, "key", "", "the public key, a PEM `file` (required)")
	f.StringVar(&in.stamp, "timestamp", "", "the time stamp over the signature, a `file`")
	f.StringVar(&in.root, "root", "", "the root certificate of who stamped, a PEM `file`")
	f.StringVar(&in.release, "release", "", "the release that it must be about, as PRODUCT@VERSION")
	_ = c.MarkFlagRequired("signature")
	_ = c.MarkFlagRequired("key")
	c.MarkFlagsRequiredTogether("timestamp", "root")
	c.RunE = func(_ *cobra.Command, args []string) error {
		out, signature, err := verifyStatement(args[0], in.signature, in.key, in.release)
		if err == nil && in.stamp != "" {
			out.Stamped, err = stampedAt(signature, in.stamp, in.root)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", args[0], err)
		}
		raw, err := json.Marshal(out)
		if err != nil {
			return err
		}
		return a.print(raw, out.show)
	}
	return a.jsonFlag(c)
}

// verifyStatement reads a statement, its signature and a key, and holds them to
// each other and to the release that is wanted, if one is.
func verifyStatement(file, signatureFile, keyFile, wanted string) (*verifiedStatement, []byte, error) {
	key, err := readStatementKey(keyFile)
	if err != nil {
		return nil, nil, err
	}
	signature, err := os.ReadFile(signatureFile)
	if err != nil {
		return nil, nil, err
	}
	f, err := os.Open(file)
	if err != nil {
		return nil, nil, err
	}
	defer f.Close()
	content, err := firmwaresign.File(f)
	if err != nil {
		return nil, nil, err
	}
	if err := detached.VerifyStatement(content, signature, key); err != nil {
		return nil, nil, err
	}
	text, err := io.ReadAll(content)
	if err != nil {
		return nil, nil, err
	}
	st, err := release.ReadStatement(text)
	switch {
	case err != nil:
		return nil, nil, err
	case wanted != "" && st.Name() != wanted:
		return nil, nil, fmt.Errorf("it is about %s, not about %s", st.Name(), wanted)
	}
	digest := st.Digest()
	algorithm := firmwaresign.MLDSA65
	if key.Parameters() == mldsa.MLDSA87() {
		algorithm = firmwaresign.MLDSA87
	}
	return &verifiedStatement{Release: st.Name(), SHA256: hex.EncodeToString(digest[:]), Algorithm: algorithm, Statement: st}, signature, nil
}

// readStatementKey reads an ML-DSA public key in PEM.
func readStatementKey(file string) (*mldsa.PublicKey, error) {
	text, err := os.ReadFile(file)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil || block.Type != "PUBLIC KEY" {
		return nil, fmt.Errorf("%s holds no public key in PEM", file)
	}
	pub, err := pkix.ParsePKIXPublicKey(block.Bytes)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	key, ok := pub.(*mldsa.PublicKey)
	if !ok {
		return nil, fmt.Errorf("%s holds a key of type %T: statements are signed with ML-DSA", file, pub)
	}
	return key, nil
}

// stampedAt verifies a time stamp over a signature.
func stampedAt(signature []byte, stampFile, rootFile string) (at time.Time, err error) {
	token, err := os.ReadFile(stampFile)
	if err != nil {
		return at, err
	}
	root, err := os.ReadFile(rootFile)
	if err != nil {
		return at, err
	}
	roots := x509.NewCertPool()
	if !roots.AppendCertsFromPEM(root) {
		return at, errors.New(rootFile + " holds no certificate in PEM")
	}
	t, err := timestamp.Verify(token, roots)
	if err != nil {
		return at, err
	}
	return t.Time, t.Covers(signature)
}
