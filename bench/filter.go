package main

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/binary"
	"fmt"
	"math"
	"math/big"
	"runtime/debug"
	"time"

	"github.com/touchmark/touchmark/ocsp/offline"
)

// filters measures the offline status of many certificates, of which 1 % are
// not good: how large its file is, how long a look-up takes, and what it costs
// to make. No database takes part.
func (b *bench) filters(ctx context.Context, db string, t *table) error {
	if b.issued == 0 || db != "sqlite" {
		return nil
	}
	size := row{name: fmt.Sprintf("offline filter of %d, certificates in each byte", b.issued), limit: "certificates in each byte of the entropy", wanted: 1 / 1.3}
	lookup := row{name: "look-ups in it, one core", limit: "one a microsecond", wanted: 1}
	for range b.runs {
		m, err := measureFilter(ctx, b.issued)
		if err != nil {
			return err
		}
		size.add(float64(b.issued)/m.size, float64(b.issued)/m.entropy)
		lookup.add(1/m.lookup.Seconds(), 1e6)
		t.note("offline filter of %d certificates: %.0f bytes, %.3f of the entropy; made in %s with %d MiB of memory; a look-up %s; a delta of 1 in 10,000 %.0f bytes in %s",
			b.issued, m.size, m.size/m.entropy, m.made.Round(time.Millisecond), m.memory>>20, m.lookup, m.delta, m.deltaMade.Round(time.Millisecond))
	}
	t.rows = append(t.rows, size, lookup)
	return nil
}

type filterMeasured struct {
	size, entropy, delta    float64 // bytes
	made, deltaMade, lookup time.Duration
	memory                  int64
}

func measureFilter(ctx context.Context, n int) (m filterMeasured, err error) {
	issuer, key, err := filterIssuer()
	if err != nil {
		return m, err
	}
	now := time.Now()
	plan := offline.Plan{Number: 1, ThisUpdate: now, NextUpdate: now.Add(time.Hour), CoversUntil: now}
	u := &population{n: n, every: 100}
	debug.FreeOSMemory()
	forgetPeak()
	before := status("VmRSS")
	began := time.Now()
	file, err := offline.Build(ctx, issuer, key, plan, u.tell)
	if err != nil {
		return m, err
	}
	m.made, m.memory, m.size = time.Since(began), peak()-before, float64(len(file))
	f, err := offline.Open(file, issuer)
	if err != nil {
		return m, err
	}
	p := float64(f.Header().NotGood) / float64(n)
	m.entropy = -float64(n) * (p*math.Log2(p) + (1-p)*math.Log2(1-p)) / 8
	if m.lookup, err = u.ask(f); err != nil {
		return m, err
	}
	plan.Number, plan.Base = 2, f
	later := &population{n: n, every: 100, since: 10_000}
	began = time.Now()
	delta, err := offline.Build(ctx, issuer, key, plan, later.tell)
	m.deltaMade, m.delta = time.Since(began), float64(len(delta))
	return m, err
}

func filterIssuer() (*x509.Certificate, *ecdsa.PrivateKey, error) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return nil, nil, err
	}
	t := &x509.Certificate{SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "Device CA"}, NotAfter: time.Now().Add(time.Hour), IsCA: true, BasicConstraintsValid: true}
	der, err := x509.CreateCertificate(rand.Reader, t, t, key.Public(), key)
	if err != nil {
		return nil, nil, err
	}
	cert, err := x509.ParseCertificate(der)
	return cert, key, err
}

// population is n certificates. One of so many is not good, by chance; since
// then one of so many more.
type population struct {
	n            int
	every, since uint64
}

// certificate writes the serial number of a certificate and tells its standing.
func (p *population) certificate(i int, serial *[17]byte) (good bool) {
	x := uint64(i+1) * 0x9e3779b97f4a7c15
	x = (x ^ x>>30) * 0xbf58476d1ce4e5b9
	x ^= x >> 27
	serial[0] = 1
	binary.BigEndian.PutUint64(serial[1:], x)
	binary.BigEndian.PutUint64(serial[9:], x*0x94d049bb133111eb)
	return x%p.every != 0 && (p.since == 0 || x%p.since != 1)
}

func (p *population) tell(ctx context.Context, each func([]byte, bool) error) error {
	var serial [17]byte
	for i := range p.n {
		if i%(1<<20) == 0 {
			if err := ctx.Err(); err != nil {
				return err
			}
		}
		good := p.certificate(i, &serial)
		if err := each(serial[:], good); err != nil {
			return err
		}
	}
	return nil
}

// ask asks about all certificates, and fails on a wrong answer.
func (p *population) ask(f *offline.Filter) (each time.Duration, err error) {
	var serial [17]byte
	wrong := 0
	began := time.Now()
	for i := range p.n {
		if good := p.certificate(i, &serial); f.NotGood(serial[:]) == good {
			wrong++
		}
	}
	took := time.Since(began)
	if wrong > 0 {
		return 0, fmt.Errorf("the offline filter is wrong about %d of %d certificates", wrong, p.n)
	}
	return took / time.Duration(p.n), nil
}
