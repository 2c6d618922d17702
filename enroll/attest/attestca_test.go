package attest

import (
	"encoding/binary"
	"testing"
	"time"
)

// However many challenges are under way, memory is bounded, and the latest are
// known.
func TestAttestationsAreBounded(t *testing.T) {
	now := time.Now()
	c := &CA{Attestor: &Attestor{Secret: []byte("a secret"), Now: func() time.Time { return now }}}
	secret := func(n int) []byte { return binary.BigEndian.AppendUint64(nil, uint64(n)) }
	for n := range 3 * mostPending {
		c.remember(secret(n), new(pendingAK))
	}
	if n := len(c.younger) + len(c.older); n > mostPending {
		t.Errorf("%d challenges are remembered", n)
	}
	if c.recall(secret(3*mostPending-1)) == nil || c.recall(secret(0)) != nil {
		t.Error("the latest is forgotten, or the first is not")
	}
	now = now.Add(2 * ChallengeLife)
	c.remember(secret(1), new(pendingAK))
	now = now.Add(2 * ChallengeLife)
	c.remember(secret(2), new(pendingAK))
	if len(c.younger)+len(c.older) != 2 {
		t.Errorf("%d are remembered after their time", len(c.younger)+len(c.older))
	}
}
