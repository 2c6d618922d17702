package api_test

import (
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/ocsp/offline"
	"github.com/touchmark/touchmark/ocsp/offline/publish"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// shelf has two offline status files of acme-ca.
type shelf struct{}

func (shelf) OfflineFiles(issuer string) ([]*publish.File, error) {
	if issuer != "acme-ca" {
		return nil, vetting.Errorf(vetting.NotFound, "there is no issuing CA %q", issuer)
	}
	at := time.Unix(1_900_000_000, 0).UTC()
	file := func(kind offline.Kind, number int64) *publish.File {
		return &publish.File{Kept: publish.Kept{Kind: kind, Number: number, Digest: [32]byte{7}}, Bytes: make([]byte, 300),
			Header: offline.Header{ThisUpdate: at, NextUpdate: at.Add(time.Hour), CoversUntil: at.Add(-time.Hour), Issued: 10, NotGood: 3}}
	}
	return []*publish.File{file(offline.Base, 4), file(offline.Delta, 6)}, nil
}

func (s shelf) WantOfflineFile(by, issuer string, kind offline.Kind) (int64, error) {
	if _, err := s.OfflineFiles(issuer); err != nil {
		return 0, err
	}
	if kind == offline.Delta {
		return 0, vetting.Errorf(vetting.Conflict, "busy with what %s wants", by)
	}
	return 6, nil
}
func TestOfflineFiles(t *testing.T) {
	w := newWorld(t)
	admin := string(access.RoleAdmin)
	list := decode[api.List[api.OfflineFile]](t, w.as(admin, "GET", "/issuers/acme-ca/offline-files", nil), 200)
	if len(list.Items) != 2 || list.Next != "" {
		t.Fatalf("%+v", list)
	}
	at := time.Unix(1_900_000_000, 0).UTC()
	want := api.OfflineFile{Issuer: "acme-ca", Kind: "base", Number: 4, ThisUpdate: at, NextUpdate: at.Add(time.Hour), CoversUntil: at.Add(-time.Hour),
		Issued: 10, NotGood: 3, Size: 300, Digest: "07" + strings.Repeat("00", 31), Path: "/filter/acme-ca"}
	if *list.Items[0] != want {
		t.Errorf("%+v, want %+v", list.Items[0], want)
	}
	if d := list.Items[1]; d.Kind != "delta" || d.Path != "/filter/acme-ca/delta" {
		t.Errorf("%+v", d)
	}
	first := decode[api.List[api.OfflineFile]](t, w.as(admin, "GET", "/issuers/acme-ca/offline-files?limit=1", nil), 200)
	rest := decode[api.List[api.OfflineFile]](t, w.as(admin, "GET", "/issuers/acme-ca/offline-files?limit=1&cursor="+first.Next, nil), 200)
	if len(first.Items) != 1 || len(rest.Items) != 1 || rest.Items[0].Kind != "delta" {
		t.Errorf("by pages: %+v, %+v", first, rest)
	}
	if made := decode[api.OfflineWanted](t, w.as(admin, "POST", "/issuers/acme-ca/offline-files", map[string]any{"kind": "base"}), 202); made.Issuer != "acme-ca" || made.After != 6 {
		t.Errorf("%+v", made)
	}
	for body, status := range map[string]int{`{"kind":"delta"}`: 409, `{}`: 409, `{"kind":"full"}`: 422} {
		if r := w.as(admin, "POST", "/issuers/acme-ca/offline-files", body); r.status != status {
			t.Errorf("%s: %d %s", body, r.status, r.body)
		}
	}
	for _, method := range []string{"GET", "POST"} {
		if r := w.as(admin, method, "/issuers/nobody/offline-files", map[string]any{"kind": "base"}); r.status != 404 {
			t.Errorf("%s: %d %s", method, r.status, r.body)
		}
	}
}
