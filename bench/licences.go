package main

import (
	"context"
	"crypto/ed25519"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"path/filepath"
	"runtime"
	"sync"
	"sync/atomic"
	"time"

	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/firmware-sign/licence"
	"github.com/touchmark/touchmark/vetting"
)

// licenceBatches is how many batches of vetting.MaxLicences are measured.
const licenceBatches = 20

// licences measures what programming stations get: licences by the thousand,
// against signing them in a loop, and one by one over kept connections,
// against what limits enrolments through a rig.
func (b *bench) licences(ctx context.Context, db string, t *table) error {
	many := row{name: "licences, 1000 a request, " + db, limit: "signing them in a loop", wanted: 0.50}
	single := row{name: "licences, one a request, " + db, limit: "CSR check and x509.CreateCertificate", wanted: 0.50}
	for range b.runs {
		if err := b.measureLicences(ctx, db, &many, &single); err != nil {
			return err
		}
	}
	t.rows = append(t.rows, many, single)
	return nil
}

func (b *bench) measureLicences(ctx context.Context, db string, many, single *row) error {
	dir, err := os.MkdirTemp("", "touchmark-bench")
	if err != nil {
		return err
	}
	defer os.RemoveAll(dir)
	chips := licenceBatches * vetting.MaxLicences
	w, drop, err := b.world(ctx, db, filepath.Join(dir, "touchmark"), chips+b.units)
	if err != nil {
		return err
	}
	defer drop()
	rigged, err := w.rigged(ctx, 1, b.units)
	if err != nil {
		return err
	}
	as, err := w.licensing(ctx)
	if err != nil {
		return err
	}
	bare, err := bareLicences(chips)
	if err != nil {
		return err
	}
	batches, err := licenceRequests(as, 0, licenceBatches, vetting.MaxLicences)
	if err != nil {
		return err
	}
	url := w.api + "/api/v1/licences"
	l, err := b.watched("licences", func() (*load, error) { return driveKept(ctx, url, batches, 4) })
	if err != nil {
		return fmt.Errorf("licences by the thousand: %w", err)
	}
	many.add(l.rate*vetting.MaxLicences, bare)
	issuing, err := bareIssuing(rigged, w.authorities.Device)
	if err != nil {
		return err
	}
	singles, err := licenceRequests(as, chips, b.units, 1)
	if err != nil {
		return err
	}
	if l, err = b.watched("licence", func() (*load, error) { return driveKept(ctx, url, singles, b.clients) }); err != nil {
		return fmt.Errorf("licences one by one: %w", err)
	}
	single.add(l.rate, issuing)
	return nil
}

// licensing makes the world's product ask for licences, and a rig to get them.
func (w *world) licensing(ctx context.Context) (*tls.Config, error) {
	var product map[string]any
	if err := w.admin.Do(ctx, http.MethodGet, "/products/thermo", nil, &product); err != nil {
		return nil, err
	}
	change := map[string]any{"licences": map[string]any{"uid": "uid64"}}
	for _, field := range []string{"profile", "proofs", "revision"} {
		change[field] = product[field]
	}
	if err := w.admin.Do(ctx, http.MethodPut, "/products/thermo", change, nil); err != nil {
		return nil, err
	}
	if err := w.admin.Do(ctx, http.MethodPost, "/products/thermo/licence-keys", map[string]any{}, nil); err != nil {
		return nil, err
	}
	rig, err := w.admin.Hire(ctx, "programmer", "rig", "hsinchu")
	if err != nil {
		return nil, err
	}
	return w.tls(&device.Credential{Key: rig.Key, Chain: []*x509.Certificate{rig.Cert}}), nil
}

// licenceRequests ask for licences of n times so many chips, from the nth on.
func licenceRequests(as *tls.Config, from, n, each int) ([]client, error) {
	list := make([]client, n)
	for i := range list {
		in := map[string]any{"order": "po-1"}
		uids := make([]string, each)
		for j := range uids {
			uids[j] = fmt.Sprintf("%x", chip(from+i*each+j))
		}
		if in["uids"] = uids; each == 1 {
			in = map[string]any{"order": "po-1", "uid": uids[0]}
		}
		body, err := json.Marshal(in)
		if err != nil {
			return nil, err
		}
		list[i] = client{as, body}
	}
	return list, nil
}

// chip is the UID of the nth chip.
func chip(n int) []byte { return binary.BigEndian.AppendUint64(nil, 1<<40+uint64(n)) }

// bareLicences signs n licences on all cores, and tells how many a second.
func bareLicences(n int) (float64, error) {
	_, key, err := ed25519.GenerateKey(rand.Reader)
	if err != nil {
		return 0, err
	}
	var next atomic.Int64
	var failed atomic.Pointer[error]
	began := time.Now()
	var wg sync.WaitGroup
	for range runtime.NumCPU() {
		wg.Go(func() {
			for i := int(next.Add(1)) - 1; i < n; i = int(next.Add(1)) - 1 {
				if _, err := licence.Sign(licence.Header{UIDType: licence.UID64, Product: 1, Lot: 1}, chip(i), key); err != nil {
					failed.Store(&err)
					return
				}
			}
		})
	}
	wg.Wait()
	if err := failed.Load(); err != nil {
		return 0, *err
	}
	return float64(n) / time.Since(began).Seconds(), nil
}
