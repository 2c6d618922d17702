// Package storetest is the conformance suite that every store passes, and
// the small world that it and other tests build in a store.
package storetest

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"errors"
	"fmt"
	"io/fs"
	"net/url"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/manifest"
)

// Databases returns a fresh, empty database of each kind by name, as DSNs.
// PostgreSQL is the server that TOUCHMARK_TEST_POSTGRES names; without it,
// and without TOUCHMARK_TEST_REQUIRE, only SQLite is tested.
func Databases(t testing.TB) map[string]string {
	t.Helper()
	dbs := map[string]string{}
	for _, kind := range Kinds(t) {
		dbs[kind] = Database(t, kind)
	}
	return dbs
}

// Kinds names the kinds of database that Databases makes.
func Kinds(t testing.TB) []string {
	t.Helper()
	switch {
	case os.Getenv("TOUCHMARK_TEST_POSTGRES") != "":
		return []string{"sqlite", "postgres"}
	case os.Getenv("TOUCHMARK_TEST_REQUIRE") != "":
		t.Fatal("TOUCHMARK_TEST_POSTGRES is not set: run the tests with `make test`, which starts a PostgreSQL for them")
	}
	return []string{"sqlite"}
}

// Database returns a fresh, empty database of one kind, as a DSN.
func Database(t testing.TB, kind string) string {
	t.Helper()
	if kind == "postgres" {
		return createDatabase(t, os.Getenv("TOUCHMARK_TEST_POSTGRES"))
	}
	return "sqlite:" + t.TempDir() + "/touchmark.db"
}

// Postgres returns a fresh, empty database of PostgreSQL. Where there is none
// the test is skipped, or fails if TOUCHMARK_TEST_REQUIRE wants all of them.
func Postgres(t testing.TB) string {
	t.Helper()
	if !slices.Contains(Kinds(t), "postgres") {
		t.Skip("this test needs PostgreSQL: run it with deploy/postgres-test.sh or `make test`")
	}
	return Database(t, "postgres")
}

// Empty makes a database that Database returned as empty as it was then.
func Empty(t testing.TB, dsn string) {
	t.Helper()
	if path, ok := strings.CutPrefix(dsn, "sqlite:"); ok {
		for _, end := range []string{"", "-wal", "-shm"} {
			if err := os.Remove(path + end); err != nil && !errors.Is(err, fs.ErrNotExist) {
				t.Fatal(err)
			}
		}
		return
	}
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, dsn)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx)
	if _, err := conn.Exec(ctx, "DROP SCHEMA public CASCADE; CREATE SCHEMA public"); err != nil {
		t.Fatal(err)
	}
}

func createDatabase(t testing.TB, admin string) string {
	ctx := context.Background()
	conn, err := pgx.Connect(ctx, admin)
	if err != nil {
		t.Fatalf("connect to the test PostgreSQL: %v", err)
	}
	defer conn.Close(ctx)
	name := fmt.Sprintf("tm_%x", random(8))
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+name); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		conn, err := pgx.Connect(ctx, admin)
		if err != nil {
			t.Errorf("drop the test database: %v", err)
			return
		}
		defer conn.Close(ctx)
		if _, err := conn.Exec(ctx, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("drop the test database: %v", err)
		}
	})
	u, err := url.Parse(admin)
	if err != nil || u.Host == "" {
		t.Fatalf("TOUCHMARK_TEST_POSTGRES is not a URL postgres://USER@HOST:PORT/DATABASE: %v", err)
	}
	u.Path = "/" + name
	return u.String()
}

func random(n int) []byte {
	b := make([]byte, n)
	rand.Read(b)
	return b
}

// Open opens a store and closes it when the test ends.
func Open(t testing.TB, dsn string) *store.Store {
	t.Helper()
	return OpenWith(t, store.Options{DSN: dsn})
}

// OpenWith is Open with other options.
func OpenWith(t testing.TB, o store.Options) *store.Store {
	t.Helper()
	s, err := store.Open(context.Background(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { s.Close() })
	return s
}

// Verify checks a store's log, and every object against it.
func Verify(t testing.TB, s *store.Store) {
	t.Helper()
	ctx := context.Background()
	err := s.Snapshot(ctx, func(src audit.Source) error {
		report, err := audit.Verify(ctx, src, audit.Options{})
		if err == nil && !report.OK() {
			t.Errorf("audit verify: %+v", report.Findings)
		}
		return err
	})
	if err != nil {
		t.Fatal(err)
	}
	verifyEvents(t, s)
}

// World is a product, a site and an open order in a store.
type World struct {
	Store   *store.Store
	Product *vetting.Product
	Site    *vetting.Site
	Order   *vetting.Order
}

// By is the operator who builds worlds.
var By = access.Act{Operator: "test"}

// NewWorld makes product "thermo", site "hsinchu" and the open order "po-1".
func NewWorld(t testing.TB, s *store.Store, quantity int64) *World {
	t.Helper()
	ctx := context.Background()
	w := &World{Store: s}
	var err error
	if w.Product, err = s.CreateProduct(ctx, By, &vetting.Product{Name: "thermo", Profile: vetting.Profile{Validity: "825d"},
		Proofs: []vetting.Proof{vetting.ProofBootstrapKey, vetting.ProofRig}}); err != nil {
		t.Fatal(err)
	}
	if w.Site, err = s.CreateSite(ctx, By, &vetting.Site{Name: "hsinchu"}); err != nil {
		t.Fatal(err)
	}
	w.Order, err = s.CreateOrder(ctx, By, &vetting.Order{Name: "po-1", Product: "thermo", Site: "hsinchu", Quantity: quantity, State: vetting.OrderOpen, ManifestSignatures: 1})
	if err != nil {
		t.Fatal(err)
	}
	return w
}

// Load hands records in for the world's order, and returns the manifest.
func (w *World) Load(t testing.TB, records ...vetting.Record) *vetting.Manifest {
	t.Helper()
	m, err := w.TryLoad(records...)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// TryLoad is Load for tests that expect failures.
func (w *World) TryLoad(records ...vetting.Record) (*vetting.Manifest, error) {
	ctx := context.Background()
	m := &vetting.Manifest{OrderID: w.Order.ID, Format: vetting.FormatJSONLines, Records: int64(len(records)), Wanted: 1,
		SHA256: fmt.Sprintf("%x", sha256.Sum256(random(8)))}
	id, err := w.Store.BeginManifest(ctx, m)
	if err != nil {
		return nil, err
	}
	m.ID = id
	if m, err = w.Store.AcceptManifest(ctx, By, m, []manifest.Signature{{Operator: "lin", DER: []byte{1}, At: time.Now()}}); err != nil {
		return nil, err
	}
	for from := 0; from < len(records); from += 500 {
		if m, err = w.Store.LoadRecords(ctx, id, int64(from), records[from:min(from+500, len(records))]); err != nil {
			return nil, err
		}
	}
	return m, nil
}

// Unit is a record and the key of the device that it describes.
func Unit(n int) vetting.Record {
	return vetting.Record{
		Row:          int64(n + 1),
		Identity:     vetting.Identity{Serial: fmt.Sprintf("SN-%06d", n), MAC: fmt.Sprintf("02:00:00:%02x:%02x:%02x", n>>16&0xff, n>>8&0xff, n&0xff)},
		BootstrapKey: Key("bootstrap", n),
	}
}

// Key is a made-up key fingerprint.
func Key(of string, n int) vetting.Fingerprint {
	return vetting.KeyFingerprint(fmt.Appendf(nil, "%s %d", of, n))
}

// Claim is a first enrolment by bootstrap key.
func Claim(bootstrap, key vetting.Fingerprint) vetting.Claim {
	return vetting.Claim{At: time.Now(), Key: key, Auth: vetting.Auth{Proof: vetting.ProofBootstrapKey, Key: bootstrap}, Transport: "est", Remote: "192.0.2.1"}
}

// Renewal is a renewal with an official certificate.
func Renewal(serial string, key vetting.Fingerprint) vetting.Claim {
	return vetting.Claim{At: time.Now(), Key: key, Auth: vetting.Auth{Proof: vetting.ProofOfficial, Certificate: serial}, Transport: "est", Remote: "192.0.2.1"}
}

// Enrol runs a claim through facts, judgement and commit until it is not
// stale, with a certificate of random bytes. It returns the certificate.
func Enrol(ctx context.Context, s enroll.Ledger, c vetting.Claim) (vetting.Verdict, []byte, error) {
	for {
		f, err := s.Facts(ctx, c)
		if err != nil {
			return vetting.Verdict{}, nil, err
		}
		if f.Record != nil {
			if f.Counters, err = s.Count(ctx, &f, vetting.Looks{Pace: true, Now: true, Attempts: true}); err != nil {
				return vetting.Verdict{}, nil, err
			}
		}
		v := vetting.Judge(f)
		commit := enroll.Commit{Facts: f, Verdict: v}
		if a, ok := v.Admission(); ok {
			if a.Repeat() != nil {
				return v, a.Repeat().DER, nil
			}
			commit.Issued = certificate()
		}
		_, err = s.Commit(ctx, commit)
		if err == enroll.ErrStale {
			continue
		}
		if err != nil || commit.Issued == nil {
			return v, nil, err
		}
		return v, commit.Issued.DER, nil
	}
}

// certificate is one of random bytes, for a year.
func certificate() *enroll.Issued {
	return &enroll.Issued{Serial: random(17), DER: random(600), NotAfter: time.Now().AddDate(1, 0, 0)}
}
