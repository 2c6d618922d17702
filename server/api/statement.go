package api

import (
	"context"
	"encoding/hex"
	"net/http"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/access"
)

// Statements are the signatures of the statements about releases.
type Statements interface {
	StatementSignatures(ctx context.Context, release int64) ([]*release.StatementSignature, error)
	// SignStatement has the product's keys for statements sign that of a
	// release, and gives the signatures that there are then.
	SignStatement(ctx context.Context, act access.Act, release int64) ([]*release.StatementSignature, error)
}

// SignedStatement is the statement about a release with its signatures.
type SignedStatement struct {
	Release    string                        `json:"release" doc:"The release's name: product@version"`
	Statement  []byte                        `json:"statement" doc:"The statement: canonical JSON (RFC 8785), in base64"`
	SHA256     string                        `json:"sha256" doc:"Its SHA-256 in hexadecimal"`
	Signatures []*release.StatementSignature `json:"signatures" nullable:"false" doc:"Its signatures"`
}

func (a *API) statements() {
	register(a, access.ReadReleases, operation{
		id: "getStatement", method: http.MethodGet, path: "/releases/{id}/statement", tag: tagFirmware,
		summary:     "Show the statement about a release, with its signatures",
		description: "What was approved: every artefact with its digests, parameters and keys, the counter, the documents. Of a draft it still changes, and has no signatures.",
	}, func(ctx context.Context, _ *call, in *idInput) (*bodyOutput[SignedStatement], error) {
		return a.signedStatement(ctx, in.ID, func() ([]*release.StatementSignature, error) {
			return a.config.Firmware.StatementSignatures(ctx, in.ID)
		})
	})
	register(a, access.SignFirmware, operation{
		id: "signStatement", method: http.MethodPost, path: "/releases/{id}/statement/sign", tag: tagFirmware,
		summary:     "Have the statement about a release signed",
		description: "By the product's keys of the kinds ML-DSA-65 and ML-DSA-87 that have not signed it yet. Publishing does so by itself; this is for releases that were published before there was such a key.",
	}, func(ctx context.Context, c *call, in *idInput) (*bodyOutput[SignedStatement], error) {
		return a.signedStatement(ctx, in.ID, func() ([]*release.StatementSignature, error) {
			return a.config.Firmware.SignStatement(ctx, c.act, in.ID)
		})
	})
}

func (a *API) signedStatement(ctx context.Context, id int64, signatures func() ([]*release.StatementSignature, error)) (*bodyOutput[SignedStatement], error) {
	r, err := a.config.Firmware.Release(ctx, id)
	if err != nil {
		return nil, err
	}
	st := r.Statement()
	digest := st.Digest()
	out := &SignedStatement{Release: r.Name(), Statement: st.Bytes(), SHA256: hex.EncodeToString(digest[:])}
	if out.Signatures, err = signatures(); err != nil {
		return nil, err
	}
	if out.Signatures == nil {
		out.Signatures = []*release.StatementSignature{}
	}
	return answer(out, nil)
}
