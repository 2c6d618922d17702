package server

import (
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"regexp"
	"strings"
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/touchmark/touchmark/firmware-sign/tuf"
	"github.com/touchmark/touchmark/firmware-sign/tuf/repository"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/keys"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func defaultTUF() TUF {
	const day = Duration(24 * time.Hour)
	return TUF{TargetsValidity: 90 * day, SnapshotValidity: 7 * day, TimestampValidity: day}
}

func (t TUF) check(bad func(string, ...any)) {
	for name, d := range map[string]Duration{"targets": t.TargetsValidity, "snapshot": t.SnapshotValidity, "timestamp": t.TimestampValidity} {
		atLeast("tuf."+name+"_validity", d, time.Minute, bad)
	}
}

// tufKeys is the name under keys: in the configuration of where keys of the
// TUF repository are made.
const tufKeys = "tuf"

// tufKeyName is the form of such a key's name.
var tufKeyName = regexp.MustCompile(`^tuf-(targets|snapshot|timestamp)-[1-9][0-9]{0,3}$`)

// tufEvery is how often it is looked whether metadata is due.
const tufEvery = time.Second

// tufRepository makes the metadata of the TUF repository, and the keys that
// sign it.
type tufRepository struct {
	*repository.Maker
	store *store.Store
	ring  keys.Ring
	uris  map[string]string
}

func (s *Server) newTUF() *tufRepository {
	c := s.config.TUF
	failures := prometheus.NewCounter(prometheus.CounterOpts{Name: "touchmark_tuf_failures_total", Help: "Attempts to make metadata of the TUF repository that failed."})
	t := &tufRepository{store: s.store, ring: keys.Ring{Dir: s.config.Dir}, uris: s.config.Keys}
	t.Maker = &repository.Maker{
		Store: s.store, Directory: &repository.Directory{Store: s.store, Now: s.env.Now},
		Validity: repository.Validity{Targets: time.Duration(c.TargetsValidity), Snapshot: time.Duration(c.SnapshotValidity), Timestamp: time.Duration(c.TimestampValidity)},
		Open: func(ctx context.Context, k *repository.Key) (crypto.Signer, error) {
			return t.ring.Open(ctx, t.uri(k.Name))
		},
		Failed: failures.Inc, Log: s.env.Log, Now: s.env.Now,
	}
	s.metrics.registry.MustRegister(tufCollector{t}, failures)
	return t
}

// uri is where a key is: where the configuration says of this one, or of all
// of them. The {id}, which PKCS#11 wants, follows from the name.
func (t *tufRepository) uri(name string) string {
	if uri := t.uris[name]; uri != "" {
		return uri
	}
	place := t.uris[tufKeys]
	if place == "" {
		place = "file:keys/{name}.key"
	}
	sum := sha256.Sum256([]byte("TUF key " + name))
	return strings.NewReplacer("{name}", name, "{id}", hex.EncodeToString(sum[:8])).Replace(place)
}

// CreateTUFKey implements api.TUF. A key that an attempt left in the key store
// which broke off is taken up again.
func (t *tufRepository) CreateTUFKey(ctx context.Context, act access.Act, role repository.Role, number int, kind string) (*repository.Key, error) {
	have, err := t.store.TUFKeys(ctx)
	if err != nil {
		return nil, err
	}
	k := &repository.Key{Role: role, Number: number}
	for _, h := range have {
		if h.Role == role && h.Number >= number { // the same request again; otherwise it is refused
			return t.store.CreateTUFKey(ctx, act, k)
		}
	}
	signer, err := t.make(ctx, repository.KeyName(role, number), keys.Kind(kind))
	if err != nil {
		return nil, &repository.KeyError{Role: role, Err: err}
	}
	if _, err := tuf.KeyID(signer.Public()); err != nil {
		return nil, vetting.Errorf(vetting.Conflict, "the key store has a key %s already, and %v", repository.KeyName(role, number), err)
	}
	if k.PublicKey, err = x509.MarshalPKIXPublicKey(signer.Public()); err != nil {
		return nil, err
	}
	return t.store.CreateTUFKey(ctx, act, k)
}

func (t *tufRepository) make(ctx context.Context, name string, kind keys.Kind) (crypto.Signer, error) {
	uri := t.uri(name)
	if signer, err := t.ring.Open(ctx, uri); err == nil {
		return signer, nil
	}
	signer, err := t.ring.Create(ctx, uri, kind)
	if errors.Is(err, fs.ErrExist) { // it is there, and cannot be opened
		return nil, fmt.Errorf("make the key %s: %w", name, err)
	}
	return signer, err
}

// TUFRepository implements api.TUF.
func (t *tufRepository) TUFRepository(ctx context.Context) (*api.TUFRepository, error) {
	list, err := t.store.TUFKeys(ctx)
	if err != nil {
		return nil, err
	}
	st, err := t.Directory.Refresh(ctx)
	if err != nil {
		return nil, err
	}
	out := &api.TUFRepository{Keys: []*api.TUFKey{}, Files: []api.TUFFile{}}
	for _, k := range list {
		out.Keys = append(out.Keys, (*api.TUFKey)(k))
	}
	if n := len(st.Roots); n > 0 {
		root := st.Roots[n-1]
		out.Root = &api.TUFRoot{Version: root.Version, Expires: root.Expires, Content: root.JSON}
	}
	for _, role := range repository.Online {
		if f := st.Files[role]; f != nil {
			out.Files = append(out.Files, api.TUFFile{Role: role, Version: f.Version, Expires: f.Expires})
		}
	}
	if _, err := t.Failure(); err != nil {
		out.Problem = keys.Redact(err.Error())
	}
	return out, nil
}

// ImportTUFRoot implements api.TUF.
func (t *tufRepository) ImportTUFRoot(ctx context.Context, by string, root []byte) error {
	err := t.Import(ctx, by, root)
	var no *repository.RefusedError
	if errors.As(err, &no) {
		return vetting.Errorf(vetting.Invalid, "%s", no.Reason)
	}
	return err
}

// handler serves the metadata to everybody.
func (t *tufRepository) handler() http.Handler {
	return &repository.Handler{Directory: t.Directory, Log: t.Log}
}

// check reports metadata that cannot be made, or was not made in time.
func (t *tufRepository) check(ctx context.Context) error {
	if err := t.Check(ctx); err != nil {
		return errors.New(keys.Redact(err.Error()))
	}
	return nil
}

// root is the end of the newest root; ok is false where there is none.
func (t *tufRepository) root() (version int, ends time.Time, ok bool) {
	st := t.Directory.Newest()
	if st == nil || len(st.Roots) == 0 {
		return 0, time.Time{}, false
	}
	root := st.Roots[len(st.Roots)-1]
	return root.Version, root.Expires, true
}

// rootExpiring reports a root that runs out soon: clients would take nothing
// below it.
func (t *tufRepository) rootExpiring(soon time.Duration) (text string) {
	version, ends, ok := t.root()
	if !ok || ends.Sub(t.Now()) > soon {
		return ""
	}
	return fmt.Sprintf("TUF root %d runs out at %s: have the next one signed, with `touchmark tuf root create`", version, ends.Format(time.RFC3339))
}

var (
	tufLeft    = prometheus.NewDesc("touchmark_tuf_expiry_seconds", "Seconds until the newest metadata of a role of the TUF repository runs out; negative afterwards.", []string{"role"}, nil)
	tufVersion = prometheus.NewDesc("touchmark_tuf_version", "The version of that metadata.", []string{"role"}, nil)
)

// tufCollector tells of the metadata that this server serves.
type tufCollector struct{ *tufRepository }

// Describe implements prometheus.Collector.
func (c tufCollector) Describe(ch chan<- *prometheus.Desc) {
	ch <- tufLeft
	ch <- tufVersion
}

// Collect implements prometheus.Collector.
func (c tufCollector) Collect(ch chan<- prometheus.Metric) {
	tell := func(role repository.Role, version int, ends time.Time) {
		ch <- prometheus.MustNewConstMetric(tufLeft, prometheus.GaugeValue, ends.Sub(c.Now()).Seconds(), string(role))
		ch <- prometheus.MustNewConstMetric(tufVersion, prometheus.GaugeValue, float64(version), string(role))
	}
	version, ends, ok := c.root()
	if !ok {
		return
	}
	tell(repository.Root, version, ends)
	for role, f := range c.Directory.Newest().Files {
		tell(role, f.Version, f.Expires)
	}
}
