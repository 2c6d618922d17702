package store

import (
	"cmp"
	"context"
	"sync"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// cache keeps what is read with every request and changes rarely. Entries
// are found by ID and revision, so a change on another server is seen at
// once; names of sites never change.
type cache struct {
	mu       sync.RWMutex
	sites    map[int64]string
	products map[int64]*vetting.Product
	orders   map[int64]*cachedOrder

	orderNames map[int64]orderNames

	owners sync.Map // *cachedOwner by ID; few

	paces  map[int64]cachedPace
	issued time.Time // when units were issued last, by this server

	operators map[vetting.Fingerprint]cachedOperator
	forgotten time.Time // when operators was emptied last
}

type cachedPace struct {
	vetting.Pace // not changed any more
	read         time.Time
}

// paceLife is how long a pace is known without being read again.
const paceLife = time.Second

func (c *cache) pace(order int64) vetting.Pace {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if p, ok := c.paces[order]; ok && time.Since(p.read) < paceLife {
		return p.Pace
	}
	return nil
}

// keepPace keeps what was read at a time, unless units were issued meanwhile.
func (c *cache) keepPace(order int64, p vetting.Pace, read time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !read.After(c.issued) {
		return
	}
	if c.paces == nil || len(c.paces) >= maxCached {
		c.paces = map[int64]cachedPace{}
	}
	c.paces[order] = cachedPace{p, read}
}

func (c *cache) forgetPaces() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.paces, c.issued = nil, time.Now()
}

type cachedOperator struct {
	access.Operator
	read time.Time
}

// operatorLife is how long an operator is known without being read again: a
// rig comes hundreds of times a second.
const operatorLife = time.Second

func (c *cache) operator(key vetting.Fingerprint) *access.Operator {
	c.mu.RLock()
	defer c.mu.RUnlock()
	if o, ok := c.operators[key]; ok && time.Since(o.read) < operatorLife {
		return &o.Operator
	}
	return nil
}

// keepOperator keeps what was read at a time, unless operators were changed
// meanwhile.
func (c *cache) keepOperator(o *access.Operator, read time.Time) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if !read.After(c.forgotten) {
		return
	}
	if c.operators == nil || len(c.operators) >= maxCached {
		c.operators = map[vetting.Fingerprint]cachedOperator{}
	}
	c.operators[o.Key] = cachedOperator{*o, read}
}

func (c *cache) forgetOperators() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.operators, c.forgotten = nil, time.Now()
}

type cachedOwner struct {
	*vetting.Owner
	read time.Time
}

// ownerLife is how long an owner is known without being read again.
const ownerLife = time.Second

type cachedOrder struct {
	revision int64
	order    vetting.Order
}

// maxCached bounds the cached orders; a factory works on a handful at once.
const maxCached = 1000

func (s *Store) siteName(ctx context.Context, id int64) (string, error) {
	s.cache.mu.RLock()
	name, ok := s.cache.sites[id]
	s.cache.mu.RUnlock()
	if ok {
		return name, nil
	}
	if _, err := one(ctx, s.db, `SELECT name FROM sites WHERE id = $1`, []any{id}, &name); err != nil || name == "" {
		return "", err
	}
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	if s.cache.sites == nil {
		s.cache.sites = map[int64]string{}
	}
	s.cache.sites[id] = name
	return name, nil
}

// orderNames are the names of an order, its product and its site, none of
// which ever changes.
type orderNames struct{ name, product, site string }

func (s *Store) orderNames(ctx context.Context, id int64) (orderNames, error) {
	s.cache.mu.RLock()
	names, ok := s.cache.orderNames[id]
	s.cache.mu.RUnlock()
	if ok {
		return names, nil
	}
	return s.readOrderNames(ctx, id)
}

func (s *Store) readOrderNames(ctx context.Context, id int64) (n orderNames, err error) {
	const query = `SELECT o.name, p.name, st.name FROM orders o JOIN products p ON p.id = o.product_id JOIN sites st ON st.id = o.site_id WHERE o.id = $1`
	found, err := one(ctx, s.db, query, []any{id}, &n.name, &n.product, &n.site)
	if err != nil || !found {
		return n, err
	}
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	if s.cache.orderNames == nil || len(s.cache.orderNames) >= maxCached {
		s.cache.orderNames = map[int64]orderNames{}
	}
	s.cache.orderNames[id] = n
	return n, nil
}

// productAt returns the product in at least this revision.
func (s *Store) productAt(ctx context.Context, id, revision int64) (*vetting.Product, error) {
	s.cache.mu.RLock()
	p := s.cache.products[id]
	s.cache.mu.RUnlock()
	if p != nil && p.Revision >= revision {
		return p, nil
	}
	p, err := s.productWhere(ctx, `id = $1`, id)
	if err != nil {
		return nil, err
	}
	s.cache.mu.Lock()
	defer s.cache.mu.Unlock()
	if s.cache.products == nil {
		s.cache.products = map[int64]*vetting.Product{}
	}
	s.cache.products[id] = p
	return p, nil
}

// orderFrom makes an order of its row.
func (s *Store) orderFrom(ctx context.Context, o *orderRow) (*vetting.Order, error) {
	s.cache.mu.RLock()
	c := s.cache.orders[o.ID]
	s.cache.mu.RUnlock()
	if c == nil || c.revision != o.Revision {
		var err error
		if c, err = s.parseOrder(ctx, o); err != nil {
			return nil, err
		}
		s.cache.mu.Lock()
		if s.cache.orders == nil || len(s.cache.orders) >= maxCached {
			s.cache.orders = map[int64]*cachedOrder{}
		}
		s.cache.orders[o.ID] = c
		s.cache.mu.Unlock()
	}
	out := c.order
	out.Issued, out.Wasted, out.Replaced, out.State, out.Quantity = o.Issued, o.Wasted, o.Replaced, vetting.OrderState(o.State), o.Quantity
	out.Licensed, out.Lot = o.Licensed, uint32(o.Lot)
	if out.Rework == vetting.ReworkBySite {
		out.MaxReplacements = vetting.MaxReplacements(out.MaxReplacements, out.Quantity)
	}
	return &out, nil
}

func (s *Store) parseOrder(ctx context.Context, o *orderRow) (*cachedOrder, error) {
	b, err := o.body()
	if err != nil {
		return nil, err
	}
	site, err := s.siteName(ctx, o.SiteID)
	if err != nil {
		return nil, err
	}
	product := ""
	if _, err := one(ctx, s.db, `SELECT name FROM products WHERE id = $1`, []any{o.ProductID}, &product); err != nil {
		return nil, err
	}
	out := o.order(&b)
	out.Product, out.Site = product, site
	out.Waste, out.Rework = cmp.Or(out.Waste, vetting.WasteCounts), cmp.Or(out.Rework, vetting.ReworkByAdministrator)
	return &cachedOrder{revision: o.Revision, order: *out}, nil
}
