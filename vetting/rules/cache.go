package rules

import (
	"sync"

	"github.com/touchmark/touchmark/vetting"
)

// Cache keeps the compiled rules of products. Its zero value is ready.
type Cache struct {
	mu   sync.RWMutex
	sets map[int64]cached
}

type cached struct {
	revision int64
	set      *Set
}

// Of implements enroll.Rules.
func (c *Cache) Of(p *vetting.Product) (set vetting.RuleSet, looks vetting.Looks, err error) {
	if len(p.Rules) == 0 {
		return nil, looks, nil
	}
	c.mu.RLock()
	have, ok := c.sets[p.ID]
	c.mu.RUnlock()
	if ok && have.revision == p.Revision {
		return have.set, have.set.looks, nil
	}
	made, err := Compile(p.Rules)
	if err != nil {
		return nil, looks, err
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.sets == nil {
		c.sets = map[int64]cached{}
	}
	c.sets[p.ID] = cached{p.Revision, made}
	return made, made.looks, nil
}
