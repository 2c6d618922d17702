package server

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/vetting"
)

// Finding is what Check found about one part of a server.
type Finding struct {
	Part string
	// Err is why the server would not start, or nil.
	Err error
	// Note is for people: what was found, or what deserves a look.
	Note string
}

// Check tries everything that New does without changing anything: it opens
// keys and certificates, and reads the database. It opens no door.
func Check(ctx context.Context, c *Config, env Environment) []Finding {
	env = env.complete()
	var found []Finding
	add := func(part string, err error, note string, args ...any) {
		found = append(found, Finding{Part: part, Err: err, Note: fmt.Sprintf(note, args...)})
	}
	add("configuration", c.Check(), "names %s", strings.Join(c.Names, ", "))
	if c.statusOnly() {
		add("node of role "+RoleOCSP, tryNode(ctx, c, env), "no key of a CA is needed")
		return found
	}
	a, err := ca.Open(ctx, c.Places(), env.Now())
	if err != nil {
		add("keys and CAs", err, "")
		return found
	}
	add("keys and CAs", nil, "root %s", a.Name())
	add("root key", nil, "%s", rootKeyNote(c))
	signer, err := audit.NewSigner(c.Audit.Origin, a.Log)
	add("audit log", err, "%s", c.Audit.Origin)
	if err == nil {
		note, err := checkDatabase(ctx, c, a, signer, env)
		add("database", err, "%s", note)
	}
	longest, err := LongestValidity(ctx, c)
	if err != nil {
		add("profiles", err, "")
	}
	for _, c := range a.List() {
		for _, text := range c.Warnings(env.Now(), longest) {
			add(c.Name, nil, "%s", text)
		}
	}
	for name, err := range a.Unable(env.Now()) {
		add("issuing CA "+name, nil, "cannot sign: %v", err)
	}
	return found
}

func rootKeyNote(c *Config) string {
	path := c.Dir + "/keys/" + ca.RootName + ".key"
	if _, err := os.Stat(path); err == nil {
		return path + " is not needed by a running server: move it to a medium in a safe"
	}
	return "not on this machine"
}

// Authorities opens the CAs of a server's files, and those of its database if
// there is one, without changing anything.
func Authorities(ctx context.Context, c *Config, env Environment) (a *ca.Authorities, err error) {
	if a, err = ca.Open(ctx, c.Places(), env.complete().Now()); err != nil {
		return nil, err
	}
	db, err := store.OpenReader(ctx, c.DSN())
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return a, nil
	case err != nil:
		return nil, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	list, err := db.IssuingCAs(ctx)
	if err != nil {
		return nil, err
	}
	return a, a.Learn(ctx, list)
}

// LongestValidity is how long the certificates are valid that last longest, by
// the profiles of products and owners that have an end.
func LongestValidity(ctx context.Context, c *Config) (longest time.Duration, err error) {
	db, err := store.OpenReader(ctx, c.DSN())
	var older *store.OlderSchemaError
	switch {
	case errors.Is(err, fs.ErrNotExist) || errors.As(err, &older):
		return 0, nil
	case err != nil:
		return 0, err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	add := func(p *vetting.Profile) {
		if v, err := ca.ParseValidity(p.Validity); err == nil {
			longest = max(longest, v)
		}
	}
	products, err := pages(ctx, db.ReadOnly().Products, func(p *vetting.Product) int64 { return p.ID })
	for _, p := range products {
		add(&p.Profile)
	}
	if err != nil {
		return 0, err
	}
	owners, err := pages(ctx, db.ReadOnly().Owners, func(o *vetting.Owner) int64 { return o.ID })
	for _, o := range owners {
		if o.Profile != nil {
			add(o.Profile)
		}
	}
	return longest, err
}

// pages reads a list to its end.
func pages[T any](ctx context.Context, list func(context.Context, vetting.Page) ([]*T, error), id func(*T) int64) (all []*T, err error) {
	for p := (vetting.Page{Limit: 1000}); ; {
		part, err := list(ctx, p)
		if all = append(all, part...); err != nil || len(part) < p.Limit {
			return all, err
		}
		p.After = id(part[len(part)-1])
	}
}

// FinishRollover drops the root that is not in force, once the database goes
// with the other one, as it does after a start.
func FinishRollover(ctx context.Context, c *Config, a *ca.Authorities) (err error) {
	db, err := store.OpenReader(ctx, c.DSN())
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	name, err := db.Authority(ctx)
	switch {
	case err != nil:
		return err
	case name != a.Name():
		return fmt.Errorf("the database goes with the root that would be dropped, %s: start every server with the root in force first", name)
	}
	return a.FinishRollover()
}

func checkDatabase(ctx context.Context, c *Config, a *ca.Authorities, signer *audit.Signer, env Environment) (note string, err error) {
	db, err := store.OpenReader(ctx, c.DSN())
	var older *store.OlderSchemaError
	switch {
	case errors.As(err, &older):
		return older.Error(), nil
	case errors.Is(err, fs.ErrNotExist):
		return "there is none yet: it is made at the first start", nil
	case err != nil:
		return "", err
	}
	defer func() { err = errors.Join(err, db.Close()) }()
	if err := db.Unfinished(ctx); err != nil {
		return "", err
	}
	name, err := db.Authority(ctx)
	if err != nil {
		return "", err
	}
	if name != "" && name != a.Name() && !slices.Contains(a.Kin(), name) {
		return "", fmt.Errorf("the database belongs to another CA: its root certificate has the SHA-256 %s, that of this directory has %s", name, a.Name())
	}
	list, err := db.IssuingCAs(ctx)
	if err == nil {
		err = a.Learn(ctx, list)
	}
	if err == nil {
		err = a.Ready(env.Now())
	}
	if err != nil {
		return "", err
	}
	// A publisher that only starts writes nothing.
	p := &audit.Publisher{Store: readOnly{db}, Signer: signer, Path: c.checkpointFile(), Log: env.Log}
	if err := p.CheckStart(ctx); err != nil {
		return "", err
	}
	head, err := db.Head(ctx)
	if err != nil {
		return "", err
	}
	return fmt.Sprintf("log of %d leaves, in agreement with its checkpoint", head.Size()), nil
}

// readOnly lets a Publisher check a log, and nothing more.
type readOnly struct{ *store.Reader }

func (readOnly) SaveCheckpoint(context.Context, int64, []byte) error {
	return errors.New("this log is opened to be read only")
}
