package server

import (
	"bytes"
	"errors"
	"fmt"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/mqtttest"
	"github.com/touchmark/touchmark/internal/store/storetest"
)

func newMosquitto(t *testing.T) *mqtttest.Mosquitto {
	t.Helper()
	m, err := mqtttest.StartPersistent(t.TempDir())
	if err != nil {
		t.Fatalf("mosquitto (Debian: mosquitto): %v", err)
	}
	t.Cleanup(m.Stop)
	return m
}

// shared starts two servers on one database that share a broker's messages.
func shared(t *testing.T, m *mqtttest.Mosquitto) (w, other *works) {
	t.Helper()
	join := func(id string) func(*Config) {
		return func(c *Config) {
			c.MQTT.Listen, c.MQTT.Broker = "", MQTTBroker{URL: "mqtt://" + m.Address, ClientID: id}
		}
	}
	w = opened(t, join("touchmark-1"))
	c := *w.config
	join("touchmark-2")(&c)
	return w, &works{t: t, config: &c, server: started(t, &c), world: w.world}
}

// joined waits until a server reads requests.
func (w *works) joined() {
	w.t.Helper()
	for begin := time.Now(); w.server.broker.Check(w.t.Context()) != nil; time.Sleep(10 * time.Millisecond) {
		if time.Since(begin) > answerTime {
			w.t.Fatal(w.server.broker.Check(w.t.Context()))
		}
	}
}

// traveller is a device at the broker: it keeps its session, comes back when it
// is cut off, sends again what was not acknowledged, and signs its request anew
// when no answer comes. Mosquitto 2.0 forgets shared subscriptions when it is
// restarted: it acknowledges requests that come before a server does, and
// drops them.
type traveller struct {
	*mqttClient
	w      *works
	broker string
	unit   pair
	order  map[string]any
	name   string
	asks   int
	sent   bool
}

const (
	askAgain = 2 * time.Second
	mostAsks = 30
)

func (v *traveller) ask() {
	v.asks++
	v.sent = false
	v.order["nonce"] = fmt.Sprintf("%s-%d-of-%s", nonce1, v.asks, v.name)
	_ = v.Publish(branchOf(v.unit)+"/request", v.w.signed(v.unit, v.w.now(), v.order)) // reading sees the failure
}

// answers returns what came back, once something did.
func (v *traveller) answers() []byte {
	for {
		conn, err := net.Dial("tcp", v.broker)
		if err != nil {
			time.Sleep(20 * time.Millisecond)
			continue
		}
		v.mqttClient = &mqttClient{v.w.t, mqtttest.New(conn), askAgain}
		answer, err := v.stay()
		conn.Close()
		if err == nil {
			return answer
		}
		if v.asks > mostAsks {
			v.Errorf("%s asks in vain: %v", v.name, err)
			return nil
		}
	}
}

func (v *traveller) stay() ([]byte, error) {
	if code, err := v.connect(v.name, 0); err != nil || code != 0 {
		return nil, fmt.Errorf("CONNECT: %d, %w", code, err)
	}
	if err := v.Send(mqtttest.Subscribe, []byte{0, 1}, mqtttest.Field(branchOf(v.unit)+"/reply"), []byte{1}); err != nil {
		return nil, err
	}
	for {
		kind, body, err := v.read()
		if timeout := net.Error(nil); errors.As(err, &timeout) && timeout.Timeout() && v.asks <= mostAsks {
			v.ask()
			continue
		}
		if err != nil {
			return nil, err
		}
		if m, ok := mqtttest.Published(kind, body); ok {
			return m.Payload, v.Acknowledge(m)
		}
		switch kind {
		case mqtttest.Suback:
			if !v.sent {
				v.ask()
			}
		case mqtttest.Puback:
			v.sent = true
		}
	}
}

// Two servers share the requests on a broker, which is restarted in the
// middle: every request is answered, and has one effect.
func TestTwoServersShareABroker(t *testing.T) {
	m := newMosquitto(t)
	w, other := shared(t, m)
	w.joined()
	other.joined()
	list := w.units(40)
	var visits sync.WaitGroup
	answers := make([][]byte, len(list))
	half := make(chan struct{}, len(list))
	for i, unit := range list {
		v := &traveller{w: w, broker: m.Address, unit: unit, name: fmt.Sprint("device-", i), order: w.order(unit, "enrol", "")}
		visits.Go(func() {
			if i >= len(list)/2 {
				<-half
			}
			answers[i] = v.answers()
			half <- struct{}{}
		})
	}
	<-half
	m.Stop()
	if err := m.Start(); err != nil {
		t.Fatal(err)
	}
	visits.Wait()
	for i, a := range answers {
		if a == nil {
			continue // it was told
		}
		content := w.replied2(a, other)
		if content.Status != 200 || content.Certificate == nil {
			t.Errorf("device %d: %+v", i, content)
		}
	}
	w.enrolled(int64(len(list)))
	storetest.Verify(t, w.server.store)
}

// A message that an earlier server worked on before it died, and that the
// broker sends on to another later, changes nothing: not even where a fresh
// request with the same certificate would give a copied device away.
func TestReplayAtAnotherServer(t *testing.T) {
	m := newMosquitto(t)
	w, other := shared(t, m)
	unit := w.units(1)[0]
	ask := func(s *works, p pair, message []byte) *mqttReply {
		t.Helper()
		h := s.server.handler
		out, err := h.Serve(t.Context(), branchOf(p)+"/request", message, "")
		if err != nil {
			t.Fatal(err)
		}
		if out == nil {
			return nil
		}
		r := w.replied2(out.Payload, other)
		return &r
	}
	official := w.enrolOver(unit, ask)
	order := w.order(official, "renew", nonce2)
	order["csr"] = w.sameKey(official)
	renewal := w.signed(official, w.now(), order)
	r := ask(w, official, renewal)
	if r == nil || r.Status != 200 {
		t.Fatalf("renewal: %+v", r)
	}
	renewed := pair{official.key, parsed(t, r.Certificate)}
	if r := ask(w, renewed, w.signed(renewed, w.now(), w.order(renewed, "activate", nonce3))); r == nil || r.Status != 200 {
		t.Fatalf("activation: %+v", r)
	}
	before := w.device("S-0")
	if r := ask(other, official, renewal); r != nil {
		t.Errorf("the replayed renewal was answered: %+v", r)
	}
	if after := w.device("S-0"); after.State != before.State || after.Certificate != before.Certificate {
		t.Errorf("the device was %s and is %s", before.State, after.State)
	}
	if n := len(w.certified()); n == 0 || !bytes.Equal(renewed.cert.Raw, r.Certificate) {
		t.Error("certificates changed")
	}
	w.neutral(unit, "")
}
