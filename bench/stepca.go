package main

import (
	"bytes"
	"context"
	"net"
	"net/http"
	"slices"
	"sync"

	"github.com/go-chi/chi/v5"
	"github.com/smallstep/certificates/acme"
	acmeapi "github.com/smallstep/certificates/acme/api"
	acmenosql "github.com/smallstep/certificates/acme/db/nosql"
	"github.com/smallstep/certificates/authority"
	"github.com/smallstep/certificates/authority/config"
	"github.com/smallstep/certificates/authority/provisioner"
	"github.com/smallstep/nosql/database"
)

// stepCA is smallstep's ACME server with its store in memory, signing with the
// device CA's key behind the same TLS. It takes attestations of format step
// below a root in PEM.
func (w *world) stepCA(root string) (directory string, stop func(), err error) {
	p := &provisioner.ACME{Type: "ACME", Name: "bench", Challenges: []provisioner.ACMEChallenge{provisioner.DEVICE_ATTEST_01},
		AttestationFormats: []provisioner.ACMEAttestationFormat{provisioner.STEP},
		AttestationRoots:   []byte(root)}
	a, err := authority.NewEmbedded(
		authority.WithConfig(&config.Config{Address: "127.0.0.1:0", DNSNames: []string{"127.0.0.1"}, AuthorityConfig: &config.AuthConfig{Provisioners: provisioner.List{p}}}),
		authority.WithX509RootCerts(w.root), authority.WithX509Signer(w.authorities.Device.Certificate, w.authorities.Device.Signer), authority.WithQuietInit())
	if err != nil {
		return "", nil, err
	}
	db, err := acmenosql.New(&tables{rows: map[string][]byte{}})
	if err != nil {
		return "", nil, err
	}
	ctx := acme.NewContext(authority.NewContext(context.Background(), a), db, acme.NewClient(), acme.NewLinker("127.0.0.1", "acme"), nil)
	mux := chi.NewRouter()
	mux.Route("/acme", func(r chi.Router) { acmeapi.Route(r) })
	address, stop, err := w.serveBare(&http.Server{Handler: mux, BaseContext: func(net.Listener) context.Context { return ctx }})
	return "https://" + address + "/acme/bench/directory", stop, err
}

// tables is smallstep's key-value store in memory.
type tables struct {
	database.DB
	mu   sync.Mutex
	rows map[string][]byte
}

func cell(bucket, key []byte) string { return string(bucket) + "\x00" + string(key) }

func (t *tables) CreateTable([]byte) error { return nil }

func (t *tables) Get(bucket, key []byte) ([]byte, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.get(bucket, key)
}

func (t *tables) get(bucket, key []byte) ([]byte, error) {
	v, ok := t.rows[cell(bucket, key)]
	if !ok {
		return nil, database.ErrNotFound
	}
	return slices.Clone(v), nil
}

func (t *tables) Set(bucket, key, value []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.rows[cell(bucket, key)] = slices.Clone(value)
	return nil
}

func (t *tables) Del(bucket, key []byte) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	delete(t.rows, cell(bucket, key))
	return nil
}

func (t *tables) CmpAndSwap(bucket, key, was, value []byte) ([]byte, bool, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	have, ok := t.rows[cell(bucket, key)]
	if ok != (was != nil) || !bytes.Equal(have, was) {
		return slices.Clone(have), false, nil
	}
	t.rows[cell(bucket, key)] = slices.Clone(value)
	return value, true, nil
}

// Update is what the nonces want: find one, and delete it.
func (t *tables) Update(tx *database.Tx) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	for _, o := range tx.Operations {
		switch o.Cmd {
		case database.Get:
			v, err := t.get(o.Bucket, o.Key)
			if err != nil {
				return err
			}
			o.Result = v
		case database.Delete:
			delete(t.rows, cell(o.Bucket, o.Key))
		default:
			return database.ErrOpNotSupported
		}
	}
	return nil
}
