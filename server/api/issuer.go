package api

import (
	"bytes"
	"cmp"
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

// Issuer is a CA below the root.
type Issuer struct {
	Name      string    `json:"name" doc:"The name by which owners choose it"`
	Purpose   string    `json:"purpose" enum:"devices,sites,operators,code-signing" doc:"Whom it issues to"`
	Default   bool      `json:"default,omitempty" doc:"Whether it issues to the devices of owners that name none, or to all that its purpose says"`
	Closed    bool      `json:"closed,omitempty" doc:"Whether it issues to nobody; certificates of sites and operators that it issued are refused"`
	Subject   string    `json:"subject" doc:"The subject of its certificate"`
	KeyID     string    `json:"keyIdentifier" doc:"Its subjectKeyIdentifier in hexadecimal, which is the authorityKeyIdentifier of what it issues"`
	NotBefore time.Time `json:"notBefore" doc:"From when its certificate is valid"`
	NotAfter  time.Time `json:"notAfter" doc:"Until when its certificate is valid"`
	Created   time.Time `json:"created,omitzero" doc:"When it was created; absent for the one that was there from the beginning"`
	Updated   time.Time `json:"updated,omitzero" doc:"When its certificate was last replaced"`
	Count     int64     `json:"certificates" doc:"How many certificates of devices of it have not run out before today, revoked ones among them; or how many operators that were not revoked have their newest certificates of it"`
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
		summary: "List the CAs below the root", errors: []int{400},
	}, func(ctx context.Context, c *call, in *list) (*listOutput[Issuer], error) {
		return a.listIssuers(ctx, c, in.PageInput)
	})
	register(a, access.ReadAudit, operation{
		id: "getIssuer", method: http.MethodGet, path: "/issuers/{name}", tag: tagIssuers,
		summary: "Show a CA below the root",
	}, func(ctx context.Context, c *call, in *nameInput) (*bodyOutput[Issuer], error) {
		return answer(a.issuer(ctx, c, in.Name))
	})
	register(a, access.ManageIssuers, operation{
		id: "createIssuer", method: http.MethodPost, path: "/issuers", tag: tagIssuers,
		summary: "Create an issuing CA", status: http.StatusCreated,
		description: "Whom it issues to stands in its certificate, as the only organizationalUnitName of the subject: Factory CA (sites), Operator CA, Code Signing CA; with any other it issues to devices. Its certificate is made where the root's key is, and its key must be in the server's hands already: `touchmark issuer create` does all of it. Every server of the database uses it within a second or two, if it has the key.",
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
		summary:     "Have an issuing CA issue to all devices whose owner names no other, or to all that its purpose says",
		description: "In place of the one that did; device-ca, factory-ca, operator-ca and codesign-ca can be named to go back. Every server follows within a second or two. What the other issued stays valid, and is renewed with the new one.",
	}, a.setDefaultIssuer)
	register(a, access.ManageIssuers, operation{
		id: "closeIssuer", method: http.MethodPost, path: "/issuers/{name}/close", tag: tagIssuers,
		summary:     "Have an issuing CA issue no more",
		description: "It must not be the default, and no owner may name it. What it issued to devices stays valid; certificates of sites and operators that it issued are refused from then on, on every server within a second or two.",
	}, a.closeIssuer)
	register(a, access.ManageIssuers, operation{
		id: "reopenIssuer", method: http.MethodPost, path: "/issuers/{name}/reopen", tag: tagIssuers,
		summary: "Let a closed issuing CA issue again",
	}, func(ctx context.Context, c *call, in *nameInput) (*bodyOutput[Issuer], error) {
		return answer(a.taken(ctx, c)(c.ReopenIssuingCA(ctx, c.act, in.Name)))
	})
}

func (a *API) setDefaultIssuer(ctx context.Context, c *call, in *nameInput) (*bodyOutput[Issuer], error) {
	if err := a.ableToIssue(in.Name); err != nil {
		return nil, err
	}
	if err := c.SetDefaultIssuingCA(ctx, c.act, in.Name); err != nil {
		return nil, err
	}
	if err := a.config.IssuingCAs.Refresh(ctx); err != nil {
		return nil, err
	}
	return answer(a.issuer(ctx, c, in.Name))
}

// closeIssuer closes an issuing CA, unless that would lock out who asks.
func (a *API) closeIssuer(ctx context.Context, c *call, in *nameInput) (*bodyOutput[Issuer], error) {
	i := &vetting.IssuingCA{Name: in.Name}
	if p, founding := vetting.PurposeOfFounding(in.Name); founding && p != vetting.ForDevices {
		i = a.config.IssuingCAs.Founding(p)
	} else if have, err := c.IssuingCA(ctx, in.Name); err == nil {
		i = have
	}
	if err := locksOut(c, i); err != nil {
		return nil, err
	}
	return answer(a.taken(ctx, c)(c.CloseIssuingCA(ctx, c.act, i)))
}

// placedCA is a CA and its place in the list of all, from 1.
type placedCA struct {
	*vetting.IssuingCA
	place int64
}

func (a *API) listIssuers(ctx context.Context, c *call, p PageInput) (*listOutput[Issuer], error) {
	have, err := listing(p, "issuers", func(i *placedCA) int64 { return i.place },
		func(p vetting.Page) (page []*placedCA, err error) {
			list, err := a.issuingCAs(ctx, c)
			for n := p.After; n < int64(len(list)) && len(page) < p.Limit; n++ {
				page = append(page, &placedCA{list[n], n + 1})
			}
			return page, err
		})
	if err != nil {
		return nil, err
	}
	counts, err := countsOf(ctx, c)
	if err != nil {
		return nil, err
	}
	out := &listOutput[Issuer]{List[Issuer]{Items: []*Issuer{}, Next: have.Body.Next}}
	for _, i := range have.Body.Items {
		shown, err := a.shownIssuer(i.IssuingCA, counts)
		if err != nil {
			return nil, err
		}
		out.Body.Items = append(out.Body.Items, shown)
	}
	return out, nil
}

// issuer is one of the CAs below the root, by name.
func (a *API) issuer(ctx context.Context, c *call, name string) (*Issuer, error) {
	list, err := a.issuingCAs(ctx, c)
	if err != nil {
		return nil, err
	}
	n := slices.IndexFunc(list, func(i *vetting.IssuingCA) bool { return i.Name == name })
	if n < 0 {
		_, err := c.IssuingCA(ctx, name) // says so
		return nil, err
	}
	counts, err := countsOf(ctx, c)
	if err != nil {
		return nil, err
	}
	return a.shownIssuer(list[n], counts)
}

// issuingCAs are all of them, the founding ones first. Such a one is the
// default of its purpose if no other is, and otherwise as the database has it.
func (a *API) issuingCAs(ctx context.Context, c *call) ([]*vetting.IssuingCA, error) {
	learnt, err := c.IssuingCAs(ctx)
	if err != nil {
		return nil, err
	}
	var list []*vetting.IssuingCA
	for _, p := range vetting.Purposes {
		i := a.config.IssuingCAs.Founding(p)
		if n := slices.IndexFunc(learnt, func(l *vetting.IssuingCA) bool { return l.Name == i.Name && l.Purpose == p }); n >= 0 {
			i.State, i.Updated = learnt[n].State, learnt[n].Updated
			learnt = slices.Delete(learnt, n, n+1)
		}
		if !slices.ContainsFunc(learnt, func(l *vetting.IssuingCA) bool { return l.Purpose == p && l.State == vetting.IssuingDefault }) {
			i.State = vetting.IssuingDefault
		}
		list = append(list, i)
	}
	return append(list, learnt...), nil
}

// inTheField is how much of each CA is in use.
type inTheField struct {
	certificates map[int64]int64  // of devices, by the CA's ID
	operators    map[string]int64 // by the CA's name
}

func countsOf(ctx context.Context, c *call) (n inTheField, err error) {
	if n.certificates, err = c.CertificateCounts(ctx); err != nil {
		return n, err
	}
	n.operators, err = c.OperatorCounts(ctx)
	return n, err
}

func (n inTheField) of(i *vetting.IssuingCA) int64 {
	if i.Purpose == vetting.ForDevices {
		return n.certificates[i.ID]
	}
	return n.operators[i.Name]
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
		counts, err := countsOf(ctx, c)
		if err != nil {
			return nil, err
		}
		return a.shownIssuer(i, counts)
	}
}

func (a *API) shownIssuer(i *vetting.IssuingCA, counts inTheField) (*Issuer, error) {
	cert, err := x509.ParseCertificate(i.Certificate)
	if err != nil {
		return nil, fmt.Errorf("the certificate of the issuing CA %s in the database: %w", i.Name, err)
	}
	out := &Issuer{Name: i.Name, Purpose: cmp.Or(string(i.Purpose), "devices"), Default: i.State == vetting.IssuingDefault, Closed: i.State == vetting.IssuingClosed, Subject: cert.Subject.String(), KeyID: hex.EncodeToString(cert.SubjectKeyId),
		NotBefore: cert.NotBefore, NotAfter: cert.NotAfter, Created: i.Created, Updated: i.Updated, Count: counts.of(i), PEM: toPEM(i.Certificate)}
	if err := a.config.IssuingCAs.Unable()[i.Name]; err != nil {
		out.Problem = err.Error()
	}
	return out, nil
}
