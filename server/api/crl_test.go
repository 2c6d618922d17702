package api_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/touchmark/touchmark/ocsp/crl"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// lists are a server's that has those of its device CA in 1,024 partitions.
type lists struct {
	made, ended []string
	fail        error
}

func (l *lists) Lists(issuer string) (list []*crl.Kept, err error) {
	if issuer != "device-ca" {
		return nil, vetting.Errorf(vetting.NotFound, "there is no issuing CA %s", issuer)
	}
	list = []*crl.Kept{{Number: 7, ThisUpdate: today, Entries: 2, Size: 300}, {Scope: crl.Delta, Number: 9, Base: 7}}
	for i := range 1024 {
		list = append(list, &crl.Kept{Scope: crl.Scope{Partitions: 1024, Partition: i}, Number: int64(i)})
	}
	return list, nil
}

func (l *lists) ListURL(issuer string, s crl.Scope) string {
	return s.URL("http://status.example", issuer)
}

func (l *lists) MakeLists(_ context.Context, by, issuer string) error {
	if _, err := l.Lists(issuer); err != nil {
		return err
	}
	l.made = append(l.made, by)
	return l.fail
}

func (l *lists) Partitions(_ context.Context, issuer string) (list []*api.CRLPartitions, err error) {
	if _, err := l.Lists(issuer); err != nil {
		return nil, err
	}
	for n := 1; n <= 1024; n *= 2 {
		list = append(list, &api.CRLPartitions{Issuer: issuer, Partitions: n, Current: n == 1024, Certificates: int64(n), Until: &today})
	}
	return list, nil
}

func (l *lists) EndPartitions(_ context.Context, by, issuer string, n int) (int, error) {
	if _, err := l.Lists(issuer); err != nil {
		return 0, err
	}
	l.ended = append(l.ended, fmt.Sprint(by, " ", n))
	return n, l.fail
}

func TestCRLPartitions(t *testing.T) {
	made := new(lists)
	w := newWorld(t, func(c *api.Config) { c.CRLs = made })
	seen := 1
	for next := ""; seen == 1 || next != ""; {
		page := decode[api.List[api.CRLPartitions]](t, w.as("auditor", "GET", "/issuers/device-ca/crl-partitions?limit=4&cursor="+next, nil), 200)
		for _, p := range page.Items {
			if p.Partitions != seen || p.Certificates != int64(seen) || p.Current != (seen == 1024) || !p.Until.Equal(today) {
				t.Errorf("%+v after %d", p, seen)
			}
			seen *= 2
		}
		next = page.Next
	}
	if seen != 2048 {
		t.Errorf("the pages end before %d", seen)
	}
	const path = "/issuers/device-ca/crl-partitions/16"
	if e := decode[api.CRLsEnded](t, w.as("admin", "DELETE", path, nil), 200); e.Lists != 16 || !slices.Equal(made.ended, []string{"operator:admin 16"}) {
		t.Errorf("ended are %+v, by %q", e, made.ended)
	}
	decode[api.Problem](t, w.as("admin", "GET", "/issuers/none/crl-partitions", nil), 404)
	decode[api.Problem](t, w.as("admin", "DELETE", "/issuers/none/crl-partitions/16", nil), 404)
	made.fail = vetting.Errorf(vetting.Conflict, "certificates are divided into 16 partitions at present")
	decode[api.Problem](t, w.as("admin", "DELETE", path, nil), 409)
}

func TestCRLs(t *testing.T) {
	made := new(lists)
	w := newWorld(t, func(c *api.Config) { c.CRLs = made })
	var seen, want []string
	for next := ""; len(seen) == 0 || next != ""; {
		page := decode[api.List[api.CRL]](t, w.as("auditor", "GET", "/issuers/device-ca/crls?limit=400&cursor="+next, nil), 200)
		for _, l := range page.Items {
			seen = append(seen, l.List)
		}
		next = page.Next
	}
	for i := range 1024 {
		want = append(want, fmt.Sprintf("%d/1024", i))
	}
	if want = append([]string{"full", "delta"}, want...); !slices.Equal(seen, want) {
		t.Errorf("the pages have %d lists, %v", len(seen), seen)
	}
	full := decode[api.CRL](t, w.as("admin", "POST", "/issuers/device-ca/crls", nil), 200)
	if full.List != "full" || full.Number != 7 || full.Entries != 2 || full.URL != "http://status.example/crl/device-ca.crl" || !slices.Equal(made.made, []string{"operator:admin"}) {
		t.Errorf("made are %+v by %q", full, made.made)
	}
	for _, method := range []string{"GET", "POST"} {
		decode[api.Problem](t, w.as("admin", method, "/issuers/none/crls", nil), 404)
	}
	made.fail = vetting.Errorf(vetting.Conflict, "the CA device-ca cannot sign revocation lists: its key is not at hand here")
	decode[api.Problem](t, w.as("admin", "POST", "/issuers/device-ca/crls", nil), 409)
}
