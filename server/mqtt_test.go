package server

import (
	"bytes"
	"crypto/sha256"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/touchmark/touchmark/enroll/mqtt"
	"github.com/touchmark/touchmark/internal/cms"
	"github.com/touchmark/touchmark/internal/mqtttest"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// order is a request of a device, as it signs it.
func (w *works) order(p pair, operation, nonce string) map[string]any {
	m := map[string]any{"operation": operation, "nonce": nonce, "reply": branchOf(p) + "/reply"}
	if operation != "activate" {
		_, m["csr"] = w.request(nil)
	}
	return m
}

const nonce1, nonce2, nonce3 = "0123456789abcdef-1", "0123456789abcdef-2", "0123456789abcdef-3"

// A device enrols over MQTT; the answer is bound to its request, and what is
// sent again, by the broker or by anybody, is not worked on again.
func TestEnrolmentOverMQTT(t *testing.T) {
	w := opened(t)
	unit := w.units(1)[0]
	c := w.mqtt(unit, "device")
	if code := c.subscribe(branchOf(unit) + "/reply"); code != 1 {
		t.Fatalf("SUBSCRIBE: %#x", code)
	}
	message := w.signed(unit, w.now(), w.order(unit, "enrol", nonce1))
	answers, cut := c.publish(branchOf(unit)+"/request", message)
	if cut || len(answers) != 1 {
		t.Fatalf("%d answers, cut off: %v", len(answers), cut)
	}
	r, sum := w.replied(answers[0]), sha256.Sum256(message)
	cert, err := x509.ParseCertificate(r.Certificate)
	if r.Status != 200 || err != nil || len(r.CAs) == 0 || r.Nonce != nonce1 || r.Request != hex.EncodeToString(sum[:]) {
		t.Fatalf("%+v, %v", r, err)
	}
	w.enrolled(1)
	if cert.Subject.SerialNumber != "S-0" && cert.Subject.CommonName != "S-0" {
		t.Errorf("the certificate is for %s", cert.Subject)
	}

	before := w.certified()
	if answers, cut := c.publish(branchOf(unit)+"/request", message); cut || len(answers) != 0 {
		t.Errorf("the same message was answered again: %d, %v", len(answers), cut)
	}
	if after := w.certified(); after != before {
		t.Errorf("certificates changed from %s to %s", before, after)
	}
	if n := w.refused("repeated"); n != 1 {
		t.Errorf("%v messages count as repeated, want 1", n)
	}
}

// refused is how many messages over MQTT were refused for a reason.
func (w *works) refused(reason string) float64 {
	return testutil.ToFloat64(w.server.metrics.refused.WithLabelValues(reason))
}

// What no honest client sends: nothing comes of it, and where somebody else
// must have had a hand in it, evidence is kept that does not speak against the
// device.
func TestHostileMessagesOverMQTT(t *testing.T) {
	w := opened(t)
	list := w.units(2)
	unit, thief := list[0], list[1]
	request := func(p pair) string { return branchOf(p) + "/request" }
	order := w.order(unit, "enrol", nonce1)
	elsewhere := w.order(unit, "enrol", nonce2)
	elsewhere["reply"] = branchOf(thief) + "/reply"
	wild := w.order(unit, "enrol", nonce3)
	wild["reply"] = branchOf(unit) + "/reply/#"
	good := w.signed(unit, w.now(), order)
	bent := bytes.Clone(good)
	bent[bytes.Index(bent, []byte("nonce"))] ^= 1
	for name, tt := range map[string]struct {
		by       pair
		payload  []byte
		counts   string
		evidence vetting.EvidenceKind
		cut      bool
	}{
		"re-addressed":                          {thief, good, "re-addressed", vetting.EvidenceReaddressed, false},
		"for an answer in another's branch":     {unit, w.signed(unit, w.now(), elsewhere), "reply-topic", vetting.EvidenceReaddressed, false},
		"for an answer to a wildcard":           {unit, w.signed(unit, w.now(), wild), "reply-topic", vetting.EvidenceReaddressed, false},
		"not signed":                            {unit, []byte(`{"operation":"enrol"}`), "unsigned", "", false},
		"empty":                                 {unit, nil, "unsigned", "", false},
		"changed on the way":                    {unit, bent, "unsigned", "", false},
		"no request in it":                      {unit, w.signed(unit, w.now(), map[string]any{"hello": 1}), "malformed", "", false},
		"with a nonce that is none":             {unit, w.signed(unit, w.now(), w.order(unit, "enrol", "1")), "malformed", "", false},
		"as long as a message may be":           {unit, make([]byte, 32<<10), "unsigned", "", false},
		"longer":                                {unit, make([]byte, 32<<10+1), "oversized", "", false},
		"so long that the broker does not read": {unit, make([]byte, 64<<10), "", "", true},
	} {
		t.Run(name, func(t *testing.T) {
			c := w.mqtt(tt.by, "x")
			if code := c.subscribe(branchOf(tt.by) + "/#"); code != 1 {
				t.Fatalf("SUBSCRIBE: %#x", code)
			}
			counted := w.refused(tt.counts)
			answers, cut := c.publish(request(tt.by), tt.payload)
			if len(answers) != 0 || cut != tt.cut {
				t.Errorf("%d answers, cut off: %v", len(answers), cut)
			}
			if tt.counts != "" && w.refused(tt.counts) != counted+1 {
				t.Errorf("it does not count as %s", tt.counts)
			}
			w.neutral(unit, tt.evidence)
		})
	}
	w.enrolled(0)
}

// neutral wants evidence of a kind about a device, none that speaks against it.
func (w *works) neutral(unit pair, kind vetting.EvidenceKind) {
	w.t.Helper()
	list, err := w.server.store.Evidence(w.t.Context(), vetting.EvidenceFilter{Kind: kind}, vetting.Page{Limit: 10})
	if err != nil {
		w.t.Fatal(err)
	}
	if kind != "" && len(list) != 1 {
		w.t.Errorf("%d pieces of evidence of %s, want 1", len(list), kind)
	}
	for _, e := range list {
		if e.Stands(w.device("S-0")) {
			w.t.Errorf("%s speaks against the device: %s", e.Kind, e.Text)
		}
	}
}

// A message that was kept, or whose device's clock is wrong, is told so.
func TestStaleMessageOverMQTT(t *testing.T) {
	w := opened(t)
	unit := w.units(1)[0]
	c := w.mqtt(unit, "x")
	c.subscribe(branchOf(unit) + "/reply")
	for _, off := range []time.Duration{-6 * time.Minute, 6 * time.Minute, -30 * 365 * 24 * time.Hour} {
		answers, _ := c.publish(branchOf(unit)+"/request", w.signed(unit, w.now().Add(off), w.order(unit, "enrol", nonce1)))
		if len(answers) != 1 {
			t.Fatalf("%s off: %d answers", off, len(answers))
		}
		if r := w.replied(answers[0]); r.Status != 400 || !strings.Contains(r.Text, "set the clock") {
			t.Errorf("%s off: %+v", off, r)
		}
	}
	w.enrolled(0)
	w.neutral(unit, vetting.EvidenceReplayed)
	if answers, _ := c.publish(branchOf(unit)+"/request", w.signed(unit, w.now().Add(-4*time.Minute), w.order(unit, "enrol", nonce2))); len(answers) != 1 || w.replied(answers[0]).Status != 200 {
		t.Error("a clock that is a little wrong keeps a device out")
	}
}

// Clients are confined to their own branch by their key, and to what their
// certificate says they are.
func TestBranchesOverMQTT(t *testing.T) {
	w := opened(t)
	list := w.units(2)
	unit, thief := list[0], list[1]
	c := w.mqtt(thief, "x")
	for _, filter := range []string{"#", "+/#", "touchmark/#", "touchmark/v1/+/reply", branchOf(unit) + "/reply", branchOf(unit) + "/#", "$SYS/#", "$share/g/" + branchOf(thief) + "/reply", branchOf(thief) + "x/#", branchOf(thief)} {
		if code := c.subscribe(filter); code != mqtttest.SubscriptionRefused {
			t.Errorf("subscribing to %s: %#x", filter, code)
		}
	}
	for _, topic := range []string{branchOf(unit) + "/request", branchOf(thief) + "/reply", branchOf(thief) + "/notice", "touchmark/v1/x/request", "x"} {
		c := w.mqtt(thief, "x")
		if answers, cut := c.publish(topic, []byte("x")); !cut || len(answers) != 0 {
			t.Errorf("publishing to %s went through", topic)
		}
	}

	// Another's client identifier takes nothing over.
	victim := w.mqtt(unit, "same")
	victim.subscribe(branchOf(unit) + "/reply")
	w.mqtt(thief, "same")
	if answers, cut := victim.publish(branchOf(unit)+"/request", w.signed(unit, w.now(), w.order(unit, "enrol", nonce1))); cut || len(answers) != 1 {
		t.Errorf("a client of the same identifier disturbed it: %d answers, cut off: %v", len(answers), cut)
	}

	if c, err := w.dialMQTT(pair{}); err == nil {
		if _, err := c.connect("x", mqtttest.CleanSession); err == nil {
			t.Error("a client without a certificate was let in")
		}
	}
}

// The door has the bounds of the others.
func TestBoundsOverMQTT(t *testing.T) {
	w := opened(t, func(c *Config) {
		c.Exempt = nil
		c.MQTT.RequestRate, c.MQTT.MaxPerAddress, c.MQTT.HeaderTimeout = 1, 2, Duration(time.Second)
	})
	unit := w.units(1)[0]
	c := w.mqtt(unit, "x")
	cut := false
	for range leastBurst + 1 {
		if _, cut = c.publish(branchOf(unit)+"/request", nil); cut {
			break
		}
	}
	if !cut || w.server.wasShed("mqtt", shedRequestRate) != 1 {
		t.Error("a client that sends without end is served without end")
	}
	// One that says nothing after the handshake is sent away.
	silent, err := w.dialMQTT(unit)
	if err != nil {
		t.Fatal(err)
	}
	if _, _, err := silent.read(); err == nil || strings.Contains(err.Error(), "timeout") {
		t.Errorf("a silent client was read: %v", err)
	}
}

// What is kept for one client has a bound.
func TestSubscriptionsAreBounded(t *testing.T) {
	w := opened(t)
	unit := w.units(1)[0]
	c := w.mqtt(unit, "x")
	for i := range 1000 {
		if err := c.SetReadDeadline(time.Now().Add(answerTime)); err != nil {
			t.Fatal(err)
		}
		if _, err := c.Subscribe(fmt.Sprintf("%s/reply/%d", branchOf(unit), i)); err != nil {
			return
		}
	}
	t.Error("1000 subscriptions were taken")
}

// Who reads its branch is told to renew, of its revocation, and that it has
// another owner; nobody else is.
func TestNoticesOverMQTT(t *testing.T) {
	w := opened(t)
	list := w.units(2)
	unit := w.enrol(tls.VersionTLS13, list[0], "simpleenroll", nil)
	other := w.enrol(tls.VersionTLS13, list[1], "simpleenroll", nil)
	reader := func(p pair) *mqttClient {
		c := w.mqtt(p, "x")
		if code := c.subscribe(branchOf(p) + "/notice"); code != 1 {
			t.Fatalf("SUBSCRIBE: %#x", code)
		}
		return c
	}
	mine, others := reader(unit), reader(other)
	if err := w.server.notices.filter.Check(); err != nil { // an event that there is not would never be told
		t.Error(err)
	}
	told := func(c *mqttClient, p pair, want string) {
		t.Helper()
		kind, body, err := c.read()
		m, ok := mqtttest.Published(kind, body)
		if err != nil || !ok || m.Topic != branchOf(p)+"/notice" {
			t.Fatalf("%x on %s, %v; want the notice %s", kind, m.Topic, err, want)
		}
		content, by, err := cms.Open(m.Payload, 1<<16)
		own, certErr := w.server.certificate.Get(nil)
		if err != nil || certErr != nil || !by.Certificate.Equal(own.Leaf) {
			t.Fatalf("the notice is signed by %v: %v, %v", by.Certificate, err, certErr)
		}
		var n mqtt.Notice
		if err := json.Unmarshal(content, &n); err != nil || n.Notice != want || n.Certificate != hex.EncodeToString(p.cert.SerialNumber.Bytes()) || n.Event == "" {
			t.Errorf("%s, %v; want %s", content, err, want)
		}
	}
	store := w.server.store
	w.ask(fmt.Sprintf("/devices/%d/revoke", w.device("S-0").ID), map[string]string{"note": "t", "reason": "keyCompromise"}, 200, nil)
	told(mine, unit, mqtt.Revoked)
	if _, err := store.CreateOwner(t.Context(), storetest.By, &vetting.Owner{Name: "acme"}); err != nil {
		t.Fatal(err)
	}
	offer, err := store.OfferTransfer(t.Context(), storetest.By, vetting.Offer{From: vetting.Manufacturer, To: "acme", Serials: []string{"S-1"}})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := store.AcceptTransfer(t.Context(), storetest.By, offer.ID, "received"); err != nil {
		t.Fatal(err)
	}
	told(others, other, mqtt.OwnerChanged) // the first that it is told: S-0's went to S-0 alone
}

// Firmware that speaks AWS IoT fleet provisioning gets its certificate, in both
// formats, and its answers go to nobody else.
func TestFleetProvisioning(t *testing.T) {
	w := opened(t)
	list := w.units(3)
	const create = "$aws/certificates/create-from-csr/"
	for i, format := range []string{"json", "cbor"} {
		unit, marshal, unmarshal := list[i], json.Marshal, json.Unmarshal
		if format == "cbor" {
			marshal, unmarshal = cbor.Marshal, cbor.Unmarshal
		}
		c, bystander := w.mqtt(unit, "x"), w.mqtt(list[2], "x")
		product := w.device(fmt.Sprint("S-", i)).Product
		provision := "$aws/provisioning-templates/" + product + "/provision/" + format
		for _, topic := range []string{create + format, provision} {
			for _, level := range []string{"/accepted", "/rejected"} {
				if code := c.subscribe(topic + level); code != 1 {
					t.Fatalf("SUBSCRIBE %s: %#x", topic+level, code)
				}
				bystander.subscribe(topic + level)
			}
		}
		ask := func(topic string, in any, into any) {
			t.Helper()
			payload, err := marshal(in)
			if err != nil {
				t.Fatal(err)
			}
			answers, cut := c.publish(topic, payload)
			if cut || len(answers) != 1 {
				t.Fatalf("%d answers, cut off: %v", len(answers), cut)
			}
			if err := unmarshal(answers[0], into); err != nil {
				t.Fatalf("%q: %v", answers[0], err)
			}
		}
		_, csr := w.request(nil)
		var made struct {
			Token string `json:"certificateOwnershipToken"`
			ID    string `json:"certificateId"`
			PEM   string `json:"certificatePem"`
		}
		ask(create+format, map[string]string{"certificateSigningRequest": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: csr}))}, &made)
		block, _ := pem.Decode([]byte(made.PEM))
		if block == nil || made.Token == "" {
			t.Fatalf("%s: %+v", format, made)
		}
		if sum := sha256.Sum256(block.Bytes); made.ID != hex.EncodeToString(sum[:]) {
			t.Errorf("the certificate's ID is %s", made.ID)
		}
		var thing struct {
			Name string `json:"thingName"`
		}
		ask(provision, map[string]any{"certificateOwnershipToken": made.Token, "parameters": map[string]string{"SerialNumber": fmt.Sprint("S-", i)}}, &thing)
		if thing.Name != fmt.Sprint("S-", i) {
			t.Errorf("the thing is %q", thing.Name)
		}
		var rejected struct {
			Status    int    `json:"statusCode"`
			ErrorCode string `json:"errorCode"`
			Message   string `json:"errorMessage"`
		}
		for name, in := range map[string]any{
			"another's serial number": map[string]any{"certificateOwnershipToken": made.Token, "parameters": map[string]string{"SerialNumber": "S-9"}},
			"a token of nobody's":     map[string]any{"certificateOwnershipToken": "AAAA"},
			"no map":                  []int{1},
		} {
			if ask(provision, in, &rejected); rejected.Status < 400 || rejected.ErrorCode == "" || rejected.Message == "" {
				t.Errorf("%s: %+v", name, rejected)
			}
		}
		ask(create+format, map[string]string{"certificateSigningRequest": "none"}, &rejected)
		if rejected.Status != 400 || !strings.Contains(rejected.Message, "PEM") {
			t.Errorf("a CSR that is none: %+v", rejected)
		}
		// The bystander, who reads the same topics, got nothing: the first that
		// it is sent is the answer to its ping.
		if err := bystander.Send(mqtttest.Pingreq); err != nil {
			t.Fatal(err)
		}
		if kind, _, err := bystander.read(); err != nil || kind != mqtttest.Pingresp {
			t.Errorf("another client was sent %#x, %v", kind, err)
		}
	}
	w.enrolled(2)
}
