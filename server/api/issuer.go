package api

import (
	"bytes"
	"context"
	"crypto/x509"
	"encoding/hex"
	"encoding/pem"
	"fmt"
	"net/http"
	"slices"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// Issuer is a CA that issues to devices.
type Issuer struct {
	Name      string    `json:"name" doc:"The name by which owners choose it"`
	Default   bool      `json:"default,omitempty" doc:"Whether it issues to the devices of owners that name none"`
	Closed    bool      `json:"closed,omitempty" doc:"Whether it issues to nobody"`
	Subject   string    `json:"subject" doc:"The subject of its certificate"`
	KeyID     string    `json:"keyIdentifier" doc:"Its subjectKeyIdentifier in hexadecimal, which is the authorityKeyIdentifier of what it issues"`
	NotBefore time.Time `json:"notBefore" doc:"From when its certificate is valid"`
	NotAfter  time.Time `json:"notAfter" doc:"Until when its certificate is valid"`
	Created   time.Time `json:"created,omitzero" doc:"When it was created; absent for the one that was there from the beginning"`
	Updated   time.Time `json:"updated,omitzero" doc:"When its certificate was last replaced"`
	Count     int64     `json:"certificates" doc:"How many certificates of it have not run out before today, revoked ones among them"`
	Problem   string    `json:"problem,omitempty" doc:"Why the server that answers cannot issue with it; absent if it can"`
	PEM       string    `json:"pem" doc:"Its certificate"`
}

// IssuerInput is an issuing CA to be.
type IssuerInput struct {
	Name        string `json:"name" minLength:"1" maxLength:"63" doc:"The name by which owners choose it, in small letters; it never changes"`
	Certificate string `json:"certificate" minLength:"1" maxLength:"32768" doc:"Its certificate as PEM, signed by the root"`
}

// IssuerCertificate replaces an issuing CA's certificate.
type IssuerCertificate struct {
	Certificate string `json:"certificate" minLength:"1" maxLength:"32768" doc:"The new certificate as PEM, signed by the root, with the same subject and key"`
}

type issuerBody struct {
	Name string `path:"name" maxLength:"63" doc:"The name"`
	Body IssuerCertificate
}

func (a *API) issuers() {
	type list struct{ PageInput }
	register(a, access.ReadAudit, operation{
		id: "listIssuers", method: http.MethodGet, path: "/issuers", tag: tagIssuers,
		summary: "List the CAs that issue to devices", errors: []int{400},
	}, func(ctx context.Context, c *call, in *list) (*listOutput[Issuer], error) {
		have, err := listing(in.PageInput, "issuers", func(i *vetting.IssuingCA) int64 { return i.ID + 1 }, // the device CA's is 0, which no cursor can be
			func(p vetting.Page) ([]*vetting.IssuingCA, error) { return a.issuingCAs(ctx, c, p) })
		if err != nil {
			return nil, err
		}
		counts, err := c.CertificateCounts(ctx)
		if err != nil {
			return nil, err
		}
		out := &listOutput[Issuer]{List[Issuer]{Items: []*Issuer{}, Next: have.Body.Next}}
		for _, i := range have.Body.Items {
			shown, err := a.shownIssuer(i, counts)
			if err != nil {
				return nil, err
			}
			out.Body.Items = append(out.Body.Items, shown)
		}
		return out, nil
	})
	register(a, access.ReadAudit, operation{
		id: "getIssuer", method: http.MethodGet, path: "/issuers/{name}", tag: tagIssuers,
		summary: "Show a CA that issues to devices",
	}, func(ctx context.Context, c *call, in *nameInput) (*bodyOutput[Issuer], error) {
		return answer(a.issuer(ctx, c, in.Name))
	})
	register(a, access.ManageIssuers, operation{
		id: "createIssuer", method: http.MethodPost, path: "/issuers", tag: tagIssuers,
		summary: "Create an issuing CA", status: http.StatusCreated,
		description: "Its certificate is made where the root's key is, and its key must be in the server's hands already: `touchmark issuer create` does all of it. Every server of the database uses it within a second or two, if it has the key.",
	}, a.createIssuer)
	register(a, access.ManageIssuers, operation{
		id: "renewIssuer", method: http.MethodPut, path: "/issuers/{name}/certificate", tag: tagIssuers,
		summary:     "Replace an issuing CA's certificate",
		description: "With one on the same key and of the same subject, for instance when the root's key changes. What it issued stays valid.",
	}, a.renewIssuer)
	a.issuerStates()
}

func (a *API) issuerStates() {
	register(a, access.ManageIssuers, operation{
		id: "setDefaultIssuer", method: http.MethodPost, path: "/issuers/{name}/default", tag: tagIssuers,
		summary:     "Have an issuing CA issue to all devices whose owner names no other",
		description: "In place of the one that did; device-ca can be named to go back. Every server follows within a second or two. What the other issued stays valid, and is renewed with the new one.",
	}, a.setDefaultIssuer)
	register(a, access.ManageIssuers, operation{
		id: "closeIssuer", method: http.MethodPost, path: "/issuers/{name}/close", tag: tagIssuers,
		summary:     "Have an issuing CA issue no more",
		description: "It must not be the default, and no owner may name it. What it issued stays valid.",
	}, func(ctx context.Context, c *call, in *nameInput) (*bodyOutput[Issuer], error) {
		return answer(a.taken(ctx, c)(c.CloseIssuingCA(ctx, c.act, in.Name)))
	})
	register(a, access.ManageIssuers, operation{
		id: "reopenIssuer", method: http.MethodPost, path: "/issuers/{name}/reopen", tag: tagIssuers,
		summary: "Let a closed issuing CA issue again",
	}, func(ctx context.Context, c *call, in *nameInput) (*bodyOutput[Issuer], error) {
		return answer(a.taken(ctx, c)(c.ReopenIssuingCA(ctx, c.act, in.Name)))
	})
}

func (a *API) setDefaultIssuer(ctx context.Context, c *call, in *nameInput) (*bodyOutput[Issuer], error) {
	if err := a.config.IssuingCAs.Unable()[in.Name]; err != nil {
		return nil, vetting.Errorf(vetting.Conflict, "the server cannot issue with %s, so no device would get a certificate: %v", in.Name, err)
	}
	if err := c.SetDefaultIssuingCA(ctx, c.act, in.Name); err != nil {
		return nil, err
	}
	if err := a.config.IssuingCAs.Refresh(ctx); err != nil {
		return nil, err
	}
	return answer(a.issuer(ctx, c, in.Name))
}

// issuer is one of the CAs that issue to devices, by name.
func (a *API) issuer(ctx context.Context, c *call, name string) (*Issuer, error) {
	counts, err := c.CertificateCounts(ctx)
	if err != nil {
		return nil, err
	}
	if name != vetting.DeviceCA {
		i, err := c.IssuingCA(ctx, name)
		if err != nil {
			return nil, err
		}
		return a.shownIssuer(i, counts)
	}
	list, err := a.issuingCAs(ctx, c, vetting.Page{Limit: 1})
	if err != nil {
		return nil, err
	}
	return a.shownIssuer(list[0], counts)
}

// issuingCAs are a page of all of them, the device CA first. It is the default
// if no other is.
func (a *API) issuingCAs(ctx context.Context, c *call, p vetting.Page) ([]*vetting.IssuingCA, error) {
	list, err := c.IssuingCAs(ctx)
	if err != nil {
		return nil, err
	}
	device := a.config.IssuingCAs.DeviceCA()
	if !slices.ContainsFunc(list, func(i *vetting.IssuingCA) bool { return i.State == vetting.IssuingDefault }) {
		device.State = vetting.IssuingDefault
	}
	page := []*vetting.IssuingCA{}
	for _, i := range append([]*vetting.IssuingCA{device}, list...) {
		if i.ID+1 > p.After && len(page) < p.Limit {
			page = append(page, i)
		}
	}
	return page, nil
}

func (a *API) createIssuer(ctx context.Context, c *call, in *bodyOf[IssuerInput]) (*createdOutput[Issuer], error) {
	i, err := a.readIssuer(ctx, in.Body.Name, in.Body.Certificate)
	if err != nil {
		return nil, err
	}
	shown, err := a.taken(ctx, c)(c.CreateIssuingCA(ctx, c.act, i))
	return created(shown, err, func(i *Issuer) string { return "/issuers/" + i.Name })
}

func (a *API) renewIssuer(ctx context.Context, c *call, in *issuerBody) (*bodyOutput[Issuer], error) {
	i, err := a.readIssuer(ctx, in.Name, in.Body.Certificate)
	if err != nil {
		return nil, err
	}
	return answer(a.taken(ctx, c)(c.RenewIssuingCA(ctx, c.act, i)))
}

// readIssuer reads a certificate that an issuing CA is to have.
func (a *API) readIssuer(ctx context.Context, name, text string) (*vetting.IssuingCA, error) {
	block, rest := pem.Decode([]byte(text))
	if block == nil || block.Type != "CERTIFICATE" || len(bytes.TrimSpace(rest)) > 0 {
		return nil, invalid("body.certificate", "the certificate is not one certificate in PEM")
	}
	return a.config.IssuingCAs.CheckIssuingCA(ctx, name, block.Bytes)
}

// taken has the server use what became of an issuing CA before it is
// answered.
func (a *API) taken(ctx context.Context, c *call) func(*vetting.IssuingCA, error) (*Issuer, error) {
	return func(i *vetting.IssuingCA, err error) (*Issuer, error) {
		if err != nil {
			return nil, err
		}
		if err := a.config.IssuingCAs.Refresh(ctx); err != nil {
			return nil, err
		}
		counts, err := c.CertificateCounts(ctx)
		if err != nil {
			return nil, err
		}
		return a.shownIssuer(i, counts)
	}
}

func (a *API) shownIssuer(i *vetting.IssuingCA, counts map[int64]int64) (*Issuer, error) {
	cert, err := x509.ParseCertificate(i.Certificate)
	if err != nil {
		return nil, fmt.Errorf("the certificate of the issuing CA %s in the database: %w", i.Name, err)
	}
	out := &Issuer{Name: i.Name, Default: i.State == vetting.IssuingDefault, Closed: i.State == vetting.IssuingClosed, Subject: cert.Subject.String(), KeyID: hex.EncodeToString(cert.SubjectKeyId),
		NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, Created: i.Created, Updated: i.Updated, Count: counts[i.ID], PEM: toPEM(i.Certificate)}
	if err := a.config.IssuingCAs.Unable()[i.Name]; err != nil {
		out.Problem = err.Error()
	}
	return out, nil
}
