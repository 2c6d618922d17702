package ceremony

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"fmt"
	"io"
	"slices"
	"strings"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/catalogue"
	"github.com/touchmark/touchmark/firmware-sign/internal/stream"
	"github.com/touchmark/touchmark/firmware-sign/release"
)

// Name is the release's: product@version.
func (a *Approved) Name() string { return a.Statement.Product + "@" + a.Statement.Version }

// Want is one signature that a key is to make.
type Want struct {
	Artefact release.StatementArtefact
	Index    int // in the artefact's ToSign
	firmwaresign.ToSign
}

// Wanted is all that a key is to sign, and the key's name. A key that nothing
// is wanted from is an error that says which ones are.
func (a *Approved) Wanted(public crypto.PublicKey) (name string, wanted []Want, err error) {
	spki, err := x509.MarshalPKIXPublicKey(public)
	if err != nil {
		return "", nil, err
	}
	n := slices.IndexFunc(a.keys, func(k key) bool { return bytes.Equal(k.Certificate.RawSubjectPublicKeyInfo, spki) })
	if n < 0 {
		return "", nil, fmt.Errorf("the key that was given has the SHA-256 %x, and signs nothing of %s; that is to be signed by %s", sha256.Sum256(spki), a.Name(), a.wantedKeys())
	}
	for _, part := range a.Statement.Artefacts {
		for i, want := range part.ToSign {
			if bytes.Equal(want.PublicKey, spki) {
				wanted = append(wanted, Want{part, i, want})
			}
		}
	}
	if len(wanted) == 0 || !a.keys[n].offline {
		return "", nil, fmt.Errorf("nothing of %s is to be signed here by %s, but by %s", a.Name(), a.keys[n].name, a.wantedKeys())
	}
	return a.keys[n].name, wanted, nil
}

// wantedKeys names the offline keys.
func (a *Approved) wantedKeys() string {
	var names []string
	for _, k := range a.keys {
		if k.offline {
			names = append(names, fmt.Sprintf("%s (SHA-256 %x)", k.name, sha256.Sum256(k.Certificate.RawSubjectPublicKeyInfo)))
		}
	}
	return strings.Join(names, ", ")
}

// Sign makes all signatures that are wanted from a key, each of which is
// verified.
func (a *Approved) Sign(by crypto.Signer) (*release.Response, error) {
	_, wanted, err := a.Wanted(by.Public())
	if err != nil {
		return nil, err
	}
	digest := a.Statement.Digest()
	out := &release.Response{Type: release.ResponseType, Release: a.Name(), Statement: hex.EncodeToString(digest[:]), PublicKey: wanted[0].PublicKey}
	for _, w := range wanted {
		sig, err := w.Sign(by)
		if err != nil {
			return nil, fmt.Errorf("signature %d of %s: %w", w.Index+1, w.Artefact.Name, err)
		}
		out.Signatures = append(out.Signatures, release.ResponseSignature{Artefact: w.Artefact.Name, ImportedSignature: release.ImportedSignature{Index: w.Index, Signature: sig}})
	}
	return out, nil
}

// Prove prepares a file as the statement says, and reports whether what is to
// be signed follows from it: without that, digests are taken on trust in who
// handed them in. The artefact is the one of the file's SHA-256.
func (a *Approved) Prove(file *io.SectionReader) (artefact string, err error) {
	h := sha256.New()
	if err := stream.Copy(h, nil, io.NewSectionReader(file, 0, file.Size()), file.Size()); err != nil {
		return "", err
	}
	sum := hex.EncodeToString(h.Sum(nil))
	n := slices.IndexFunc(a.Statement.Artefacts, func(p release.StatementArtefact) bool { return p.Source.SHA256 == sum })
	if n < 0 {
		return "", fmt.Errorf("no artefact of %s is of the file with the SHA-256 %s", a.Name(), sum)
	}
	part := a.Statement.Artefacts[n]
	format, err := catalogue.ByName(part.Format)
	if err != nil {
		return "", err
	}
	signers, err := a.signers(part)
	if err != nil {
		return "", err
	}
	made, err := format.Sign(part.Parameters, signers)
	if err != nil {
		return "", err
	}
	draft, err := made.Prepare(file, nil)
	if err != nil {
		return "", err
	}
	if !slices.EqualFunc(draft.ToSign(), part.ToSign, firmwaresign.ToSign.Equal) {
		return "", fmt.Errorf("what is to be signed of %s does not follow from the file: do not sign", part.Name)
	}
	return part.Name, nil
}
