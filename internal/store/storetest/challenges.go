package storetest

import (
	"sync"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

var challengeCases = []conformance{
	{"a device proves its key over TLS, which is a use of it", challengeProved},
	{"a challenge is answered once", challengeOnce},
	{"a challenge is answered once over two servers", challengeConcurrent},
	{"another device's answer is evidence against both", challengeForeign},
	{"late answers and answers to nothing are refused", challengeLate},
	{"challenges to a device are bounded", challengesBounded},
}

func (t *trial) challenge(device int64) *vetting.Challenge {
	t.Helper()
	return ok(t.store.CreateChallenge(t.ctx, By, device, time.Minute))(t)
}

func challengeProved(t *trial) {
	t.world(10, Unit(0))
	d := t.admit(0)
	before := t.leaves()
	c := t.challenge(d.ID)
	if c.DeviceID != d.ID || c.By != "test" || c.Result != nil || c.Expires.Sub(c.Created) != time.Minute || c.Nonce == (vetting.Nonce{}) || t.leaves() != before {
		t.Fatalf("the challenge is %s", show(c))
	}
	got := ok(t.store.AnswerByTLS(t.ctx, c.Nonce, d.Certificate))(t)
	if r := got.Result; r == nil || r.Outcome != vetting.Proved || r.How != vetting.ByTLS || r.Certificate != d.Certificate || r.At.IsZero() {
		t.Fatalf("answered: %s", show(got))
	}
	if leaf := t.leaf(got.Leaf); leaf.Act != "challenge.proved" || leaf.By != "certificate:"+d.Certificate {
		t.Errorf("the leaf is %+v", leaf)
	}
	if now := t.device(d.ID); now.State != vetting.DeviceActive {
		t.Errorf("the device that used its key is %s", now.State)
	}
	after := t.leaves()
	same(t, "answered again", ok(t.store.AnswerByTLS(t.ctx, c.Nonce, d.Certificate))(t), got)
	if t.leaves() != after {
		t.Error("the same answer again left a leaf")
	}
	same(t, "by its number", ok(t.store.Challenge(t.ctx, c.ID))(t), got)
	same(t, "in the history", ok(t.store.DeviceHistory(t.ctx, d.ID))(t).Challenges, []*vetting.Challenge{got})
	same(t, "with the subject", t.subjects(vetting.SubjectQuery{Identity: vetting.Identity{Serial: d.Serial}})[0].Proof, got)
}

func challengeOnce(t *trial) {
	t.world(10, Unit(0))
	d := t.admit(0)
	c := t.challenge(d.ID)
	t.refuses(vetting.Invalid)(t.store.AnswerChallenge(t.ctx, By, c.ID, "00ff", []byte("x")))
	t.refuses(vetting.Invalid)(t.store.AnswerChallenge(t.ctx, By, c.ID, "hello", []byte("x")))
	got := ok(t.store.AnswerChallenge(t.ctx, By, c.ID, "", []byte("x")))(t)
	if r := got.Result; r.Outcome != vetting.ProofFailed || r.Reason != vetting.ReasonWrongSignature || r.How != vetting.BySignature {
		t.Fatalf("a wrong signature: %s", show(got))
	}
	t.refuses(vetting.Conflict)(t.store.AnswerChallenge(t.ctx, By, c.ID, "", []byte("y")))
	t.refuses(vetting.Conflict)(t.store.AnswerByTLS(t.ctx, c.Nonce, d.Certificate))
	if d = t.device(d.ID); d.State != vetting.DeviceIssued {
		t.Errorf("a device that proved nothing is %s", d.State)
	}
	same(t, "afterwards", ok(t.store.Challenge(t.ctx, c.ID))(t), got)
}

func challengeConcurrent(t *trial) {
	t.world(10, Unit(0), Unit(1))
	a, b := t.admit(0), t.admit(1)
	other := t.second()
	c := t.challenge(a.ID)
	var wg sync.WaitGroup
	var won [2]error
	wg.Go(func() { _, won[0] = t.store.AnswerByTLS(t.ctx, c.Nonce, a.Certificate) })
	wg.Go(func() { _, won[1] = other.AnswerByTLS(t.ctx, c.Nonce, b.Certificate) })
	wg.Wait()
	if (won[0] == nil) == (won[1] == nil) || vetting.ProblemOf(won[0])+vetting.ProblemOf(won[1]) != vetting.Conflict {
		t.Errorf("two answers at once: %v and %v", won[0], won[1])
	}
}

func challengeForeign(t *trial) {
	t.world(10, Unit(0), Unit(1))
	a, b := t.admit(0), t.admit(1)
	for range 2 {
		c := t.challenge(a.ID)
		if r := ok(t.store.AnswerByTLS(t.ctx, c.Nonce, b.Certificate))(t).Result; r.Outcome != vetting.ProofFailed || r.Reason != vetting.ReasonOtherDevice {
			t.Fatalf("%+v", r)
		}
	}
	for _, d := range []*vetting.Device{a, b} {
		list := ok(t.store.Evidence(t.ctx, vetting.EvidenceFilter{DeviceID: d.ID}, vetting.Page{}))(t)
		if len(list) != 1 || list[0].Kind != vetting.EvidenceForeignProof || list[0].Repeats != 1 {
			t.Errorf("evidence against device %d: %s", d.ID, show(list))
		}
	}
}

func challengeLate(t *trial) {
	t.world(10, Unit(0), Unit(1))
	d := t.admit(0)
	t.refuses(vetting.NotFound)(t.store.CreateChallenge(t.ctx, By, 1<<40, time.Minute))
	t.refuses(vetting.Conflict)(t.store.CreateChallenge(t.ctx, By, t.facts(first(1)).Record.ID, time.Minute))
	t.refuses(vetting.NotFound)(t.store.AnswerChallenge(t.ctx, By, 1<<40, "", []byte("x")))
	t.refuses(vetting.NotFound)(t.store.AnswerByTLS(t.ctx, vetting.Nonce{1}, d.Certificate))
	late := ok(t.store.CreateChallenge(t.ctx, By, d.ID, -time.Second))(t)
	t.refuses(vetting.Conflict)(t.store.AnswerChallenge(t.ctx, By, late.ID, "", []byte("x")))
	t.refuses(vetting.Conflict)(t.store.AnswerByTLS(t.ctx, late.Nonce, d.Certificate))
	old := ok(t.store.CreateChallenge(t.ctx, By, d.ID, -48*time.Hour))(t)
	t.challenge(d.ID) // forgets the old one
	t.refuses(vetting.NotFound)(t.store.Challenge(t.ctx, old.ID))
	ok(t.store.Challenge(t.ctx, late.ID))(t)
}

func challengesBounded(t *trial) {
	t.world(10, Unit(0))
	d := t.admit(0)
	first := ok(t.store.CreateChallenge(t.ctx, keyed("anna", "k", "this"), d.ID, time.Minute))(t)
	for range 15 {
		t.challenge(d.ID)
	}
	t.refuses(vetting.Conflict)(t.store.CreateChallenge(t.ctx, By, d.ID, time.Minute))
	same(t, "the act again", ok(t.store.CreateChallenge(t.ctx, keyed("anna", "k", "this"), d.ID, time.Minute))(t), first)
	ok(t.store.AnswerByTLS(t.ctx, first.Nonce, d.Certificate))(t)
	t.challenge(d.ID)
}
