package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"errors"
	"fmt"
	"log/slog"
	"math/big"
	"os"
	"path/filepath"
	"runtime"
	"time"

	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/ocsp/crl"
)

// crls measures how revocation lists are made: one of all revoked
// certificates, and after one more revocation that of its partition. Both are
// kept in the database, with their leaf in the log.
func (b *bench) crls(ctx context.Context, db string, t *table) error {
	if b.revoked == 0 {
		return nil
	}
	full := row{name: fmt.Sprintf("CRL of %d entries, %s", b.revoked, db), limit: "bare x509.CreateRevocationList of them", wanted: 0.67}
	one := row{name: fmt.Sprintf("one more revocation in one of %d partitions, %s", crlPartitions, db), limit: full.limit, wanted: 500}
	for range b.runs {
		m, err := b.measureCRL(ctx, db)
		if err != nil {
			return err
		}
		full.add(1/m.full.Seconds(), 1/m.bare.Seconds())
		one.add(1/m.one.Seconds(), 1/m.bare.Seconds())
		t.note("CRL of %d entries, %s: %s, of which %s until it is signed; bare %s; %.1f bytes of memory for an entry", b.revoked, db,
			m.full.Round(time.Millisecond), m.signed.Round(time.Millisecond), m.bare.Round(time.Millisecond), m.memory)
		t.note("after one more revocation, %s: its partition in %s, of which %s in the database; all %d partitions took %s; the delta with it %s", db,
			m.one.Round(time.Microsecond), m.kept.Round(time.Microsecond), crlPartitions, m.all.Round(time.Millisecond), m.delta.Round(time.Microsecond))
	}
	t.rows = append(t.rows, full, one)
	return nil
}

const crlPartitions = 1024

// listsTook is how long lists took to be made.
type listsTook struct {
	bare, signed, full, all, one, kept, delta time.Duration
	memory                                    float64
}

func (b *bench) measureCRL(ctx context.Context, db string) (m listsTook, err error) {
	dir, err := os.MkdirTemp("", "touchmark-bench")
	if err != nil {
		return m, err
	}
	defer os.RemoveAll(dir)
	dsn, drop := "sqlite:"+filepath.Join(dir, "touchmark.db"), func() {}
	if db == "postgres" {
		if dsn, drop, err = b.database(ctx); err != nil {
			return m, err
		}
	}
	defer drop()
	s, err := store.Open(ctx, store.Options{DSN: dsn})
	if err != nil {
		return m, err
	}
	defer func() { err = errors.Join(err, s.Close()) }()
	issuer, err := listIssuer()
	if err != nil {
		return m, err
	}
	w := &lists{Store: s, issuer: issuer, revoked: new(crl.Revoked)}
	before := heap()
	for n := range b.revoked {
		w.change(n)
	}
	w.newest = nil
	m.memory = float64(heap()-before) / float64(b.revoked)
	if m.bare, err = w.bare(b.revoked); err != nil {
		return m, err
	}
	return m, w.measure(ctx, &m, b.revoked)
}

// measure has lists of n certificates made, with what one more and then
// another adds.
func (w *lists) measure(ctx context.Context, m *listsTook, n int) (err error) {
	schedule := crl.Schedule{Interval: time.Hour, Validity: 4 * time.Hour, Delay: time.Second, Full: true, URLs: []string{"http://status.example.com"}}
	if m.full, err = w.make(ctx, schedule); err != nil {
		return err
	}
	m.signed = m.full - w.keeping
	schedule.Full, schedule.Partitions = false, crlPartitions
	if m.all, err = w.make(ctx, schedule); err != nil {
		return err
	}
	w.change(n)
	if m.one, err = w.make(ctx, schedule); err != nil {
		return err
	}
	m.kept = w.keeping
	schedule.Full, schedule.DeltaInterval, schedule.DeltaValidity = true, time.Hour, time.Hour
	if _, err = w.make(ctx, schedule); err != nil { // a full list with its delta
		return err
	}
	w.newest = nil
	w.change(n + 1)
	m.delta, err = w.make(ctx, schedule)
	return err
}

func heap() uint64 {
	runtime.GC()
	var s runtime.MemStats
	runtime.ReadMemStats(&s)
	return s.HeapAlloc
}

// lists is what a maker of revocation lists works with.
type lists struct {
	*store.Store
	issuer  crl.Issuer
	revoked *crl.Revoked
	newest  []ocsp.Change // since the full list
	seq     int64
	failed  bool
	makes   int
	keeping time.Duration
}

// KeepCRLs tells the time in the database from that before.
func (w *lists) KeepCRLs(ctx context.Context, by, note string, made []*crl.Made) ([]*crl.Kept, error) {
	began := time.Now()
	defer func() { w.keeping += time.Since(began) }()
	return w.Store.KeepCRLs(ctx, by, note, made)
}

// Changes implements ocsp.Source.
func (w *lists) Changes(_ context.Context, after int64, each func([]ocsp.Change) error) (int64, error) {
	if len(w.newest) == 0 {
		return after, nil
	}
	return w.seq, each(w.newest)
}

func (w *lists) Made(string, crl.Scope, time.Duration) {}

func (w *lists) Failed(string) { w.failed = true }

// change revokes the n-th certificate.
func (w *lists) change(n int) {
	w.seq++
	c := ocsp.Change{Seq: w.seq, Serial: serialNumber(n), Reason: ocsp.KeyCompromise, Revoked: revokedAt, NotAfter: revokedAt.AddDate(10, 0, 0)}
	w.newest = append(w.newest[:0], c)
	w.revoked.Apply(w.newest)
}

var revokedAt = time.Date(2026, 3, 1, 12, 0, 0, 0, time.UTC)

// serialNumber looks as random as any, and is another for each n.
func serialNumber(n int) (s ocsp.Serial) {
	sum := sha256.Sum256(binary.BigEndian.AppendUint64(nil, uint64(n)))
	copy(s[:], sum[:])
	s[0] = s[0]&0x7f | 1
	return s
}

// make makes what is due of a schedule.
func (w *lists) make(ctx context.Context, s crl.Schedule) (time.Duration, error) {
	d := &crl.Directory{Store: w}
	if err := d.Refresh(ctx); err != nil {
		return 0, err
	}
	w.failed, w.keeping, w.makes = false, 0, w.makes+1
	now := time.Now().Add(time.Duration(w.makes) * time.Second) // a list is made once a second at most
	var issuers []crl.Issuer
	m := crl.NewMaker(crl.Maker{Schedule: s, Revoked: w.revoked, Source: w, Directory: d, Observer: w, Log: slog.Default(),
		Issuers: func() []crl.Issuer { return issuers }, Known: func() (time.Time, bool) { return now, true }})
	m.Round(ctx) // what a maker does in its first round, and then once a minute or an hour
	issuers = []crl.Issuer{w.issuer}
	began := time.Now()
	m.Round(ctx)
	if took := time.Since(began); !w.failed {
		return took, ctx.Err()
	}
	return 0, errors.New("the revocation lists could not be made")
}

// bare is how long crypto/x509 takes.
func (w *lists) bare(n int) (time.Duration, error) {
	template := &x509.RevocationList{Number: big.NewInt(1), ThisUpdate: revokedAt, NextUpdate: revokedAt.AddDate(0, 0, 1)}
	for i := range n {
		s := serialNumber(i)
		template.RevokedCertificateEntries = append(template.RevokedCertificateEntries,
			x509.RevocationListEntry{SerialNumber: s.Int(), RevocationTime: revokedAt, ReasonCode: int(ocsp.KeyCompromise)})
	}
	began := time.Now()
	_, err := x509.CreateRevocationList(rand.Reader, template, w.issuer.Certificate, w.issuer.Signer)
	return time.Since(began), err
}

func listIssuer() (i crl.Issuer, err error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return i, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Bench Device CA"}, NotBefore: revokedAt, NotAfter: revokedAt.AddDate(20, 0, 0),
		KeyUsage: x509.KeyUsageCertSign | x509.KeyUsageCRLSign, BasicConstraintsValid: true, IsCA: true}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return i, err
	}
	cert, err := x509.ParseCertificate(der)
	return crl.Issuer{Name: "device-ca", Certificate: cert, Signer: key}, err
}
