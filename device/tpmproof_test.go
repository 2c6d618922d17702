package device

import (
	"bytes"
	"crypto"
	"crypto/x509"
	"encoding/json"
	"errors"
	"net"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"
)

// FuzzTPMChallenge: what is taken is within what a TPM makes, and whole.
func FuzzTPMChallenge(f *testing.F) {
	f.Add([]byte(`{"credential":"AAE=","secret":"AAE=","challenge":"x","expires":"2026-11-21T12:10:00Z","pcrs":[0,7]}`))
	f.Add([]byte(`{"credential":"","secret":"AA==","challenge":"x"}`))
	f.Add([]byte(`{"credential":"AAE=","secret":"AAE=","challenge":"x","pcrs":[24]}`))
	f.Add([]byte(`[]`))
	f.Fuzz(func(t *testing.T, body []byte) {
		ch, err := parseTPMChallenge(body)
		if err != nil {
			return
		}
		if len(ch.Credential) == 0 || len(ch.Credential) > maxCredential || len(ch.Secret) == 0 || len(ch.Secret) > maxCredential || ch.Challenge == "" || len(ch.PCRs) > registers {
			t.Errorf("taken: %+v", ch)
		}
		for _, n := range ch.PCRs {
			if n >= registers {
				t.Errorf("register %d was taken", n)
			}
		}
		again, err := json.Marshal(tpmSecond{Challenge: ch.Challenge})
		var back struct{ Challenge string }
		if err != nil || json.Unmarshal(again, &back) != nil || back.Challenge != ch.Challenge {
			t.Errorf("the challenge %q goes back as %q: %v", ch.Challenge, back.Challenge, err)
		}
	})
}

// FuzzNotice: nothing that no trusted server signed is a notice, and what a
// broker delivers is a part of what it sent.
func FuzzNotice(f *testing.F) {
	f.Add(byte(0x30), []byte("\x00\x01tmessage"))
	f.Add(byte(0x32), []byte("\x00\x01t\x00\x07message"))
	f.Add(byte(0x32), []byte("\xff\xff"))
	f.Fuzz(func(t *testing.T, kind byte, body []byte) {
		p := &packets{conn: discard{}}
		message, err := p.delivered(kind, body)
		if err != nil {
			return
		}
		if !bytes.HasSuffix(body, message) {
			t.Errorf("%x was delivered of %x", message, body)
		}
		if n, err := parseNotice(message, x509.NewCertPool(), time.Now()); err == nil {
			t.Errorf("taken: %+v", n)
		}
	})
}

// discard is a connection that takes what is written.
type discard struct{ net.Conn }

func (discard) Write(b []byte) (int, error) { return len(b), nil }

// chip is a TPM that says what it is told to.
type chip struct{ asked *TPMChallenge }

func (c *chip) Identify() (TPMProver, error) { return c, nil }

func (c *chip) Message() (m TPMIdentity) {
	m.EK.Public, m.AK.Public = []byte("ek"), []byte("ak")
	return m
}

func (c *chip) Prove(ch *TPMChallenge, _ crypto.Signer) (*TPMProof, error) {
	c.asked = ch
	return &TPMProof{Answer: []byte("answer")}, nil
}

// TestProofIsAnswered: what a server may answer to the two messages, and what
// the device makes of it.
func TestProofIsAnswered(t *testing.T) {
	const good = `{"credential":"AAE=","secret":"AAE=","challenge":"opaque","pcrs":[7]}`
	for _, c := range []struct {
		what, first, second string
		status              int
		wait                string
		check               func(error) bool
	}{
		{what: "a challenge that is none", first: `{"credential":"AAE="}`, check: is(func(*ReplyError) bool { return true })},
		{what: "no JSON", first: `hello`, check: is(func(*ReplyError) bool { return true })},
		{what: "held", first: good, second: `{"text":"a person must decide"}`, status: 202, wait: "60",
			check: is(func(e *PendingError) bool { return e.RetryAfter == time.Minute && e.Text == "a person must decide" })},
		{what: "refused", first: good, second: `{"detail":"the TPM of another device"}`, status: 403,
			check: is(func(e *StatusError) bool { return e.Final() && e.Text == "the TPM of another device" })},
		{what: "too late", first: good, second: `{"detail":"the challenge is too old"}`, status: 401,
			check: is(func(e *StatusError) bool { return !e.Final() })},
		{what: "busy", first: good, second: `busy`, status: 503, wait: "9",
			check: is(func(e *StatusError) bool { return !e.Final() && e.RetryAfter == 9*time.Second })},
		{what: "a certificate that is none", first: good, second: `{"certificate":"AAE="}`, status: 200, check: is(func(*ReplyError) bool { return true })},
	} {
		var messages []map[string]any
		server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			var m map[string]any
			if err := json.NewDecoder(r.Body).Decode(&m); err != nil {
				t.Error(err)
			}
			messages = append(messages, m)
			if strings.HasSuffix(r.URL.Path, "/challenge") {
				_, _ = w.Write([]byte(c.first))
				return
			}
			w.Header().Set("Retry-After", c.wait)
			w.WriteHeader(c.status)
			_, _ = w.Write([]byte(c.second))
		}))
		d := &Device{Serial: "SN-1", Store: new(MemoryStore), Prover: new(chip), Client: &Client{URL: server.URL, Label: "edge"}}
		_, err := d.PowerOn(t.Context())
		server.Close()
		if err == nil || !c.check(err) {
			t.Errorf("%s: %v", c.what, err)
		}
		if len(messages) == 2 {
			m := messages[1]
			if m["serial"] != "SN-1" || m["product"] != "edge" || m["challenge"] != "opaque" || m["answer"] == nil || m["csr"] == nil || m["ek"] == nil || m["ak"] == nil || m["key"] == nil {
				t.Errorf("%s: the second message is %v", c.what, m)
			}
		}
		if _, err := d.Store.Load(Official); !errors.Is(err, ErrEmpty) {
			t.Errorf("%s: there is an official key: %v", c.what, err)
		}
	}
}

// is reports on errors of a type.
func is[E error](good func(E) bool) func(error) bool {
	return func(err error) bool {
		var e E
		return errors.As(err, &e) && good(e)
	}
}
