package main

import (
	"context"
	"crypto/x509"
	"database/sql"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"
	"github.com/touchmark/touchmark/device"
)

// verifications measures what support portals get that ask by serial number.
func (b *bench) verifications(ctx context.Context, db string, t *table) error {
	r := row{name: "verify by serial number, kept connections, " + db, limit: "net/http, one primary-key read in the same database", wanted: 0.50}
	for range b.runs {
		figure, base, err := b.measureVerify(ctx, db, t)
		if err != nil {
			return err
		}
		r.add(figure, base)
	}
	t.rows = append(t.rows, r)
	return nil
}

// measureVerify lets devices in, and asks about each several times, in turns
// with the bare server.
func (b *bench) measureVerify(ctx context.Context, db string, t *table) (figure, base float64, err error) {
	dir, err := os.MkdirTemp("", "touchmark-bench")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(dir)
	w, drop, err := b.world(ctx, db, filepath.Join(dir, "touchmark"), b.units)
	if err != nil {
		return 0, 0, err
	}
	defer drop()
	devices, err := w.alone(ctx, 0, b.units)
	if err != nil {
		return 0, 0, err
	}
	if _, err := drive(ctx, w.est+"/.well-known/est/simpleenroll", devices, min(b.clients, 16)); err != nil {
		return 0, 0, fmt.Errorf("let devices in: %w", err)
	}
	asks, ids, err := w.questions(ctx, b.units)
	if err != nil {
		return 0, 0, err
	}
	bare, stop, err := w.bareReader(ctx)
	if err != nil {
		return 0, 0, err
	}
	defer stop()
	var took [2]float64             // seconds
	var processors [2]time.Duration // with the clients'
	const turns = 6
	for turn := range turns {
		phase, url, clients := "verify", w.api+"/api/v1/verify", asks
		if turn%2 == 1 {
			phase, url, clients = "bare reads", bare, ids
		}
		began := processor()
		l, err := b.watched(phase, func() (*load, error) { return driveKept(ctx, url, clients, b.clients) })
		if err != nil {
			return 0, 0, fmt.Errorf("%s: %w", url, err)
		}
		took[turn%2] += float64(len(clients)) / l.rate
		processors[turn%2] += processor() - began
	}
	each := func(d time.Duration) time.Duration {
		return (d / time.Duration(len(asks)*turns/2)).Round(time.Microsecond)
	}
	t.note("verify, %s: %s of a processor each, the client's part included; bare %s", db, each(processors[0]), each(processors[1]))
	n := float64(len(asks) * turns / 2)
	return n / took[0], n / took[1], nil
}

// questionsEach is how often one turn asks about a device.
const questionsEach = 5

// questions are verifications of the world's devices by a support agent, and
// the bare server's requests for the same rows.
func (w *world) questions(ctx context.Context, n int) (asks, ids []client, err error) {
	agent, err := w.admin.Hire(ctx, "agent", "support", "")
	if err != nil {
		return nil, nil, err
	}
	var list struct {
		Items []struct {
			ID     int64
			Serial string
			State  string
		}
		Next string
	}
	config := w.tls(&device.Credential{Key: agent.Key, Chain: []*x509.Certificate{agent.Cert}})
	for path := "/devices?limit=1000&state=issued"; len(asks) < n; path = "/devices?limit=1000&state=issued&cursor=" + list.Next {
		list.Next = ""
		if err := w.admin.Do(ctx, http.MethodGet, path, nil, &list); err != nil {
			return nil, nil, err
		}
		for _, d := range list.Items {
			body, err := json.Marshal(map[string]string{"serial": d.Serial})
			if err != nil {
				return nil, nil, err
			}
			asks = append(asks, client{config, body})
			ids = append(ids, client{config, []byte(strconv.FormatInt(d.ID, 10))})
		}
		if list.Next == "" {
			break
		}
	}
	if len(asks) != n {
		return nil, nil, fmt.Errorf("%d devices were let in, of %d", len(asks), n)
	}
	for range questionsEach - 1 {
		asks, ids = append(asks, asks[:n]...), append(ids, ids[:n]...)
	}
	return asks, ids, nil
}

// bareReader answers each request with the device of that number, read by
// its primary key, behind the same TLS and the same demand for a client
// certificate.
func (w *world) bareReader(ctx context.Context) (url string, stop func(), err error) {
	read, closeDatabase, err := w.readDevice(ctx)
	if err != nil {
		return "", nil, err
	}
	address, stop, err := w.serveBare(&http.Server{Handler: http.HandlerFunc(func(rw http.ResponseWriter, r *http.Request) {
		body, err := io.ReadAll(r.Body)
		if err != nil || len(r.TLS.PeerCertificates) == 0 {
			http.Error(rw, "who asks?", http.StatusUnauthorized)
			return
		}
		id, _ := strconv.ParseInt(string(body), 10, 64)
		var found struct {
			ID     int64  `json:"id"`
			State  string `json:"state"`
			Issued int64  `json:"issued"`
		}
		if err := read(r.Context(), id, &found.ID, &found.State, &found.Issued); err != nil {
			http.Error(rw, err.Error(), http.StatusInternalServerError)
			return
		}
		rw.Header().Set("Content-Type", "application/json")
		_ = json.NewEncoder(rw).Encode(found)
	})})
	if err != nil {
		closeDatabase()
		return "", nil, err
	}
	return "https://" + address + "/", func() { stop(); closeDatabase() }, nil
}

const deviceByKey = `SELECT id, state, issued FROM devices WHERE id = `

// readDevice opens the world's database once more, to read one row at a time
// with a prepared statement.
func (w *world) readDevice(ctx context.Context) (read func(ctx context.Context, id int64, dest ...any) error, done func(), err error) {
	path, ok := strings.CutPrefix(w.dsn, "sqlite:")
	if !ok {
		pool, err := pgxpool.New(ctx, w.dsn)
		if err != nil {
			return nil, nil, err
		}
		return func(ctx context.Context, id int64, dest ...any) error {
			return pool.QueryRow(ctx, deviceByKey+"$1", id).Scan(dest...)
		}, pool.Close, nil
	}
	db, err := sql.Open("sqlite", "file:"+path+"?_pragma=busy_timeout(10000)&_pragma=cache_size(-16384)&_pragma=query_only(ON)")
	if err != nil {
		return nil, nil, err
	}
	db.SetMaxOpenConns(8)
	db.SetMaxIdleConns(8)
	statement, err := db.PrepareContext(ctx, deviceByKey+"?")
	if err != nil {
		return nil, nil, err
	}
	return func(_ context.Context, id int64, dest ...any) error {
		// Without a context that can end, as internal/store does it.
		return statement.QueryRow(id).Scan(dest...)
	}, func() { _ = db.Close() }, nil
}
