package storetest

import (
	"errors"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/vetting"
)

var messageCases = []conformance{
	{"a signed message counts once, over all servers", messageCounts},
	{"a message of a batch counts once", messageInBatch},
	{"what did not count may come again", messageLost},
}

// messaged is a claim that came in a signed message.
func messaged(c vetting.Claim, message byte) vetting.Claim {
	c.Message, c.Transport = [32]byte{message}, "mqtt"
	return c
}

func messageCounts(t *trial) {
	t.world(10, Unit(0), Unit(1))
	t.enrol(messaged(first(0), 1), vetting.ReasonVetted)
	refused := Claim(Key("stranger", 0), Key("official", 9))
	t.enrol(messaged(refused, 2), vetting.ReasonUnknownDevice)
	before := ok(t.store.LogSize(t.ctx))(t)
	for _, c := range []vetting.Claim{messaged(first(1), 1), messaged(refused, 2), messaged(refused, 1)} {
		if _, _, err := Enrol(t.ctx, t.second(), c); !errors.Is(err, enroll.ErrRepeated) {
			t.Errorf("message %d came again: %v", c.Message[0], err)
		}
	}
	if after := ok(t.store.LogSize(t.ctx))(t); after != before {
		t.Errorf("messages that came again left %d leaves", after-before)
	}
	t.enrol(messaged(first(1), 3), vetting.ReasonVetted)

	t.done(t.store.ForgetMessages(t.ctx, time.Now().Add(-time.Hour)))
	if _, _, err := Enrol(t.ctx, t.store, messaged(refused, 2)); !errors.Is(err, enroll.ErrRepeated) {
		t.Errorf("it was forgotten too soon: %v", err)
	}
	t.done(t.store.ForgetMessages(t.ctx, time.Now().Add(time.Hour)))
	if _, _, err := Enrol(t.ctx, t.store, messaged(refused, 2)); err != nil {
		t.Errorf("it was not forgotten: %v", err)
	}
}

func messageInBatch(t *trial) {
	t.world(10, Unit(0), Unit(1))
	results := make(chan error)
	for n := range 2 {
		go func() {
			_, _, err := Enrol(t.ctx, t.store, messaged(first(n), 1))
			results <- err
		}()
	}
	if a, b := <-results, <-results; (a == nil) == (b == nil) || !errors.Is(errors.Join(a, b), enroll.ErrRepeated) {
		t.Errorf("one message came twice at once: %v, %v", a, b)
	}
}

// messageLost: a commit that writes nothing leaves no trace of its message.
func messageLost(t *trial) {
	t.world(10, Unit(0))
	commit := t.propose(messaged(first(0), 1))
	t.enrol(first(0), vetting.ReasonVetted)
	if _, err := t.store.Commit(t.ctx, commit); !errors.Is(err, enroll.ErrStale) {
		t.Fatalf("a stale commit: %v", err)
	}
	refused := Claim(Key("stranger", 0), Key("official", 9))
	t.enrol(messaged(refused, 1), vetting.ReasonUnknownDevice)
}
