package crl_test

import (
	"bytes"
	"context"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"log/slog"
	"math/big"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/ocsp/crl"
)

var epoch = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// memory is a Source and a Store.
type memory struct {
	mu      sync.Mutex
	changes []ocsp.Change
	kept    map[crl.Scope]*crl.Kept // of issuer 0
	bodies  map[int64][]byte
	version int64
	notes   []string
	fail    error  // of the next KeepCRLs
	late    bool   // which fails after it kept them
	writing func() // is called before lists are written
}

func (m *memory) Changes(_ context.Context, after int64, each func([]ocsp.Change) error) (int64, error) {
	for _, c := range m.changes {
		if c.Seq > after {
			after = c.Seq
			if err := each([]ocsp.Change{c}); err != nil {
				return after, err
			}
		}
	}
	return after, nil
}

func (m *memory) CRLs(_ context.Context, after int64) (list []*crl.Kept, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, k := range m.kept {
		if k.Version > after {
			list = append(list, k)
		}
	}
	slices.SortFunc(list, func(a, b *crl.Kept) int { return int(a.Version - b.Version) })
	return list, nil
}

func (m *memory) KeepCRLs(_ context.Context, by, note string, made []*crl.Made) (list []*crl.Kept, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.writing != nil {
		m.writing()
	}
	err, m.fail = m.fail, nil
	if err != nil && !m.late {
		return nil, err
	}
	newest := map[crl.Scope]int64{}
	for s, k := range m.kept {
		s.Delta = false
		newest[s] = max(newest[s], k.Number)
	}
	for _, n := range made {
		series := n.Scope
		series.Delta = false
		if newest[series] != n.Follows {
			continue
		}
		var body bytes.Buffer
		if _, err := n.Content.WriteTo(&body); err != nil {
			return nil, err
		}
		m.version++
		k := n.Kept
		k.Body, k.Version = m.version, m.version
		m.kept[k.Scope], m.bodies[k.Body] = &k, body.Bytes()
		list = append(list, &k)
	}
	m.notes = append(m.notes, by+" "+note)
	return list, err
}

func (m *memory) EndCRLs(_ context.Context, _, _ string, issuer int64, partitions int) (ended int, err error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for s, k := range m.kept {
		if s.Partitions == partitions && k.Issuer == issuer && !k.Ended() {
			m.version++
			after := *k
			after.Size, after.Body, after.Version = 0, 0, m.version
			m.kept[s] = &after
			ended++
		}
	}
	return ended, nil
}

func (m *memory) CRLChunk(_ context.Context, body int64, n int) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	b, ok := m.bodies[body]
	if !ok {
		return nil, crl.ErrGone
	}
	return b[min(n*crl.ChunkSize, len(b)):min((n+1)*crl.ChunkSize, len(b))], nil
}

func (m *memory) TidyCRLs(context.Context) (bool, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for body := range m.bodies {
		if !slices.ContainsFunc(m.all(), func(k *crl.Kept) bool { return k.Body == body }) {
			delete(m.bodies, body)
		}
	}
	return false, nil
}

func (m *memory) all() (list []*crl.Kept) {
	for _, k := range m.kept {
		list = append(list, k)
	}
	return list
}

// world is a maker with all that it needs.
type world struct {
	t      *testing.T
	memory *memory
	maker  *crl.Maker
	issuer crl.Issuer
	now    time.Time
	failed int
}

func newWorld(t *testing.T, s crl.Schedule) *world {
	w := &world{t: t, now: epoch, issuer: newIssuer(t, newKey(t))}
	w.memory = &memory{kept: map[crl.Scope]*crl.Kept{}, bodies: map[int64][]byte{}}
	w.maker = w.server(s)
	return w
}

// server is one more maker on the same store.
func (w *world) server(s crl.Schedule) *crl.Maker {
	return crl.NewMaker(crl.Maker{Schedule: s, Revoked: new(crl.Revoked), Source: w.memory, Directory: &crl.Directory{Store: w.memory},
		Issuers: func() []crl.Issuer { return []crl.Issuer{w.issuer} }, Known: func() (time.Time, bool) { return w.now, true },
		Observer: observer{w}, Log: slog.New(slog.DiscardHandler)})
}

type observer struct{ *world }

func (observer) Made(string, crl.Scope, time.Duration) {}
func (o observer) Failed(string)                       { o.failed++ }

var schedule = crl.Schedule{Interval: 24 * time.Hour, Validity: 96 * time.Hour, DeltaInterval: time.Hour, DeltaValidity: 6 * time.Hour,
	Delay: time.Second, Full: true, Partitions: 4, URLs: []string{"http://status.example.com"}}

// change tells a maker's memory and the source of a change.
func (w *world) change(c ocsp.Change) {
	c.Seq = int64(len(w.memory.changes)+1) * 10
	w.memory.changes = append(w.memory.changes, c)
	w.maker.Revoked.Apply([]ocsp.Change{c})
}

func (w *world) revoke(s ocsp.Serial, r ocsp.Reason) {
	w.change(ocsp.Change{Serial: s, Reason: r, Revoked: w.now, NotAfter: w.now.AddDate(2, 0, 0)})
}

func (w *world) round() {
	w.t.Helper()
	failed := w.failed
	w.maker.Round(w.t.Context())
	if w.failed != failed {
		w.t.Fatal("the round failed")
	}
}

// read parses a list that is kept, with its signature verified.
func (w *world) read(s crl.Scope) *x509.RevocationList {
	w.t.Helper()
	k := w.maker.Directory.Find(0, s)
	if k == nil {
		w.t.Fatalf("there is no list %s", s)
	}
	return w.parse(k)
}

func (w *world) parse(k *crl.Kept) *x509.RevocationList {
	w.t.Helper()
	body := w.memory.bodies[k.Body]
	l, err := x509.ParseRevocationList(body)
	if err == nil {
		err = l.CheckSignatureFrom(w.issuer.Certificate)
	}
	if err != nil {
		w.t.Fatalf("list %s: %v", k.Scope, err)
	}
	if int64(len(body)) != k.Size || len(l.RevokedCertificateEntries) != k.Entries || l.Number.Int64() != k.Number ||
		!l.ThisUpdate.Equal(k.ThisUpdate) || !l.NextUpdate.Equal(k.NextUpdate) {
		w.t.Fatalf("list %s has number %d, %d entries, %d bytes, from %s to %s; kept as %+v", k.Scope, l.Number, len(l.RevokedCertificateEntries), len(body), l.ThisUpdate, l.NextUpdate, k)
	}
	return l
}

func newKey(t testing.TB) crypto.Signer {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	return key
}

func newIssuer(t testing.TB, key crypto.Signer) crl.Issuer {
	template := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{Organization: []string{"Example AG"}, CommonName: "Example AG Device CA"},
		NotBefore: epoch.AddDate(-1, 0, 0), NotAfter: epoch.AddDate(60, 0, 0), KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign,
		BasicConstraintsValid: true, IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, template, template, key.Public(), key)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	return crl.Issuer{Name: "device-ca", Certificate: cert, Signer: key}
}

// serial is the n-th of many serial numbers, spread like random ones.
func serial(n int) (s ocsp.Serial) {
	s[0] = 1
	binary.BigEndian.PutUint32(s[1:], uint32(n))
	binary.BigEndian.PutUint16(s[7:], uint16(n*40503))
	return s
}

var errFault = errors.New("the disk is full")
