package ocsp

import (
	"crypto/sha256"
	"encoding/binary"
	"time"
)

// Shared holds the answers that all nodes of the same CAs give. It saves work
// and makes their answers the same; all of it may be lost at any time.
type Shared interface {
	// Get gives what was put under a key, nil if there is nothing. It keeps
	// the caller waiting for a moment at most, and gives nothing that was not
	// put under that key by a node of the same CAs. It is called by many
	// goroutines.
	Get(key [sha256.Size]byte) []byte
	// Put keeps a value as long as it lasts. It does not wait, and may
	// forget. If another node was first, other is called with that node's
	// value, from another goroutine.
	Put(key [sha256.Size]byte, value []byte, last time.Duration, other func(value []byte))
}

// joint is an answer that nodes can share: about one certificate of ours, in
// the state that this node knows of, given within a window of time. All of
// that is in its key. So what another node has said of a certificate that it
// does not know to be revoked yet is not found by one that does.
type joint struct {
	responder *Responder
	key       [sha256.Size]byte
	cached    cacheKey
	state     state
	until     time.Time
}

// jointly gives the joint answer to a question, nil if there is none.
func (r *Responder) jointly(t *issuers, q *Request, now time.Time) *joint {
	if r.Shared == nil || q.Nonce != nil || len(q.CertIDs) != 1 {
		return nil
	}
	id := &q.CertIDs[0]
	k, ok := cacheKeyOf(t, id)
	if !ok {
		return nil
	}
	if issuer, _ := t.named(id); !issuer.Genuine(k.serial) {
		return nil
	}
	j := &joint{responder: r, cached: k, state: r.Revoked.state(k.serial)}
	begin, end := window(&k.serial, r.Validity, now)
	j.until = end
	j.key = jointKey(id, j.state, r.Validity, begin)
	return j
}

// window is the time within which all nodes give the same answer about a
// certificate, as long as a node's own is given. Where it begins differs from
// certificate to certificate, so that not all are signed anew at once.
func window(s *Serial, validity time.Duration, now time.Time) (begin, end time.Time) {
	length := max(int64(validity/2/time.Second), 1)
	shift := int64(keyOf(s) % uint64(length))
	at := now.Unix()
	first := at - (at+shift)%length
	return time.Unix(first, 0), time.Unix(first+length, 0)
}

// jointKey hashes all that an answer depends on: what was asked, with the form
// of the question, which names the issuer; what is said; and the window.
func jointKey(id *CertID, st state, validity time.Duration, window time.Time) [sha256.Size]byte {
	b := append(make([]byte, 0, 256), "touchmark OCSP answer 1\x00"...)
	for _, n := range []uint64{uint64(st), uint64(validity), uint64(window.Unix())} {
		b = binary.BigEndian.AppendUint64(b, n)
	}
	return sha256.Sum256(append(b, id.Raw...))
}

// get asks whether another node has signed it. What is learned meanwhile of
// the certificate counts.
func (j *joint) get() *answer {
	if j == nil {
		return nil
	}
	a := j.read(j.responder.Shared.Get(j.key))
	if a != nil {
		j.responder.Counts.Shared.Add(1)
	}
	return a
}

// bound has what this node has signed given within the window only.
func (j *joint) bound(a *answer) {
	if j != nil {
		a.end(j.until)
	}
}

// put offers what this node has signed. If another was first, its answer is
// given from then on.
func (j *joint) put(a *answer) {
	if j == nil || a.state != j.state {
		return
	}
	last := j.until.Sub(j.responder.Now())
	j.responder.Shared.Put(j.key, a.write(), last, func(value []byte) {
		if first := j.read(value); first != nil {
			j.responder.cache.put(j.cached, first)
		}
	})
}

// jointHead is what stands before an answer's bytes: thisUpdate and
// nextUpdate, as Unix time.
const jointHead = 16

func (a *answer) write() []byte {
	b := make([]byte, 0, jointHead+len(a.body))
	b = binary.BigEndian.AppendUint64(b, uint64(a.this.Unix()))
	b = binary.BigEndian.AppendUint64(b, uint64(a.next.Unix()))
	return append(b, a.body...)
}

// read gives a node's answer, nil if it may not be given now.
func (j *joint) read(value []byte) *answer {
	if len(value) <= jointHead {
		return nil
	}
	unix := func(at int) time.Time { return time.Unix(int64(binary.BigEndian.Uint64(value[at:])), 0) }
	a := &answer{cacheable: true, state: j.state}
	if a.state == good {
		a.tally.good = 1
	} else {
		a.tally.revoked = 1
	}
	a.complete(value[jointHead:], unix(0), unix(8))
	a.end(j.until)
	if !a.serves(j.responder.Now()) || a.state != j.responder.Revoked.state(j.cached.serial) {
		return nil
	}
	return a
}
