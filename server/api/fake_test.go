package api_test

import (
	"cmp"
	"context"
	"slices"
	"sync"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/vetting"
)

// memory is the store in memory. It does acts with an idempotency key once,
// as the interface demands.
type memory struct {
	mu            sync.Mutex
	products      []*vetting.Product
	sites         []*vetting.Site
	orders        []*vetting.Order
	manifests     []*vetting.Manifest
	registrations []*vetting.Registration
	devices       []*vetting.Device
	histories     map[int64]*vetting.History
	certificates  []*vetting.Certificate
	past          []vetting.Past
	evidence      []*vetting.Evidence
	challenges    []*vetting.Challenge
	observed      []vetting.Observation
	operators     []*access.Operator
	job           vetting.Job
	codes         []*vetting.EnrolmentCode
	accountKeys   []*vetting.AccountKey
	licences      []*vetting.Licence
	hashes        []vetting.CodeHash // of all codes, in their order
	happened      []events.Event
	webhooks      []*events.Webhook
	issuers       []*vetting.IssuingCA
	acts          map[[2]string]done
	acted         []access.Act // every act, repetitions too
	pages         []vetting.Page
	fail          error // what every method answers, if set
	boom          bool  // whether every method panics
	id            int64
}

type done struct {
	request [32]byte
	result  any
}

func newMemory() *memory {
	return &memory{acts: map[[2]string]done{}, histories: map[int64]*vetting.History{}, id: 1000, job: vetting.Job{ID: 51, State: vetting.JobPlanned, Digest: "aa"}}
}

func (m *memory) next() int64 { m.id++; return m.id }

// act does something once.
func act[T any](m *memory, a access.Act, do func() (*T, error)) (*T, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.fail != nil {
		return nil, m.fail
	}
	m.acted = append(m.acted, a)
	key := [2]string{a.Operator, a.Key}
	if d, ok := m.acts[key]; ok && a.Key != "" {
		if d.request != a.Request {
			return nil, vetting.Errorf(vetting.Invalid, "the idempotency key %q was used for another request", a.Key)
		}
		return copied(d.result.(*T)), nil
	}
	v, err := do()
	if err != nil {
		return nil, err
	}
	m.acts[key] = done{a.Request, v}
	return copied(v), nil
}

// copied is what a reader gets, as of a database: it does not change with what
// others do afterwards.
func copied[T any](v *T) *T {
	if v == nil {
		return nil
	}
	c := *v
	return &c
}

func find[T any](m *memory, list []*T, is func(*T) bool) (*T, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.boom {
		panic("boom: secret thing")
	}
	if m.fail != nil {
		return nil, m.fail
	}
	if i := slices.IndexFunc(list, is); i >= 0 {
		return copied(list[i]), nil
	}
	return nil, vetting.Errorf(vetting.NotFound, "not found in the store")
}

// pick makes a page: in the order of IDs, or newest first.
func pick[T any](m *memory, list []*T, p vetting.Page, newest bool, id func(*T) int64, keep func(*T) bool) ([]*T, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.pages = append(m.pages, p)
	if m.fail != nil {
		return nil, m.fail
	}
	if p.Limit < 1 || p.Limit > 1000 {
		p.Limit = 100
	}
	list = slices.Clone(list)
	slices.SortFunc(list, func(a, b *T) int {
		if newest {
			return cmp.Compare(id(b), id(a))
		}
		return cmp.Compare(id(a), id(b))
	})
	var out []*T
	for _, v := range list {
		past := p.After == 0 || id(v) > p.After
		if newest {
			past = p.After == 0 || id(v) < p.After
		}
		if past && keep(v) && len(out) < p.Limit {
			out = append(out, copied(v))
		}
	}
	return out, nil
}

func fits[T comparable](want, have T) bool {
	var zero T
	return want == zero || want == have
}

func (m *memory) Products(_ context.Context, p vetting.Page) ([]*vetting.Product, error) {
	return pick(m, m.products, p, false, func(p *vetting.Product) int64 { return p.ID }, func(*vetting.Product) bool { return true })
}

func (m *memory) Product(_ context.Context, name string) (*vetting.Product, error) {
	return find(m, m.products, func(p *vetting.Product) bool { return p.Name == name })
}

func (m *memory) CreateProduct(_ context.Context, a access.Act, p *vetting.Product) (*vetting.Product, error) {
	return act(m, a, func() (*vetting.Product, error) {
		for _, o := range m.products {
			if o.Name == p.Name {
				return nil, vetting.Errorf(vetting.Exists, "there is a product %q already", p.Name)
			}
		}
		p.ID, p.Revision = m.next(), 1
		m.products = append(m.products, p)
		return p, nil
	})
}

func (m *memory) RuleVersions(_ context.Context, product string, p vetting.Page) ([]*vetting.RuleVersion, error) {
	of, err := m.Product(context.Background(), product)
	if err != nil {
		return nil, err
	}
	list := []*vetting.RuleVersion{{ID: 1, Version: 1, At: today, By: "operator:planner", Rules: of.Rules}}
	return pick(m, list, p, true, func(v *vetting.RuleVersion) int64 { return v.ID }, func(*vetting.RuleVersion) bool { return true })
}

func (m *memory) PastRegistrations(_ context.Context, product string, since time.Time, limit int, fn func(vetting.Past) error) error {
	if _, err := m.Product(context.Background(), product); err != nil {
		return err
	}
	for _, p := range m.past {
		if p.Registration.At.Before(since) {
			continue
		}
		if limit--; limit < 0 {
			return nil
		}
		if err := fn(p); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) UpdateProduct(_ context.Context, a access.Act, p *vetting.Product) (*vetting.Product, error) {
	return act(m, a, func() (*vetting.Product, error) {
		for i, o := range m.products {
			if o.Name == p.Name && o.Revision == p.Revision {
				next := *p
				next.Revision++
				m.products[i] = &next
				return &next, nil
			}
		}
		return nil, vetting.Errorf(vetting.Conflict, "product %q has another revision", p.Name)
	})
}

func (m *memory) Sites(_ context.Context, p vetting.Page) ([]*vetting.Site, error) {
	return pick(m, m.sites, p, false, func(s *vetting.Site) int64 { return s.ID }, func(*vetting.Site) bool { return true })
}

func (m *memory) Site(_ context.Context, name string) (*vetting.Site, error) {
	return find(m, m.sites, func(s *vetting.Site) bool { return s.Name == name })
}

func (m *memory) CreateSite(_ context.Context, a access.Act, s *vetting.Site) (*vetting.Site, error) {
	return act(m, a, func() (*vetting.Site, error) {
		s.ID = m.next()
		m.sites = append(m.sites, s)
		return s, nil
	})
}

func (m *memory) UpdateSite(_ context.Context, a access.Act, s *vetting.Site) (*vetting.Site, error) {
	return act(m, a, func() (*vetting.Site, error) {
		for i, o := range m.sites {
			if o.Name == s.Name {
				made := *s
				m.sites[i] = &made
				return &made, nil
			}
		}
		return nil, vetting.Errorf(vetting.NotFound, "there is no site %q", s.Name)
	})
}

func (m *memory) Orders(_ context.Context, f vetting.OrderFilter, p vetting.Page) ([]*vetting.Order, error) {
	return pick(m, m.orders, p, false, func(o *vetting.Order) int64 { return o.ID }, func(o *vetting.Order) bool {
		return fits(f.Site, o.Site) && fits(f.Product, o.Product) && fits(f.State, o.State)
	})
}

func (m *memory) Order(_ context.Context, name string) (*vetting.Order, error) {
	return find(m, m.orders, func(o *vetting.Order) bool { return o.Name == name })
}

func (m *memory) CreateOrder(_ context.Context, a access.Act, o *vetting.Order) (*vetting.Order, error) {
	return act(m, a, func() (*vetting.Order, error) {
		o.ID = m.next()
		m.orders = append(m.orders, o)
		return o, nil
	})
}

func (m *memory) ChangeOrder(_ context.Context, a access.Act, name string, c vetting.OrderChange) (*vetting.Order, error) {
	return act(m, a, func() (*vetting.Order, error) {
		for _, o := range m.orders {
			if o.Name != name {
				continue
			}
			next := *o
			if c.State != nil {
				next.State = *c.State
			}
			if c.Quantity != nil {
				next.Quantity = *c.Quantity
			}
			if c.NotBefore != nil {
				next.NotBefore = *c.NotBefore
			}
			if c.NotAfter != nil {
				next.NotAfter = *c.NotAfter
			}
			return &next, nil
		}
		return nil, vetting.Errorf(vetting.NotFound, "no order")
	})
}

func (m *memory) Raises(_ context.Context, order string, p vetting.Page) ([]*vetting.Raise, error) {
	return pick(m, []*vetting.Raise{{ID: 51, Order: order}}, p, true, func(r *vetting.Raise) int64 { return r.ID }, func(*vetting.Raise) bool { return true })
}

func (m *memory) ProposeRaise(_ context.Context, a access.Act, order string, to int64, note string) (*vetting.Raise, error) {
	return act(m, a, func() (*vetting.Raise, error) {
		return &vetting.Raise{ID: 51, Order: order, To: to, By: a.Operator, Note: note}, nil
	})
}

func (m *memory) ApproveRaise(_ context.Context, a access.Act, order string, id, to int64, _ approval.Approval) (*vetting.Raise, error) {
	return act(m, a, func() (*vetting.Raise, error) {
		return &vetting.Raise{ID: id, Order: order, To: to, Approvals: []vetting.Approval{{By: a.Operator}}}, nil
	})
}

func (m *memory) WithdrawRaise(_ context.Context, a access.Act, order string, id int64, _ string) (*vetting.Raise, error) {
	return act(m, a, func() (*vetting.Raise, error) {
		return &vetting.Raise{ID: id, Order: order, State: vetting.RaiseWithdrawn}, nil
	})
}

func (m *memory) Manifests(_ context.Context, f vetting.ManifestFilter, p vetting.Page) ([]*vetting.Manifest, error) {
	return pick(m, m.manifests, p, false, func(x *vetting.Manifest) int64 { return x.ID }, func(x *vetting.Manifest) bool {
		return fits(f.Site, x.Site) && fits(f.Order, x.Order)
	})
}

func (m *memory) Manifest(_ context.Context, id int64) (*vetting.Manifest, error) {
	return find(m, m.manifests, func(x *vetting.Manifest) bool { return x.ID == id })
}

func (m *memory) Registrations(_ context.Context, f vetting.RegistrationFilter, p vetting.Page) ([]*vetting.Registration, error) {
	return pick(m, m.registrations, p, true, func(r *vetting.Registration) int64 { return r.ID }, func(r *vetting.Registration) bool {
		return fits(f.Site, r.Site) && fits(f.Order, r.Order) && fits(f.Outcome, r.Outcome) && fits(f.DeviceID, r.DeviceID) &&
			(!f.Undecided || r.Outcome == vetting.Held && r.Decision == nil)
	})
}

func (m *memory) Registration(_ context.Context, id int64) (*vetting.Registration, error) {
	return find(m, m.registrations, func(r *vetting.Registration) bool { return r.ID == id })
}

func (m *memory) DecideRegistration(_ context.Context, a access.Act, id int64, d vetting.Decision) (*vetting.Registration, error) {
	return act(m, a, func() (*vetting.Registration, error) {
		for _, r := range m.registrations {
			if r.ID == id {
				next := *r
				next.Decision = &d
				return &next, nil
			}
		}
		return nil, vetting.Errorf(vetting.NotFound, "no registration")
	})
}

func (m *memory) Devices(_ context.Context, f vetting.DeviceFilter, p vetting.Page) ([]*vetting.Device, error) {
	return pick(m, m.devices, p, false, func(d *vetting.Device) int64 { return d.ID }, func(d *vetting.Device) bool {
		return fits(f.Site, d.Site) && fits(f.Order, d.Order) && fits(f.Product, d.Product) && fits(f.State, d.State) && fits(f.Owner, d.Owner) &&
			fits(f.Serial, d.Serial) && fits(f.MAC, d.MAC) && fits(f.UID, d.UID)
	})
}

func (m *memory) Device(_ context.Context, id int64) (*vetting.Device, error) {
	return find(m, m.devices, func(d *vetting.Device) bool { return d.ID == id })
}

func (m *memory) DeviceHistory(ctx context.Context, id int64) (*vetting.History, error) {
	d, err := m.Device(ctx, id)
	if err != nil {
		return nil, err
	}
	if h := m.histories[id]; h != nil {
		return h, nil
	}
	return &vetting.History{Device: *d}, nil
}

func (m *memory) AddTestResult(_ context.Context, a access.Act, id int64, r *vetting.TestResult) (*vetting.TestResult, error) {
	return act(m, a, func() (*vetting.TestResult, error) {
		for i, d := range m.devices {
			if d.ID == id {
				kept, next := *r, *d
				kept.ID, kept.DeviceID, kept.At, kept.Rig = m.next(), id, today, a.Operator
				next.Test = &kept
				m.devices[i] = &next
				return &kept, nil
			}
		}
		return nil, vetting.Errorf(vetting.NotFound, "no device")
	})
}

func (m *memory) ReplaceDevice(ctx context.Context, a access.Act, id, by int64, note string) (*vetting.Device, error) {
	return m.SetDeviceState(ctx, a, id, vetting.DeviceScrapped, note)
}

func (m *memory) ReworkDevice(ctx context.Context, a access.Act, id int64, note string) (*vetting.Device, error) {
	return m.SetDeviceState(ctx, a, id, vetting.DeviceScrapped, note)
}

func (m *memory) ScrapRecord(ctx context.Context, a access.Act, id int64, note string) (*vetting.Device, error) {
	return m.SetDeviceState(ctx, a, id, vetting.DeviceScrapped, note)
}

func (m *memory) RevokeDevice(ctx context.Context, a access.Act, id int64, reason vetting.RevocationReason, note string) (*vetting.Device, error) {
	if _, err := reason.Code(); err != nil {
		return nil, err
	}
	return act(m, a, func() (*vetting.Device, error) { return m.devices[0], nil })
}

func (m *memory) RevokeCertificate(ctx context.Context, a access.Act, serial string, reason vetting.RevocationReason, note string) (*vetting.Certificate, error) {
	if _, err := reason.Code(); err != nil {
		return nil, err
	}
	return act(m, a, func() (*vetting.Certificate, error) { return m.certificates[0], nil })
}

func (m *memory) ReadmitDevice(ctx context.Context, a access.Act, id int64, note string) (*vetting.Device, error) {
	return m.SetDeviceState(ctx, a, id, vetting.DeviceManufactured, note)
}

func (m *memory) SetDeviceState(_ context.Context, a access.Act, id int64, s vetting.DeviceState, _ string) (*vetting.Device, error) {
	return act(m, a, func() (*vetting.Device, error) {
		for _, d := range m.devices {
			if d.ID == id {
				next := *d
				next.State = s
				return &next, nil
			}
		}
		return nil, vetting.Errorf(vetting.NotFound, "no device")
	})
}

func (m *memory) Certificate(_ context.Context, serial string) (*vetting.Certificate, error) {
	return find(m, m.certificates, func(c *vetting.Certificate) bool { return c.Serial == serial })
}

func (m *memory) Operators(_ context.Context, p vetting.Page) ([]*access.Operator, error) {
	return pick(m, m.operators, p, false, func(o *access.Operator) int64 { return o.ID }, func(*access.Operator) bool { return true })
}

func (m *memory) Operator(_ context.Context, name string) (*access.Operator, error) {
	return find(m, m.operators, func(o *access.Operator) bool { return o.Name == name })
}

func (m *memory) CreateOperator(_ context.Context, a access.Act, o *access.Operator) (*access.Operator, error) {
	return act(m, a, func() (*access.Operator, error) {
		for _, x := range m.operators {
			if x.Name == o.Name || x.Key == o.Key {
				return nil, vetting.Errorf(vetting.Exists, "there is an operator of that name or key already")
			}
		}
		o.ID = m.next()
		m.operators = append(m.operators, o)
		return o, nil
	})
}

func (m *memory) RevokeOperator(_ context.Context, a access.Act, name string) (*access.Operator, error) {
	return act(m, a, func() (*access.Operator, error) {
		for _, o := range m.operators {
			if o.Name == name {
				o.Revoked = today
				return o, nil
			}
		}
		return nil, vetting.Errorf(vetting.NotFound, "no operator")
	})
}

func (m *memory) RenewOperator(_ context.Context, a access.Act, o *access.Operator) (*access.Operator, error) {
	return act(m, a, func() (*access.Operator, error) { return o, nil })
}

func (m *memory) LogIn(ctx context.Context, l access.Login) (*access.Operator, error) {
	return m.Operator(ctx, l.Operator)
}

func (m *memory) OperatorByKey(_ context.Context, key vetting.Fingerprint) (*access.Operator, error) {
	return find(m, m.operators, func(o *access.Operator) bool { return o.Key == key })
}

var today = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
