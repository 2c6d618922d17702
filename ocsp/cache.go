package ocsp

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"net/http"
	"strconv"
	"sync"
	"time"
)

// answer is a signed answer, ready to be sent.
type answer struct {
	body      []byte
	state     state // of the certificate it is about, if it is about one
	cacheable bool
	tally     struct{ good, revoked, forged, unknown int64 }

	this, next time.Time // thisUpdate and nextUpdate
	refresh    time.Time // it is given from this until refresh
	// The values of HTTP's header fields; length is nil if net/http knows it.
	length, etag, modified, expires, control []string
}

// complete takes over what was signed. It is given for the first half of its
// time, and HTTP may keep it for a quarter more, so whoever gets it has a
// quarter left to use it.
func (a *answer) complete(der []byte, this, next time.Time) {
	valid := next.Sub(this)
	a.body, a.this, a.next, a.refresh = der, this, next, this.Add(valid/2)
	if len(der) > knownLength {
		a.length = []string{strconv.Itoa(len(der))}
	}
	if !a.cacheable {
		return
	}
	sum := sha256.Sum256(der)
	a.etag = []string{`"` + hex.EncodeToString(sum[:16]) + `"`}
	a.modified = []string{this.UTC().Format(http.TimeFormat)}
	a.expires = []string{next.UTC().Format(http.TimeFormat)}
	a.control = []string{fmt.Sprintf("max-age=%d, public, no-transform, must-revalidate", int(valid/4/time.Second))}
}

// knownLength is the size up to which net/http itself tells the length of
// what a handler wrote ("under a few KB"). It does so with less work.
const knownLength = 2 << 10

// end has the answer given until a time at the latest.
func (a *answer) end(at time.Time) {
	if at.Before(a.refresh) {
		a.refresh = at
	}
}

// serves reports whether the answer may still be given.
func (a *answer) serves(now time.Time) bool { return !now.Before(a.this) && now.Before(a.refresh) }

// cacheKey is what an answer about one certificate depends on besides the
// certificate's status: its issuer, the form in which the question named it,
// and its serial number, which is one that the issuer can have issued. So
// nobody can fill the cache with inventions.
type cacheKey struct {
	issuer int64
	form   uint8
	serial Serial
}

// cache keeps answers within a bound of memory, in parts that are locked
// one by one. Who asks it compares the answer's status with the certificate's.
type cache struct {
	parts [cacheParts]cachePart
	bound int // of each part, in bytes
}

const cacheParts = 64

type cachePart struct {
	mu      sync.RWMutex
	answers map[cacheKey]*answer
	bytes   int
}

// answerOverhead is what an answer takes besides its body: the header fields,
// the key and the map's share.
const answerOverhead = 640

func newCache(bytes int) cache { return cache{bound: bytes / cacheParts} }

func (c *cache) part(k *cacheKey) *cachePart { return &c.parts[k.serial[SerialLength-1]%cacheParts] }

func (c *cache) get(k cacheKey) *answer {
	p := c.part(&k)
	p.mu.RLock()
	defer p.mu.RUnlock()
	return p.answers[k]
}

// put keeps an answer. When there is no room others go, whichever the map
// comes upon first: to sign one again costs little.
func (c *cache) put(k cacheKey, a *answer) {
	size := len(a.body) + answerOverhead
	if size > c.bound {
		return
	}
	p := c.part(&k)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.drop(k)
	for other := range p.answers {
		if p.bytes+size <= c.bound {
			break
		}
		p.drop(other)
	}
	if p.answers == nil {
		p.answers = map[cacheKey]*answer{}
	}
	p.answers[k] = a
	p.bytes += size
}

func (p *cachePart) drop(k cacheKey) {
	if old := p.answers[k]; old != nil {
		p.bytes -= len(old.body) + answerOverhead
		delete(p.answers, k)
	}
}

// size is how many answers are kept, and their memory.
func (c *cache) size() (answers, bytes int) {
	for i := range c.parts {
		p := &c.parts[i]
		p.mu.RLock()
		answers, bytes = answers+len(p.answers), bytes+p.bytes
		p.mu.RUnlock()
	}
	return answers, bytes
}
