package ocsp_test

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509/pkix"
	"log/slog"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/cluster"
	"github.com/touchmark/touchmark/internal/cluster/redistest"
	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/ocsp/ocsptest"
)

// fleet are nodes of one CA that share answers over a Redis. The first has
// the CA's key.
type fleet struct {
	*testing.T
	redis *redistest.Redis
	pki   *pki
}

func newFleet(t *testing.T) *fleet {
	return &fleet{t, redistest.Start(t), newPKI(t)}
}

// sharingNode is a node with what it shares.
type sharingNode struct {
	*pki
	answers *cluster.Answers
}

// node makes one more node, which knows of nothing that became of
// certificates, and sees that it reaches Redis.
func (f *fleet) node() *sharingNode {
	f.Helper()
	answers, err := cluster.OpenAnswers(cluster.Options{URL: "redis://" + f.redis.Addr(), Name: "acme", Asking: time.Minute}, []byte("the nodes' secret"))
	if err != nil {
		f.Fatal(err)
	}
	ctx, cancel := context.WithCancel(f.Context())
	ended := make(chan struct{})
	go func() { answers.Run(ctx); close(ended) }()
	f.Cleanup(func() { cancel(); <-ended; answers.Close() })
	n := &sharingNode{&pki{t: f.T, now: f.pki.now, issuer: f.pki.issuer, key: f.pki.key}, answers}
	n.follower = &ocsp.Follower{Source: &n.source, Sinks: []ocsp.Sink{&n.set}, Log: slog.New(slog.DiscardHandler), Now: n.clock}
	n.follow()
	n.renew(n.now.Add(-time.Hour), n.now.Add(7*24*time.Hour))
	n.serve(answers)
	n.reaches()
	return n
}

// serve makes a responder, without anything in its cache.
func (n *sharingNode) serve(shared ocsp.Shared) {
	n.responder = ocsp.New(ocsp.Config{
		Revoked: &n.set, Known: n.follower.Known, MaxStale: 5 * time.Minute, Validity: time.Hour, CacheBytes: 1 << 20,
		Forged: &n.forged, Shared: shared, Log: slog.New(slog.DiscardHandler), Now: n.clock,
	})
	if err := n.responder.SetIssuers([]ocsp.Issuer{n.asIssuer()}); err != nil {
		n.t.Fatal(err)
	}
}

// reaches waits until Redis is asked.
func (n *sharingNode) reaches() {
	n.t.Helper()
	n.wait("Redis is not asked", func() bool {
		var key cluster.AnswerKey
		rand.Read(key[:])
		misses := n.answers.Counts.Misses.Load()
		n.answers.Get(key)
		return n.answers.Counts.Misses.Load() > misses
	})
}

func (n *sharingNode) wait(what string, done func() bool) {
	n.t.Helper()
	for late := time.Now().Add(time.Minute); !done(); time.Sleep(time.Millisecond) {
		if time.Now().After(late) {
			n.t.Fatal(what)
		}
	}
}

// signs asks for what the node has to sign, and waits until others can have it.
func (n *sharingNode) signs(s ocsp.Serial, want string) []byte {
	n.t.Helper()
	signed, put := n.responder.Counts.Signed.Load(), n.answers.Counts.Put.Load()
	body := n.gives(s, want)
	if n.responder.Counts.Signed.Load() != signed+1 {
		n.t.Fatalf("the answer %s was not signed by this node", want)
	}
	n.wait("the answer was not put", func() bool { return n.answers.Counts.Put.Load() > put })
	return body
}

// gives asks by GET and checks the answer.
func (n *sharingNode) gives(s ocsp.Serial, want string) []byte {
	n.t.Helper()
	rec := n.get(ocsptest.Question{CertIDs: []ocsptest.CertID{n.id(s)}}.DER(), nil)
	if got := n.read(rec).Data.Responses[0].Says(); got != want {
		n.t.Fatalf("%s, want %s", got, want)
	}
	return rec.Body.Bytes()
}

func TestNodesGiveTheSameBytes(t *testing.T) {
	f := newFleet(t)
	one, two := f.node(), f.node()
	s := issue()
	body := one.signs(s, "good")
	if !bytes.Equal(two.gives(s, "good"), body) {
		t.Error("the other node's answer differs")
	}
	der := ocsptest.Question{CertIDs: []ocsptest.CertID{one.id(s)}}.DER()
	first, second := one.get(der, nil).Header(), two.get(der, nil).Header()
	for _, name := range []string{"Etag", "Last-Modified", "Expires", "Cache-Control"} {
		if first.Get(name) != second.Get(name) || first.Get(name) == "" {
			t.Errorf("%s: %q and %q", name, first.Get(name), second.Get(name))
		}
	}
	if rec := two.get(der, map[string][]string{"If-None-Match": first["Etag"]}); rec.Code != 304 {
		t.Errorf("the first's ETag at the second: %d", rec.Code)
	}
	if c := &two.responder.Counts; c.Signed.Load() != 0 || c.Shared.Load() != 1 || c.Good.Load() != 3 {
		t.Errorf("the other signed %d, took %d, told good %d times", c.Signed.Load(), c.Shared.Load(), c.Good.Load())
	}
	// When it is time for another, it is so for both.
	for range 4 {
		for _, n := range []*sharingNode{one, two} {
			n.now = n.now.Add(10 * time.Minute)
			n.follow()
		}
		if !bytes.Equal(one.gives(s, "good"), body) {
			break
		}
		if !bytes.Equal(two.gives(s, "good"), body) {
			t.Fatal("one gives the old answer and the other a new one")
		}
	}
	fresh := one.gives(s, "good")
	if bytes.Equal(fresh, body) {
		t.Error("after 40 minutes the answer is the same")
	}
	two.wait("the nodes' answers differ", func() bool { return bytes.Equal(two.gives(s, "good"), one.gives(s, "good")) })
}

// What depends on the question alone is not shared, nor what is forged.
func TestWhatIsNotShared(t *testing.T) {
	f := newFleet(t)
	n := f.node()
	asked := n.answers.Counts.Misses.Load()
	s, wrong := issue(), issue()
	wrong[16] ^= 1
	for what, q := range map[string]ocsptest.Question{
		"with a nonce": {CertIDs: []ocsptest.CertID{n.id(s)}, Extensions: []pkix.Extension{ocsptest.Nonce(bytes.Repeat([]byte{7}, 16))}},
		"about two":    {CertIDs: []ocsptest.CertID{n.id(s), n.id(issue())}},
		"forged":       {CertIDs: []ocsptest.CertID{n.id(wrong)}},
	} {
		n.read(n.post(q.DER()))
		if n.answers.Counts.Misses.Load() != asked {
			t.Errorf("%s: Redis was asked", what)
		}
	}
}

// blind asks nobody.
type blind struct{ ocsp.Shared }

func (blind) Get([sha256.Size]byte) []byte { return nil }

// Two nodes that sign at the same time give the answer of the first soon.
func TestWhoSignsSecondGivesTheFirst(t *testing.T) {
	f := newFleet(t)
	one, two := f.node(), f.node()
	two.serve(blind{two.answers})
	s := issue()
	body := one.signs(s, "good")
	two.gives(s, "good")
	if two.responder.Counts.Signed.Load() != 1 {
		t.Fatal("the second did not sign")
	}
	two.wait("the second keeps to its own", func() bool { return bytes.Equal(two.gives(s, "good"), body) })
}

// A node that knows a certificate to be revoked is not led astray by one that
// does not, nor by whoever writes to Redis.
func TestSharedAnswersAreNeverLate(t *testing.T) {
	f := newFleet(t)
	one, two := f.node(), f.node()
	s := issue()
	good := one.signs(s, "good")
	two.gives(s, "good")
	two.becomes(s, ocsp.KeyCompromise)
	revoked := two.signs(s, "revoked")
	if !bytes.Equal(one.gives(s, "good"), good) {
		t.Error("the first gave up its answer")
	}
	one.becomes(s, ocsp.KeyCompromise)
	if !bytes.Equal(one.gives(s, "revoked"), revoked) {
		t.Error("the first has another answer than the second")
	}

	if n := f.redis.Shuffle(); n != 2 {
		t.Fatalf("%d entries", n)
	}
	three := f.node()
	three.becomes(s, ocsp.KeyCompromise)
	three.gives(s, "revoked")
	if n := three.answers.Counts.Refused.Load(); n == 0 || three.responder.Counts.Shared.Load() != 0 {
		t.Errorf("%d refused, %d taken", n, three.responder.Counts.Shared.Load())
	}

	// For another reason it is another answer.
	four := f.node()
	four.becomes(s, ocsp.CertificateHold)
	if rec := four.read(four.get(ocsptest.Question{CertIDs: []ocsptest.CertID{four.id(s)}}.DER(), nil)); rec.Data.Responses[0].Revoked.Reason != 6 {
		t.Errorf("revoked for %d", rec.Data.Responses[0].Revoked.Reason)
	}
}

func TestNodesWithoutRedis(t *testing.T) {
	f := newFleet(t)
	one, two := f.node(), f.node()
	f.redis.Stop()
	s := issue()
	one.gives(s, "good")
	two.gives(s, "good")
	if one.responder.Counts.Signed.Load() != 1 || two.responder.Counts.Signed.Load() != 1 {
		t.Error("not each signed for itself")
	}
	two.becomes(s, ocsp.Superseded)
	two.gives(s, "revoked")
	f.redis.Restart()
	one.reaches()
	two.reaches()
	s = issue()
	if !bytes.Equal(one.signs(s, "good"), two.gives(s, "good")) {
		t.Error("afterwards the answers differ")
	}
}
