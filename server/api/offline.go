package api

import (
	"context"
	"encoding/hex"
	"net/http"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/ocsp/offline"
	"github.com/touchmark/touchmark/ocsp/offline/publish"
	"github.com/touchmark/touchmark/vetting"
)

// OfflineFiles are the offline status files of the CAs that issue to devices,
// as this server has them. An error is a *vetting.Error: NotFound for a CA
// that there is not.
type OfflineFiles interface {
	// OfflineFiles are a CA's newest base and the newest delta of that, as far
	// as there are any.
	OfflineFiles(issuer string) ([]*publish.File, error)
	// WantOfflineFile has one made soon and gives the greatest number there was
	// before. It is a Conflict if this server cannot.
	WantOfflineFile(by, issuer string, kind offline.Kind) (after int64, err error)
}

// OfflineFile is an offline status file.
type OfflineFile struct {
	Issuer      string    `json:"issuer" doc:"The CA whose certificates it tells about"`
	Kind        string    `json:"kind" enum:"base,delta" doc:"Whether it stands by itself or says what has changed since the base"`
	Number      int64     `json:"number" doc:"Grows from file to file of the CA"`
	ThisUpdate  time.Time `json:"thisUpdate" doc:"When the standings were read"`
	NextUpdate  time.Time `json:"nextUpdate" doc:"Until when it may be used; the next one is made long before"`
	CoversUntil time.Time `json:"coversUntil" doc:"The latest notBefore of the certificates that it answers for"`
	Issued      uint64    `json:"issued" doc:"How many certificates it knows"`
	NotGood     uint64    `json:"notGood" doc:"How many of them are revoked or on hold"`
	Size        int       `json:"size" doc:"Its length in bytes"`
	Digest      string    `json:"digest" doc:"The SHA-256 of its bytes in hexadecimal"`
	Path        string    `json:"path" doc:"Where it is on the status listener"`
}

// OfflineWish is an offline status file to be made.
type OfflineWish struct {
	Kind string `json:"kind,omitempty" enum:"base,delta" doc:"Which: a delta if absent"`
}

// OfflineWanted tells what an offline status file that was wanted will be
// known by.
type OfflineWanted struct {
	Issuer string `json:"issuer" doc:"The CA"`
	After  int64  `json:"after" doc:"The greatest number of its files before: one with a greater number has been made since"`
}

type wishBody struct {
	Name string `path:"name" maxLength:"63" doc:"The name of the CA"`
	Body OfflineWish
}

func (a *API) offlineFiles() {
	type list struct {
		Name string `path:"name" maxLength:"63" doc:"The name of the CA"`
		PageInput
	}
	register(a, access.ReadAudit, operation{
		id: "listOfflineFiles", method: http.MethodGet, path: "/issuers/{name}/offline-files", tag: tagIssuers,
		summary: "List the offline status files of a CA", errors: []int{400},
		description: "The newest base, and its newest delta. The files themselves are served to everybody by the status listener.",
	}, func(_ context.Context, _ *call, in *list) (*listOutput[OfflineFile], error) {
		have, err := listing(in.PageInput, "offline files of "+in.Name, func(f *publish.File) int64 { return int64(f.Kind) },
			func(p vetting.Page) ([]*publish.File, error) { return a.offlineFilesOf(in.Name, p) })
		if err != nil {
			return nil, err
		}
		out := &listOutput[OfflineFile]{List[OfflineFile]{Items: []*OfflineFile{}, Next: have.Body.Next}}
		for _, f := range have.Body.Items {
			out.Body.Items = append(out.Body.Items, shownOfflineFile(in.Name, f))
		}
		return out, nil
	})
	register(a, access.ManageDevices, operation{
		id: "makeOfflineFile", method: http.MethodPost, path: "/issuers/{name}/offline-files", tag: tagIssuers,
		summary: "Have an offline status file made now", status: http.StatusAccepted,
		description: "Before it is due. It reads all certificates of the CA, so it takes a while: look at the list until there is one with a number greater than the answer's `after`.",
	}, func(_ context.Context, c *call, in *wishBody) (*bodyOutput[OfflineWanted], error) {
		kind := offline.Delta
		if in.Body.Kind == offline.Base.String() {
			kind = offline.Base
		}
		after, err := a.config.Offline.WantOfflineFile("operator:"+c.act.Operator, in.Name, kind)
		return answer(&OfflineWanted{Issuer: in.Name, After: after}, err)
	})
}

// offlineFilesOf are a page of a CA's files.
func (a *API) offlineFilesOf(issuer string, p vetting.Page) (page []*publish.File, err error) {
	all, err := a.config.Offline.OfflineFiles(issuer)
	for _, f := range all {
		if int64(f.Kind) > p.After && len(page) < p.Limit {
			page = append(page, f)
		}
	}
	return page, err
}

func shownOfflineFile(issuer string, f *publish.File) *OfflineFile {
	return &OfflineFile{Issuer: issuer, Kind: f.Kind.String(), Number: f.Number, ThisUpdate: f.Header.ThisUpdate, NextUpdate: f.Header.NextUpdate, CoversUntil: f.Header.CoversUntil,
		Issued: f.Header.Issued, NotGood: f.Header.NotGood, Size: len(f.Bytes), Digest: hex.EncodeToString(f.Digest[:]), Path: publish.Path(issuer, f.Kind)}
}
