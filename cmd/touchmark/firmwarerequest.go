package main

import (
	"bytes"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/ceremony"
	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/server/api"
)

func (a *app) firmwareRequest() *cobra.Command {
	return group("request", "Have keys sign that no server reaches",
		`An offline key is in a vault, on a machine without a network. What it is to sign for a release that was approved goes there as a file, with
the approvals; what it signed comes back as a file, and each signature is verified again.`,
		a.requestExport(), a.requestSign(), a.requestImport())
}

func (a *app) requestExport() *cobra.Command {
	out := ""
	c := &cobra.Command{Use: "export PRODUCT@VERSION", Short: "Write what offline keys are to sign for a release", Args: cobra.ExactArgs(1),
		Long: `export writes one file with all that is to be signed for an approved release, the signatures of those who approved it, and the certificates of the
keys. It holds no secrets.`,
		Example: "  touchmark firmware request export thermostat@1.4.0 -o request.json"}
	outFlag(c, &out)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		cl, err := a.client()
		if err != nil {
			return err
		}
		request, err := exportRequest(cmd.Context(), cl, args[0])
		if err != nil {
			return err
		}
		text, err := json.MarshalIndent(request, "", "  ")
		if err != nil {
			return err
		}
		return a.writeNew(out, append(text, '\n'))
	}
	return c
}

func exportRequest(ctx context.Context, cl *client, name string) (*ceremony.Request, error) {
	r, _, err := releaseNamed(ctx, cl, name)
	if err != nil {
		return nil, err
	}
	if r.State != release.Approved {
		return nil, fmt.Errorf("release %s is %s: requests are exported of releases that were approved, and not signed yet", r.Name(), r.State)
	}
	out := &ceremony.Request{Type: ceremony.RequestType, Approval: new(approval.Bundle)}
	offline := false
	for _, name := range r.KeyNames() {
		var k release.Key
		if err := cl.api(ctx, http.MethodGet, "/firmware-keys/"+segment(name), nil, &k); err != nil {
			return nil, err
		}
		if !k.Revoked.IsZero() {
			return nil, fmt.Errorf("the key %s, which is to sign release %s, was revoked", name, r.Name())
		}
		offline = offline || k.Offline
		out.Keys = append(out.Keys, ceremony.Key{Name: k.Name, Certificate: k.Certificate, Chain: k.Chain, Offline: k.Offline})
	}
	if !offline {
		return nil, fmt.Errorf("release %s is signed by keys in the server's store alone: collect it with touchmark firmware collect", r.Name())
	}
	return out, cl.api(ctx, http.MethodGet, fmt.Sprintf("/proposals/%d/bundle", r.Proposal), nil, out.Approval)
}

// vault is what is told to who signs where no server is.
type vault struct {
	root, key, verifier, out string
	approvals                int
	files                    []string
}

func (a *app) requestSign() *cobra.Command {
	var v vault
	c := &cobra.Command{Use: "sign REQUEST", Short: "Sign a request with an offline key", Args: cobra.ExactArgs(1),
		Long: `sign verifies a request below the root: that so many people approved exactly this release, and that the key was certified for its product. It
shows all that is to be signed and, if you say yes, signs it. It needs no server, no configuration and no network.

What is signed are digests. With --file, it prepares the file again and checks that they follow from it.`,
		Example: "  touchmark firmware request sign request.json --key vault.key --root root.crt -o response.json\n" +
			"  touchmark-pkcs11 firmware request sign request.json --key 'pkcs11:module-path=/usr/lib/libhsm.so;token=vault;object=thermostat?pin-source=/run/pin' --root root.crt --file app.bin -o response.json"}
	f := c.Flags()
	f.StringVar(&v.root, "root", "", "the root certificate, a PEM `file` (required)")
	f.StringVar(&v.key, "key", "", "the key that signs, a `file` or URI (required)")
	f.StringVar(&v.verifier, "verifier", "", "the log's public key, a `file`: wants the proof that the log has the approval")
	f.IntVar(&v.approvals, "approvals", release.DefaultPolicy.Approvals, "refuse a release that fewer people had to approve")
	f.StringArrayVar(&v.files, "file", nil, "a `file` before it is signed, to be checked; may be repeated")
	_ = c.MarkFlagRequired("root")
	_ = c.MarkFlagRequired("key")
	outFlag(c, &v.out)
	a.yesFlag(c)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		response, err := a.signRequest(cmd.Context(), v, args[0])
		if err != nil {
			return err
		}
		text, err := json.MarshalIndent(response, "", "  ")
		if err != nil {
			return err
		}
		return a.writeNew(v.out, append(text, '\n'))
	}
	return c
}

func (a *app) signRequest(ctx context.Context, v vault, path string) (*release.Response, error) {
	approved, err := v.open(path)
	if err != nil {
		return nil, fmt.Errorf("%s: nothing was signed: %w", path, err)
	}
	proven, err := v.prove(approved)
	if err != nil {
		return nil, err
	}
	signer, err := keys.Ring{Dir: "."}.Open(ctx, keyURI(v.key))
	if err != nil {
		return nil, err
	}
	name, wanted, err := approved.Wanted(signer.Public())
	if err != nil {
		return nil, err
	}
	text, err := requestText(approved, name, wanted, proven)
	if err != nil {
		return nil, err
	}
	if err := a.confirm(text); err != nil {
		return nil, err
	}
	return approved.Sign(signer)
}

// open reads and verifies a request.
func (v vault) open(path string) (*ceremony.Approved, error) {
	root, err := readCertificate(v.root)
	if err != nil {
		return nil, err
	}
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	request, err := ceremony.ReadRequest(f)
	if err != nil {
		return nil, err
	}
	approved, err := request.Open(root, func(by approval.Approver, kind approval.Kind) bool {
		return (&access.Operator{Role: access.Role(by.Role)}).MayApprove(kind)
	})
	switch {
	case err != nil:
		return nil, err
	case approved.Terms.Wanted < v.approvals:
		return nil, fmt.Errorf("release %s wanted no more than %s, and --approvals wants %d", approved.Name(), counted(int64(approved.Terms.Wanted), "approval", "approvals"), v.approvals)
	case v.verifier != "":
		_, err = proveBundle(request.Approval, approved.Verified, v.verifier)
	}
	return approved, err
}

// prove checks the files that are here, and names their artefacts.
func (v vault) prove(approved *ceremony.Approved) (names []string, err error) {
	for _, path := range v.files {
		name, err := proveFile(approved, path)
		if err != nil {
			return nil, fmt.Errorf("%s: nothing was signed: %w", path, err)
		}
		names = append(names, name)
	}
	return names, nil
}

func proveFile(approved *ceremony.Approved, path string) (string, error) {
	f, err := os.Open(path)
	if err != nil {
		return "", err
	}
	defer f.Close()
	file, err := firmwaresign.File(f)
	if err != nil {
		return "", err
	}
	return approved.Prove(file)
}

// requestText is what people compare before they let an offline key sign.
func requestText(approved *ceremony.Approved, key string, wanted []ceremony.Want, proven []string) (string, error) {
	var b strings.Builder
	s := approved.Statement
	err := tabbed(&b, func(w io.Writer) {
		field(w, "release", approved.Name())
		field(w, "security counter", s.Counter)
		field(w, "supported until", s.SupportEnd)
		field(w, "statement", fmt.Sprintf("sha256 %x", s.Digest()))
		field(w, "asked by", approved.Terms.By)
		field(w, "why", approved.Terms.Note)
		for _, by := range approved.Approvers {
			field(w, "approved by", fmt.Sprintf("%s (%s) at %s, key (SHA-256) %s", by.Name, by.Role, text(by.At), fingerprint(by.Certificate.RawSubjectPublicKeyInfo)))
		}
		for _, d := range s.Documents {
			field(w, d.Kind, fmt.Sprintf("%s, sha256 %s", d.Format, d.SHA256))
		}
		field(w, "key", key)
		field(w, "  key (SHA-256)", fingerprint(wanted[0].PublicKey))
		for _, want := range wanted {
			showWant(w, want, slices.Contains(proven, want.Artefact.Name))
		}
	})
	return b.String() + fmt.Sprintf("The key %s signs exactly this.", key), err
}

func showWant(w io.Writer, want ceremony.Want, proven bool) {
	part := want.Artefact
	field(w, "artefact", fmt.Sprintf("%s (%s, signature %d of %d, %s)", part.Name, part.Format, want.Index+1, len(part.ToSign), want.Algorithm))
	field(w, "  file", fmt.Sprintf("%s, sha256 %s", counted(part.Source.Size, "byte", "bytes"), part.Source.SHA256))
	for _, name := range slices.Sorted(maps.Keys(part.Parameters)) {
		field(w, "  "+name, part.Parameters[name])
	}
	if want.Digest != nil {
		field(w, "  digest", fmt.Sprintf("%x", want.Digest))
	} else {
		field(w, "  message", fmt.Sprintf("%s, sha256 %x", counted(int64(len(want.Message)), "byte", "bytes"), sha256.Sum256(want.Message)))
	}
	if proven {
		field(w, "  follows", "from the file, which was prepared again")
	}
}

func (a *app) requestImport() *cobra.Command {
	c := &cobra.Command{Use: "import RESPONSE", Short: "Import what an offline key signed", Args: cobra.ExactArgs(1),
		Long: `import hands the signatures in. The server verifies each of them, and that the release may still be signed by the key; if one is not good,
none is taken. Then firmware collect writes the signed files, as for other keys.`,
		Example: "  touchmark firmware request import response.json"}
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		text, err := os.ReadFile(args[0])
		if err != nil {
			return nil, err
		}
		response, err := ceremony.ReadResponse(bytes.NewReader(text))
		if err != nil {
			return nil, fmt.Errorf("%s: %w", args[0], err)
		}
		r, _, err := releaseNamed(ctx, cl, response.Release)
		if err != nil {
			return nil, err
		}
		err = cl.api(ctx, http.MethodPost, releasePath(r.ID)+"/signatures", response, &raw)
		return raw, err
	}, showRelease)
}

func readCertificate(path string) (*x509.Certificate, error) {
	text, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	cert, err := parsePEM(text)
	if err != nil {
		return nil, fmt.Errorf("%s: %w", path, err)
	}
	return cert, nil
}

// offlineKinds are the kinds of keys that sign certificate requests; ML-DSA
// keys have no certificate.
var offlineKinds = []string{"P-256", "P-384", "RSA-2048", "RSA-3072", "Ed25519"}

func (a *app) firmwareKeyRequest() *cobra.Command {
	var key, kind, out string
	c := &cobra.Command{Use: "request NAME", Short: "Write a certificate request for an offline key", Args: cobra.ExactArgs(1),
		Long: `request writes a PKCS#10 request that the key signs, which proves that somebody has it. With --create the key is made first, where its URI says. It
needs no server, no configuration and no network.`,
		Example: "  touchmark firmware key request thermostat-vault --key vault.key --create P-256 -o vault.csr"}
	c.Flags().StringVar(&key, "key", "", "the key, a `file` or URI (required)")
	c.Flags().StringVar(&kind, "create", "", "make the key, of this kind: "+strings.Join(offlineKinds, ", "))
	_ = c.MarkFlagRequired("key")
	oneOf(c, "create", offlineKinds...)
	outFlag(c, &out)
	c.RunE = func(cmd *cobra.Command, args []string) error {
		if kind != "" && !slices.Contains(offlineKinds, kind) {
			return usagef("--create %s: take one of %s", kind, strings.Join(offlineKinds, ", "))
		}
		ring, uri := keys.Ring{Dir: "."}, keyURI(key)
		open := ring.Open
		if kind != "" {
			open = func(ctx context.Context, uri string) (crypto.Signer, error) {
				return ring.Create(ctx, uri, keys.Kind(kind))
			}
		}
		signer, err := open(cmd.Context(), uri)
		if err != nil {
			return err
		}
		csr, err := requestFor(signer, args[0])
		if err != nil {
			return err
		}
		return a.writeNew(out, []byte(csr))
	}
	return c
}

func (a *app) firmwareKeyImport() *cobra.Command {
	var in api.FirmwareKeyImport
	csr := ""
	c := &cobra.Command{Use: "import NAME", Short: "Have an offline key certified, to sign for production", Args: cobra.ExactArgs(1),
		Long: `import tells the server the public half of a key that it never gets: firmware key request made the request for it. The code-signing CA certifies
it; what it signs comes by firmware request.`,
		Example: "  touchmark firmware key import thermostat-vault --product thermostat --csr vault.csr"}
	c.Flags().StringVar(&in.Product, "product", "", "the product (required)")
	c.Flags().StringVar(&csr, "csr", "", "a PKCS#10 request by the key in PEM, a `file` (required)")
	_ = c.MarkFlagRequired("product")
	_ = c.MarkFlagRequired("csr")
	return objectCommand(a, c, func(ctx context.Context, cl *client, args []string) (raw []byte, err error) {
		text, err := os.ReadFile(csr)
		if err != nil {
			return nil, err
		}
		in.Name, in.CSR = args[0], string(text)
		err = cl.api(ctx, http.MethodPost, "/firmware-keys/import", in, &raw)
		return raw, err
	}, showFirmwareKey)
}
