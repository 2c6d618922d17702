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
	// Partitions are the numbers of partitions of which there are lists of a
	// CA, rising. It reads all its certificates.
	Partitions(ctx context.Context, issuer string) ([]*CRLPartitions, error)
	// EndPartitions ends the lists of all partitions of a number, for good,
	// and returns how many those were. It is a Conflict if that is the number in force, NotFound if there are
	// none.
	EndPartitions(ctx context.Context, by, issuer string, n int) (lists int, err error)
}

// CRLPartitions is a number of partitions into which a CA's certificates are
// or were divided.
type CRLPartitions struct {
	Issuer       string     `json:"issuer" doc:"The CA"`
	Partitions   int        `json:"partitions" doc:"How many lists there are, each of one partition"`
	Current      bool       `json:"current" doc:"Whether certificates from now on name one of them"`
	Certificates int64      `json:"certificates" doc:"How many certificates that have not run out name one of them"`
	Until        *time.Time `json:"until,omitempty" doc:"When the last of those runs out; absent if there are none"`
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

// CRLsEnded is what became of a number of partitions.
type CRLsEnded struct {
	Issuer     string `json:"issuer" doc:"The CA"`
	Partitions int    `json:"partitions" doc:"The number"`
	Lists      int    `json:"lists" doc:"How many lists have ended"`
}

func (a *API) crlPartitions() {
	type list struct {
		Name string `path:"name" maxLength:"63" doc:"The name of the CA"`
		PageInput
	}
	type partitions struct {
		Name       string `path:"name" maxLength:"63" doc:"The name of the CA"`
		Partitions int    `path:"partitions" minimum:"1" maximum:"4096" doc:"The number"`
	}
	register(a, access.ReadAudit, operation{
		id: "listCRLPartitions", method: http.MethodGet, path: "/issuers/{name}/crl-partitions", tag: tagIssuers,
		summary: "List the numbers of partitions of a CA's revocation lists", errors: []int{400},
		description: "The number in force and former ones, whose lists go on as long as nobody ends them, with how many certificates name them. All certificates of the CA are read for that: " +
			"some seconds for a million.",
	}, func(ctx context.Context, _ *call, in *list) (*listOutput[CRLPartitions], error) {
		place := func(p *CRLPartitions) int64 { return int64(p.Partitions) }
		return listing(in.PageInput, "crl partitions of "+in.Name, place,
			func(p vetting.Page) ([]*CRLPartitions, error) {
				all, err := a.config.CRLs.Partitions(ctx, in.Name)
				return pageOf(all, p, place), err
			})
	})
	register(a, access.ManageDevices, operation{
		id: "endCRLPartitions", method: http.MethodDelete, path: "/issuers/{name}/crl-partitions/{partitions}", tag: tagIssuers,
		summary:     "End the revocation lists of a former number of partitions",
		description: "They are neither served nor made any more. Who checks a certificate that names one of them finds no list, and may refuse it.",
	}, func(ctx context.Context, c *call, in *partitions) (*bodyOutput[CRLsEnded], error) {
		n, err := a.config.CRLs.EndPartitions(ctx, "operator:"+c.act.Operator, in.Name, in.Partitions)
		return answer(&CRLsEnded{Issuer: in.Name, Partitions: in.Partitions, Lists: n}, err)
	})
}

// crlsOf are a page of a CA's lists.
func (a *API) crlsOf(issuer string, p vetting.Page) (page []*crl.Kept, err error) {
	all, err := a.config.CRLs.Lists(issuer)
	return pageOf(all, p, func(k *crl.Kept) int64 { return k.Scope.Place() }), err
}

// pageOf is a page of what is at hand as a whole, in the order of its places.
func pageOf[T any](all []*T, p vetting.Page, place func(*T) int64) (page []*T) {
	for _, v := range all {
		if place(v) > p.After && len(page) < p.Limit {
			page = append(page, v)
		}
	}
	return page
}

func (a *API) shownCRL(issuer string, k *crl.Kept) *CRL {
	return &CRL{Issuer: issuer, List: k.Scope.String(), Number: k.Number, Base: k.Base, ThisUpdate: k.ThisUpdate, NextUpdate: k.NextUpdate,
		Entries: k.Entries, Size: k.Size, Digest: hex.EncodeToString(k.Digest[:]), URL: a.config.CRLs.ListURL(issuer, k.Scope)}
}
