package server

import (
	"crypto/ecdsa"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"fmt"
	"net"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/internal/mqtttest"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/vendorid/vendoridtest"
)

// chipMaker is a vendor whose chips a product trusts, with the place where its
// certificates have a chip's UID.
type chipMaker struct {
	*vendoridtest.Maker
	rule vetting.NameRule
	// template is the certificate of the chip with a UID.
	template func(uid string) *x509.Certificate
}

func chipMakers(t *testing.T) map[string]chipMaker {
	named := func(name pkix.Name) *x509.Certificate { return &x509.Certificate{Subject: name} }
	return map[string]chipMaker{
		"common-name": {vendoridtest.New(t, "One"), vetting.NameRule{From: "subject.commonName", Pattern: "sn([0-9A-F]+)"},
			func(uid string) *x509.Certificate { return named(pkix.Name{CommonName: "sn" + strings.ToUpper(uid)}) }},
		"serial-number": {vendoridtest.New(t, "Two"), vetting.NameRule{From: "subject.serialNumber"},
			func(uid string) *x509.Certificate { return named(pkix.Name{CommonName: "chip", SerialNumber: uid}) }},
		"hardware-module": {vendoridtest.New(t, "Three"), vetting.NameRule{From: "san.hardwareModuleName"},
			func(uid string) *x509.Certificate {
				return &x509.Certificate{ExtraExtensions: []pkix.Extension{vendoridtest.HardwareModule(t, []byte(uid))}}
			}},
		"permanent-identifier": {vendoridtest.New(t, "Four"), vetting.NameRule{From: "san.permanentIdentifier", Pattern: "uid:(.+)"},
			func(uid string) *x509.Certificate {
				return &x509.Certificate{Subject: pkix.Name{CommonName: "chip"}, ExtraExtensions: []pkix.Extension{vendoridtest.PermanentIdentifier(t, "uid:"+uid)}}
			}},
	}
}

// trusts has the product let devices in by their chips' certificates alone.
func (w *works) trusts(makers map[string]chipMaker) {
	w.t.Helper()
	p := *w.world.Product
	p.Proofs = []vetting.Proof{vetting.ProofVendor}
	for name, m := range makers {
		p.Vendors = append(p.Vendors, vetting.Vendor{Name: name, Anchors: vendoridtest.PEM(m.Root), UID: &m.rule})
	}
	if _, err := w.server.store.UpdateProduct(w.t.Context(), storetest.By, &p); err != nil {
		w.t.Fatal(err)
	}
}

// chip makes a device of which the record knows the chip's UID alone.
func (w *works) chip(m chipMaker, uid string) pair {
	w.t.Helper()
	w.world.Load(w.t, vetting.Record{Row: 1, Identity: vetting.Identity{Serial: "SN-" + uid, UID: uid}})
	return m.chip(uid)
}

func (m chipMaker) chip(uid string) pair {
	p := m.Device(m.template(uid))
	return pair{p.Key, p.Cert}
}

// carriers are the ways of a request over MQTT; each gives status, certificate
// and text of the answer.
func (w *works) carriers(m *mqtttest.Mosquitto) map[string]func(p pair, csr []byte, issuers ...*x509.Certificate) (int, []byte, string) {
	signed := func(c *mqttClient, p pair, csr []byte, issuers []*x509.Certificate) (int, []byte, string) {
		order := w.order(p, "enrol", fmt.Sprintf("%x", sha256.Sum256(append(csr, byte(len(issuers))))))
		order["csr"] = csr
		r := w.replied(c.answerTo(branchOf(p)+"/request", w.signed(p, w.now(), order, issuers...), branchOf(p)+"/reply"))
		return r.Status, r.Certificate, r.Text
	}
	return map[string]func(pair, []byte, ...*x509.Certificate) (int, []byte, string){
		"the broker in the process": func(p pair, csr []byte, issuers ...*x509.Certificate) (int, []byte, string) {
			return signed(w.mqtt(p, "chip"), p, csr, issuers)
		},
		"Mosquitto": func(p pair, csr []byte, issuers ...*x509.Certificate) (int, []byte, string) {
			conn, err := net.Dial("tcp", m.Address)
			if err != nil {
				w.t.Fatal(err)
			}
			c := &mqttClient{w.t, mqtttest.New(conn), answerTime}
			if code, err := c.connect(branchOf(p), mqtttest.CleanSession); err != nil || code != 0 {
				w.t.Fatalf("CONNECT was answered %d, %v", code, err)
			}
			return signed(c, p, csr, issuers)
		},
		"fleet provisioning": func(p pair, csr []byte, issuers ...*x509.Certificate) (int, []byte, string) {
			return w.created(p, csr, issuers...)
		},
	}
}

// A device enrols over MQTT by its chip vendor's certificate, which comes with
// its issuer's: inside the signed message, or in the handshake. What chains to
// nothing that the product trusts leaves no trace.
func TestVendorCertificatesOverMQTT(t *testing.T) {
	m := newMosquitto(t)
	w := opened(t, func(c *Config) { c.MQTT.Broker = MQTTBroker{URL: "mqtt://" + m.Address, ClientID: "touchmark-1"} })
	w.joined()
	makers := chipMakers(t)
	w.trusts(makers)
	forger := vendoridtest.New(t, "One") // the same names, other keys
	issued, asked := int64(0), map[string]bool{}
	for name, maker := range makers {
		for carrier, ask := range w.carriers(m) {
			issued++
			unit := w.chip(maker, fmt.Sprintf("a%03d", issued))
			_, csr := w.request(nil)
			forged := pair{unit.key, forger.Certify(&x509.Certificate{Subject: unit.cert.Subject, NotBefore: vendoridtest.Made, NotAfter: vendoridtest.Forever}, unit.key.(*ecdsa.PrivateKey), forger.Issuing).Cert}
			if status, _, text := ask(forged, csr, forger.Issuing.Cert); status != 403 || !strings.Contains(text, "does not chain") {
				t.Errorf("%s, %s, a forged chain: %d %s", name, carrier, status, text)
			}
			if status, _, text := ask(unit, csr); status != 403 || !strings.Contains(text, "neither") {
				t.Errorf("%s, %s, without its issuer: %d %s", name, carrier, status, text)
			}
			w.enrolled(issued - 1)
			status, der, text := ask(unit, csr, maker.Issuing.Cert)
			if status != 200 {
				t.Fatalf("%s, %s: %d %s", name, carrier, status, text)
			}
			if cert := parsed(t, der); !strings.Contains(cert.Subject.String(), fmt.Sprintf("SN-a%03d", issued)) {
				t.Errorf("%s, %s: the certificate is %s's", name, carrier, cert.Subject)
			}
			asked[carrier] = true
			w.enrolled(issued)
		}
	}
	if issued != 12 || len(asked) != 3 {
		t.Errorf("%d devices by %v", issued, asked)
	}
	if list, err := w.server.store.Evidence(t.Context(), vetting.EvidenceFilter{}, vetting.Page{Limit: 10}); err != nil || len(list) != 0 {
		t.Errorf("evidence %v, %v", list, err)
	}
}

// A second chip with the same name is a copy, over MQTT as well.
func TestCopiedChipOverMQTT(t *testing.T) {
	w := opened(t)
	makers := chipMakers(t)
	w.trusts(makers)
	maker := makers["common-name"]
	genuine, copied := w.chip(maker, "a1"), maker.chip("a1")
	for carrier, ask := range w.carriers(nil) {
		if carrier == "Mosquitto" {
			continue
		}
		_, csr := w.request(nil)
		if status, _, text := ask(genuine, csr, maker.Issuing.Cert); status != 200 {
			t.Fatalf("%s: %d %s", carrier, status, text)
		}
		if status, _, text := ask(copied, csr, maker.Issuing.Cert); status != 403 || !strings.Contains(text, "One of the two is a copy") {
			t.Errorf("%s: %d %s", carrier, status, text)
		}
	}
	w.enrolled(1)
	list, err := w.server.store.Evidence(t.Context(), vetting.EvidenceFilter{Kind: vetting.EvidenceWrongKey}, vetting.Page{Limit: 10})
	if err != nil || len(list) == 0 {
		t.Errorf("evidence %v, %v", list, err)
	}
}
