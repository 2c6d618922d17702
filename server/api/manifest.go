package api

import (
	"context"
	"net/http"

	"github.com/danielgtaylor/huma/v2"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/cms"
	"github.com/touchmark/touchmark/vetting"
)

// maxSignatureBody bounds one signature, in bytes: as PEM it is longer than
// the DER that cms.MaxSignature bounds.
const maxSignatureBody = 2 * cms.MaxSignature

// signatureType is the media type of a detached CMS signature (RFC 8551
// §3.2.1).
const signatureType = "application/pkcs7-signature"

type signatureInput struct {
	ID      int64  `path:"id" minimum:"1" doc:"The number"`
	RawBody []byte `contentType:"application/pkcs7-signature"`
}

func (a *API) manifests() {
	type list struct {
		PageInput
		Site  string `query:"site" maxLength:"63" doc:"Only manifests of this site"`
		Order string `query:"order" maxLength:"63" doc:"Only manifests for this order"`
	}
	register(a, access.HandInManifests, operation{
		id: "handInManifest", method: http.MethodPost, path: "/orders/{name}/manifests", tag: tagManifests,
		summary: "Hand in a signed manifest", status: http.StatusCreated, streams: true,
		errors:      []int{http.StatusRequestTimeout, http.StatusUnsupportedMediaType},
		description: "The file is read while it arrives and is taken in whole or not at all: with status 422, lines lists every broken line, and nothing was stored. The signatures are detached CMS messages (RFC 5652) by operators of the order's site, before or after the file. The same file for the same order again gives the manifest that is there already, with or without an idempotency key.",
	}, a.handIn)
	a.documentUpload("/orders/{name}/manifests")
	register(a, access.ReadManifests, operation{
		id: "listManifests", method: http.MethodGet, path: "/manifests", tag: tagManifests,
		summary: "List manifests", errors: []int{400},
	}, func(ctx context.Context, c *call, in *list) (*listOutput[vetting.Manifest], error) {
		f := vetting.ManifestFilter{Site: in.Site, Order: in.Order}
		return listing(in.PageInput, "manifests", func(m *vetting.Manifest) int64 { return m.ID },
			func(p vetting.Page) ([]*vetting.Manifest, error) { return c.Manifests(ctx, f, p) })
	})
	register(a, access.ReadManifests, operation{
		id: "getManifest", method: http.MethodGet, path: "/manifests/{id}", tag: tagManifests,
		summary: "Show a manifest and how far its records are loaded",
	}, func(ctx context.Context, c *call, in *idInput) (*bodyOutput[vetting.Manifest], error) {
		return answer(c.Manifest(ctx, in.ID))
	})
	register(a, access.HandInManifests, operation{
		id: "addManifestSignature", method: http.MethodPost, path: "/manifests/{id}/signatures", tag: tagManifests,
		summary: "Add a signature to a manifest that wants more of them", maxBody: maxSignatureBody,
		description: "The body is a detached CMS message (RFC 5652) over the manifest file, DER or PEM. With the last signature that the order wants, the manifest is accepted, or others are asked to approve it.",
	}, func(ctx context.Context, c *call, in *signatureInput) (*bodyOutput[vetting.Manifest], error) {
		m, err := c.Manifest(ctx, in.ID)
		if err != nil {
			return nil, err
		}
		return answer(a.config.Manifests.AddSignature(ctx, c.act, m.ID, in.RawBody))
	})
}

func (a *API) manifestApprovals() {
	register(a, access.HandInManifests, operation{
		id: "proposeManifest", method: http.MethodPost, path: "/manifests/{id}/approval", tag: tagManifests,
		summary:     "Ask again that others approve a manifest",
		description: "Where its order or product wants approvals of manifests, the last signature asks for them. This asks again, after what was asked expired, was withdrawn or became void.",
	}, func(ctx context.Context, c *call, in *idBody[ReasonInput]) (*bodyOutput[vetting.Manifest], error) {
		return answer(c.ProposeManifest(ctx, c.act, in.ID, in.Body.Note))
	})
}

func (a *API) handIn(ctx context.Context, c *call, in *nameInput) (*createdOutput[vetting.Manifest], error) {
	o, err := c.Order(ctx, in.Name)
	if err != nil {
		return nil, err
	}
	u, err := a.openUpload(c)
	if err != nil {
		return nil, err
	}
	format, err := u.manifest()
	if err != nil {
		return nil, err
	}
	// The digest of the body is known only at its end, too late for an
	// idempotency key; the file's own digest serves in its place.
	act := access.Act{Operator: c.act.Operator}
	m, err := a.config.Manifests.Receive(ctx, act, o.Name, format, u, u.allSignatures)
	if u.failed != nil {
		err = u.failed // the wire's fault, whatever it looked like further on
	}
	return created(m, err, manifestPath)
}

// documentUpload describes the upload, whose body huma knows nothing of.
func (a *API) documentUpload(path string) {
	file := func(about string) *huma.Schema {
		return &huma.Schema{Type: huma.TypeString, Format: "binary", Description: about}
	}
	most := vetting.MaxSignatures
	signatures := &huma.Schema{Type: huma.TypeArray, Items: file("A detached CMS message, DER or PEM"), MaxItems: &most,
		Description: "One part for each signature, before or after the file"}
	a.huma.OpenAPI().Paths[path].Post.RequestBody = &huma.RequestBody{
		Required: true,
		Content: map[string]*huma.MediaType{"multipart/form-data": {
			Schema: &huma.Schema{
				Type:     huma.TypeObject,
				Required: []string{"manifest", "signature"},
				Properties: map[string]*huma.Schema{
					"manifest":  file("The file: JSON Lines (application/jsonl) or CSV with a header line (text/csv); where the part has no telling type, its file name must end in .jsonl, .ndjson or .csv"),
					"signature": signatures,
				},
			},
			Encoding: map[string]*huma.Encoding{
				"manifest":  {ContentType: "application/jsonl, application/x-ndjson, text/csv"},
				"signature": {ContentType: signatureType},
			},
		}},
	}
}
