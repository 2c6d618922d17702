package ocsp

import "sync"

// Forgeries collects forged serial numbers until somebody takes them, each
// once as long as it is remembered. The zero value is ready.
type Forgeries struct {
	mu      sync.Mutex
	seen    map[forgedKey]struct{} // the current generation, and
	before  map[forgedKey]struct{} // the one before
	waiting []Forgery
	lost    int64
}

type forgedKey struct {
	issuer int64
	serial string
}

const (
	// maxWaiting bounds the forgeries that nobody has taken yet.
	maxWaiting = 1000
	// maxSeen is how many forgeries make a generation: so many at least, and
	// twice as many at most, are not told again.
	maxSeen = 10_000
)

// Forged implements the interface of that name.
func (f *Forgeries) Forged(g Forgery) {
	key := forgedKey{g.Issuer, g.Serial}
	f.mu.Lock()
	defer f.mu.Unlock()
	if _, old := f.seen[key]; old {
		return
	}
	if _, old := f.before[key]; old {
		return
	}
	if len(f.waiting) == maxWaiting {
		f.lost++
		return
	}
	if f.seen == nil || len(f.seen) == maxSeen {
		f.before, f.seen = f.seen, map[forgedKey]struct{}{}
	}
	f.seen[key] = struct{}{}
	f.waiting = append(f.waiting, g)
}

// Take gives what was collected, and how many were not because too many were
// waiting.
func (f *Forgeries) Take() (list []Forgery, lost int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	list, lost = f.waiting, f.lost
	f.waiting, f.lost = nil, 0
	return list, lost
}
