package api

import (
	"context"
	"encoding/hex"
	"net/http"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/ocsp/crl"
	"github.com/touchmark/touchmark/vetting"
)

// CRLs are the revocation lists of the CAs that issue to devices, as this
// server has them. An error is a *vetting.Error where the request is to blame:
// NotFound for a CA that there is not.
type CRLs interface {
	// Lists are the newest lists of a CA, in the order of [crl.Scope.Place].
	Lists(issuer string) ([]*crl.Kept, error)
	// ListURL is where certificates say that a list is; "" if they do not.
	ListURL(issuer string, s crl.Scope) string
	// MakeLists makes all lists of a CA anew and returns when they are
	// served. It is a Conflict if this server cannot.
	MakeLists(ctx context.Context, by, issuer string) error
}

// CRL is a revocation list.
type CRL struct {
	Issuer     string    `json:"issuer" doc:"The CA whose certificates it lists"`
	List       string    `json:"list" doc:"What it lists: full, delta, or the partition, as 3/16 for that of number 3 of 16, counted from 0"`
	Number     int64     `json:"number" doc:"Its CRLNumber, which grows from list to list; a delta shares it with the full list"`
	Base       int64     `json:"base,omitempty" doc:"The number of the full list that a delta completes; absent for others"`
	ThisUpdate time.Time `json:"thisUpdate" doc:"When it was made"`
	NextUpdate time.Time `json:"nextUpdate" doc:"Until when it counts; the next one is made long before"`
	Entries    int       `json:"entries" doc:"How many certificates are on it"`
	Size       int64     `json:"size" doc:"Its length in bytes"`
	Digest     string    `json:"digest" doc:"The SHA-256 of its bytes in hexadecimal"`
	URL        string    `json:"url,omitempty" doc:"Where it is, as certificates say; absent if they do not"`
}

func (a *API) crls() {
	type list struct {
		Name string `path:"name" maxLength:"63" doc:"The name of the CA"`
		PageInput
	}
	register(a, access.ReadAudit, operation{
		id: "listCRLs", method: http.MethodGet, path: "/issuers/{name}/crls", tag: tagIssuers,
		summary: "List the revocation lists of a CA", errors: []int{400},
		description: "The newest of each. The lists themselves are served to everybody by the status listener.",
	}, func(_ context.Context, _ *call, in *list) (*listOutput[CRL], error) {
		have, err := listing(in.PageInput, "crls of "+in.Name, func(k *crl.Kept) int64 { return k.Scope.Place() },
			func(p vetting.Page) ([]*crl.Kept, error) { return a.crlsOf(in.Name, p) })
		if err != nil {
			return nil, err
		}
		out := &listOutput[CRL]{List[CRL]{Items: []*CRL{}, Next: have.Body.Next}}
		for _, k := range have.Body.Items {
			out.Body.Items = append(out.Body.Items, a.shownCRL(in.Name, k))
		}
		return out, nil
	})
	register(a, access.ManageDevices, operation{
		id: "makeCRLs", method: http.MethodPost, path: "/issuers/{name}/crls", tag: tagIssuers,
		summary:     "Make the revocation lists of a CA now",
		description: "All of them, before they are due. The answer, the full list or else the first one, comes when they are served.",
	}, func(ctx context.Context, c *call, in *nameInput) (*bodyOutput[CRL], error) {
		if err := a.config.CRLs.MakeLists(ctx, "operator:"+c.act.Operator, in.Name); err != nil {
			return nil, err
		}
		have, err := a.crlsOf(in.Name, vetting.Page{Limit: 1})
		if err == nil && len(have) == 0 {
			err = vetting.Errorf(vetting.Conflict, "this server is set to make no lists: see status.crl and status.partitions")
		}
		if err != nil {
			return nil, err
		}
		return answer(a.shownCRL(in.Name, have[0]), nil)
	})
}

// crlsOf are a page of a CA's lists.
func (a *API) crlsOf(issuer string, p vetting.Page) (page []*crl.Kept, err error) {
	all, err := a.config.CRLs.Lists(issuer)
	for _, k := range all {
		if k.Scope.Place() > p.After && len(page) < p.Limit {
			page = append(page, k)
		}
	}
	return page, err
}

func (a *API) shownCRL(issuer string, k *crl.Kept) *CRL {
	return &CRL{Issuer: issuer, List: k.Scope.String(), Number: k.Number, Base: k.Base, ThisUpdate: k.ThisUpdate, NextUpdate: k.NextUpdate,
		Entries: k.Entries, Size: k.Size, Digest: hex.EncodeToString(k.Digest[:]), URL: a.config.CRLs.ListURL(issuer, k.Scope)}
}
