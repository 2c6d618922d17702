package acme

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"strconv"
	"sync"
	"time"
)

// Secret is 32 bytes that all servers of a CA share and nobody else knows.
type Secret []byte

func (s Secret) mac(purpose string, data []byte) []byte {
	m := hmac.New(sha256.New, s)
	m.Write([]byte(purpose))
	m.Write([]byte{0})
	m.Write(data)
	return m.Sum(nil)
}

// AccountKey is the secret of an account key (vetting.AccountKey), an
// HMAC-SHA-256 key. It is not kept anywhere.
func (s Secret) AccountKey(id int64) []byte {
	return s.mac("account key", strconv.AppendInt(nil, id, 10))
}

// nonceLife is how long a nonce may be used.
const nonceLife = time.Hour

// mostNonces bounds the memory of nonces that were used to some 20 MB.
const mostNonces = 1 << 18

// nonces makes anti-replay nonces (RFC 8555 §6.5): the time, a random number,
// and a MAC of both by the servers' secret, so that every server takes those
// of the others and none keeps what it gave out. Kept is what was used, here:
// at another server the same request may be worked on once more, within
// nonceLife. Each is one that changes nothing when it comes again, or opens
// no more than an order, of which an account has a bounded number.
type nonces struct {
	secret Secret
	now    func() time.Time

	mu     sync.Mutex
	turned time.Time
	// Used ones, in two generations: each is remembered for nonceLife, or
	// while fewer than mostNonces were used since. What is older than the
	// elder generation counts no more.
	younger, older map[[nonceBytes]byte]bool
	floor          time.Time // nonces from before were forgotten
}

const (
	nonceRandom = 8
	nonceMAC    = 16
	nonceBytes  = 8 + nonceRandom + nonceMAC
)

func newNonces(s Secret, now func() time.Time) *nonces {
	return &nonces{secret: s, now: now, turned: now(), younger: map[[nonceBytes]byte]bool{}}
}

func (n *nonces) fresh() string {
	var b [nonceBytes]byte
	binary.BigEndian.PutUint64(b[:], uint64(n.now().UnixMicro()))
	rand.Read(b[8 : 8+nonceRandom]) // never fails (crypto/rand)
	copy(b[8+nonceRandom:], n.secret.mac("nonce", b[:8+nonceRandom]))
	return base64.RawURLEncoding.EncodeToString(b[:])
}

// take uses a nonce up, and reports whether it counted.
func (n *nonces) take(text string) bool {
	raw, err := base64.RawURLEncoding.Strict().DecodeString(text)
	if err != nil || len(raw) != nonceBytes || !hmac.Equal(raw[8+nonceRandom:], n.secret.mac("nonce", raw[:8+nonceRandom])[:nonceMAC]) {
		return false
	}
	b := [nonceBytes]byte(raw)
	now := n.now()
	made := time.UnixMicro(int64(binary.BigEndian.Uint64(b[:])))
	if age := now.Sub(made); age > nonceLife || age < -nonceLife {
		return false
	}
	n.mu.Lock()
	defer n.mu.Unlock()
	n.turn(now)
	if n.younger[b] || n.older[b] || made.Before(n.floor) {
		return false
	}
	n.younger[b] = true
	return true
}

// turn begins another generation when the younger is old, or large. Large
// before its time, it takes the right to be used from nonces that could have
// been used in the generation that goes.
func (n *nonces) turn(now time.Time) {
	early := len(n.younger) >= mostNonces/2
	if !early && now.Sub(n.turned) < 2*nonceLife {
		return
	}
	if early && now.Sub(n.turned) < 2*nonceLife {
		n.floor = n.turned
	}
	n.older, n.younger, n.turned = n.younger, map[[nonceBytes]byte]bool{}, now
}
