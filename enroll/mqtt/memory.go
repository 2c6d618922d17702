package mqtt

import (
	"sync"
	"time"
)

// memory knows the messages of the last minutes, so that one that comes twice
// is worked on once: a broker repeats what was not acknowledged (QoS 1), and
// anybody may repeat what they saw. It forgets in two generations, so that it
// remembers each message for at least keep. Only what was signed enters it.
//
// It is the first guard, of one server's memory. That a repetition changes
// nothing, whichever server it comes to, is the pipeline's doing.
type memory struct {
	keep time.Duration
	most int

	mu             sync.Mutex
	turned         time.Time // when younger began
	younger, older map[digest]bool
}

func newMemory(keep time.Duration, most int) *memory {
	return &memory{keep: keep, most: most, younger: map[digest]bool{}}
}

// first reports whether a message is new, and remembers it.
func (m *memory) first(d digest, now time.Time) bool {
	m.mu.Lock()
	defer m.mu.Unlock()
	if now.Sub(m.turned) >= m.keep || len(m.younger) >= m.most/2 {
		m.older, m.younger, m.turned = m.younger, map[digest]bool{}, now
	}
	if m.younger[d] || m.older[d] {
		return false
	}
	m.younger[d] = true
	return true
}

// forget lets a message be worked on once more: it was not answered.
func (m *memory) forget(d digest) {
	m.mu.Lock()
	defer m.mu.Unlock()
	delete(m.younger, d)
	delete(m.older, d)
}
