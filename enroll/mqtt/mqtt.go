// Package mqtt is the door over MQTT (3.1.1 and 5): it turns messages into
// claims, and outcomes into messages, and decides nothing. It knows no broker;
// internal/broker and internal/cluster carry the messages.
//
// A request is a CMS SignedData by the device's key, published to the request
// topic of that key's branch; what counts is whose key signed, not which topic
// or which user of a broker it came by. The reply is a CMS SignedData by the
// server, on the topic that the request names in the signer's branch and
// nowhere else; docs/decisions/mqtt.md says why.
package mqtt

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/attest"
	"github.com/touchmark/touchmark/enroll/httperr"
	"github.com/touchmark/touchmark/internal/cms"
	"github.com/touchmark/touchmark/vetting"
)

// Enroller judges requests.
type Enroller interface {
	Enroll(ctx context.Context, r enroll.Request) (enroll.Outcome, error)
}

// Identifier tells who a certificate speaks for, whose key is proved to be
// its holder's, with the issuers' certificates that it came with;
// enroll.Authenticator implements it.
type Identifier interface {
	Identify(ctx context.Context, cert *x509.Certificate, issuers ...*x509.Certificate) (enroll.Client, error)
}

// Products finds a product by its name; a vetting.NotFound error if there is
// none.
type Products interface {
	Product(ctx context.Context, name string) (*vetting.Product, error)
}

// Witness keeps what smells of an attack.
type Witness interface {
	// Suspicious keeps evidence of a kind about the device whose key signed a
	// message, if it is one that is known. Who sent the message is not known,
	// so it does not speak against the device.
	Suspicious(ctx context.Context, c vetting.Claim, kind vetting.EvidenceKind, text string) error
}

// Handler answers requests.
type Handler struct {
	Enroller Enroller
	Clients  Identifier
	Lives    enroll.Lives
	Products Products
	TPM      *attest.Attestor
	Witness  Witness
	// CACerts are the CA certificates that go with an official one, as DER.
	CACerts func() [][]byte
	// Signatory signs replies.
	Signatory func() (cms.Signatory, error)
	// Refused counts messages that were refused, by the reason.
	Refused func(reason string)
	Log     *slog.Logger
	Now     func() time.Time
	// Window is how far a message's signing time may be from the clock.
	Window time.Duration

	seen   *memory
	secret [32]byte // of ownership tokens, which count at this server only
}

// MaxMessage is the longest message that is looked at, in bytes. A request
// with the longest CSR and an RSA-4096 certificate fits.
const MaxMessage = 32 << 10

// mostSeen bounds the memory of messages to about 20 MB.
const mostSeen = 1 << 18

// Ready makes the handler ready for messages, once its fields are set.
func (h *Handler) Ready() *Handler {
	h.seen = newMemory(2*h.Window, mostSeen)
	rand.Read(h.secret[:])
	return h
}

// Message is what is published.
type Message struct {
	Topic   string
	Payload []byte
}

// Why a message is refused without an answer: none can be addressed, or it
// would help nobody.
const (
	refusedTopic      = "topic"
	refusedSize       = "oversized"
	refusedSignature  = "unsigned"
	refusedAddress    = "re-addressed"
	refusedContent    = "malformed"
	refusedReplyTopic = "reply-topic"
	refusedStale      = "stale"
	refusedSigner     = "signer"
	repeated          = "repeated"
)

// Serve answers a message that was published to a topic. remote is where from,
// as far as the carrier knows. There is no reply (nil) to what is not signed,
// is in another key's branch, or came before. An error says that the message
// could not be worked on by the end of ctx and should come again.
func (h *Handler) Serve(ctx context.Context, topic string, payload []byte, remote string) (*Message, error) {
	branch, ok := requested(topic)
	switch {
	case !ok:
		return h.refuse(ctx, refusedTopic, topic, remote, nil)
	case len(payload) > MaxMessage:
		return h.refuse(ctx, refusedSize, topic, remote, nil)
	}
	content, by, err := cms.Open(payload, MaxMessage)
	if err != nil {
		return h.refuse(ctx, refusedSignature, topic, remote, err)
	}
	x := &exchange{signer: by, remote: remote, digest: sha256.Sum256(payload), branch: BranchOf(by.Certificate)}
	if x.branch != branch {
		h.suspect(ctx, x, vetting.EvidenceReaddressed, "A message that its key signed was published in the branch of the key %s.", vetting.Fingerprint(branch))
		return h.refuse(ctx, refusedAddress, topic, remote, nil)
	}
	if x.request, err = parseRequest(content); err != nil {
		return h.refuse(ctx, refusedContent, topic, remote, err)
	}
	if err := x.branch.checkReply(x.request.Reply); err != nil {
		h.suspect(ctx, x, vetting.EvidenceReaddressed, "A message that its key signed asks for its reply outside of the key's branch.")
		return h.refuse(ctx, refusedReplyTopic, topic, remote, err)
	}
	if !h.seen.first(x.digest, h.Now()) {
		return h.refuse(ctx, repeated, topic, remote, nil)
	}
	out, err := h.answer(ctx, x)
	switch {
	case errors.Is(err, enroll.ErrRepeated):
		return h.refuse(ctx, repeated, topic, remote, nil)
	case err != nil:
		h.seen.forget(x.digest)
	}
	return out, err
}

// refuse counts a message that gets no answer.
func (h *Handler) refuse(ctx context.Context, reason, topic, remote string, err error) (*Message, error) {
	h.Refused(reason)
	h.Log.InfoContext(ctx, "a message over MQTT was refused", "reason", reason, "topic", clip(topic), "remote", remote, "error", err)
	return nil, nil
}

func clip(s string) string {
	if len(s) > maxTopic {
		return s[:maxTopic] + "…"
	}
	return s
}

// exchange is one request with what is known of it.
type exchange struct {
	signer  cms.Signer
	branch  Branch // the signer's
	digest  digest
	remote  string
	request *request
	client  enroll.Client
}

// answer works on a request and signs the reply.
func (h *Handler) answer(ctx context.Context, x *exchange) (*Message, error) {
	r, err := h.run(ctx, x)
	if errors.Is(err, enroll.ErrRepeated) {
		return nil, err
	}
	if err != nil {
		a := httperr.Of(ctx, err, h.Log, h.Now(), "operation", x.request.Operation, "key", vetting.Fingerprint(x.branch), "remote", x.remote)
		if a.Status == 0 {
			return nil, fmt.Errorf("answer a request over MQTT: %w", err)
		}
		r = &reply{Status: a.Status, Text: a.Text, RetryAfter: seconds(a.RetryAfter)}
	}
	r.Nonce, r.Request = x.request.Nonce, x.digest.String()
	by, err := h.Signatory()
	if err != nil {
		return nil, err
	}
	return h.signed(x.request.Reply, r, by)
}

// signed makes a message of the server.
func (h *Handler) signed(topic string, content any, by cms.Signatory) (*Message, error) {
	text, err := json.Marshal(content)
	if err != nil {
		return nil, err
	}
	payload, err := cms.Sign(text, by, h.Now())
	if err != nil {
		return nil, fmt.Errorf("sign a message over MQTT: %w", err)
	}
	return &Message{topic, payload}, nil
}

// seconds is a duration in whole seconds, at least one unless it is 0.
func seconds(d time.Duration) int64 {
	return int64((d + time.Second - 1) / time.Second)
}

var errRig = httperr.New(http.StatusForbidden, "a rig cannot enrol devices over MQTT: it does so over EST")

func (h *Handler) run(ctx context.Context, x *exchange) (*reply, error) {
	if err := h.fresh(ctx, x); err != nil {
		return nil, err
	}
	var err error
	if x.client, err = h.Clients.Identify(ctx, x.signer.Certificate, x.signer.Others...); err != nil {
		return nil, err
	}
	if x.client.Auth.Proof == vetting.ProofRig {
		return nil, errRig
	}
	switch x.request.Operation {
	case opActivate:
		return h.activate(ctx, x)
	case opEnrol, opRenew:
		return h.enrol(ctx, x)
	case opTPMChallenge, opTPMEnrol:
		return h.byTPM(ctx, x)
	}
	return nil, enroll.BadRequest("there is no operation %q: there are %s, %s, %s, %s and %s", clip(x.request.Operation), opEnrol, opRenew, opActivate, opTPMChallenge, opTPMEnrol)
}

// fresh refuses a message that was signed too long ago, or is ahead of time.
// Either its device's clock is wrong, which it is told, or somebody kept it.
func (h *Handler) fresh(ctx context.Context, x *exchange) error {
	at, now := x.signer.SigningTime, h.Now()
	if off := now.Sub(at).Abs(); !at.IsZero() && off <= h.Window {
		return nil
	}
	h.Refused(refusedStale)
	if at.IsZero() {
		return enroll.BadRequest("the message has no signing time (RFC 5652 §11.3): it must be signed anew for each request")
	}
	h.suspect(ctx, x, vetting.EvidenceReplayed, "A message that its key had signed at another time came: either its clock is wrong, or somebody kept the message.")
	return enroll.BadRequest("the message was signed at %s, and it is %s now: set the clock, or sign the request anew; at most %s of difference are accepted",
		at.UTC().Format(time.RFC3339), now.UTC().Format(time.RFC3339), h.Window)
}

// suspect keeps what smells of an attack. That it cannot be kept is no reason
// to answer otherwise.
func (h *Handler) suspect(ctx context.Context, x *exchange, kind vetting.EvidenceKind, format string, args ...any) {
	c, err := h.Clients.Identify(ctx, x.signer.Certificate, x.signer.Others...)
	if err == nil {
		claim := vetting.Claim{At: h.Now(), Key: c.Auth.Key, Auth: c.Auth, Asserted: c.Asserted, Transport: transport, Remote: x.remote}
		err = h.Witness.Suspicious(ctx, claim, kind, fmt.Sprintf(format, args...))
	}
	if err != nil {
		h.Log.WarnContext(ctx, "a suspicious message over MQTT was not kept as evidence", "kind", kind, "key", vetting.Fingerprint(x.branch), "error", err)
	}
}

// transport is the door's name in claims.
const transport = "mqtt"

func (h *Handler) activate(ctx context.Context, x *exchange) (*reply, error) {
	a, err := enroll.Activate(ctx, h.Lives, x.client)
	if err != nil {
		return nil, err
	}
	return &reply{Status: http.StatusOK, Activation: &a}, nil
}

// enrol is a first enrolment by the bootstrap key, or a renewal by the
// official one.
func (h *Handler) enrol(ctx context.Context, x *exchange) (*reply, error) {
	if official := x.client.Auth.Proof == vetting.ProofOfficial; official != (x.request.Operation == opRenew) {
		return nil, httperr.New(http.StatusForbidden, "%s is signed by the bootstrap key, %s by the official one; this is %s, signed by the other", opEnrol, opRenew, x.request.Operation)
	}
	if err := h.checkProduct(ctx, x.request.Product); err != nil {
		return nil, err
	}
	out, err := h.certify(ctx, x.client, x.request.CSR, vetting.Claim{Label: x.request.Product, Message: x.digest, Remote: x.remote})
	if err != nil {
		return nil, err
	}
	return h.outcome(out), nil
}

// certify asks for a certificate on a CSR's key. The claim holds what the way
// of the request told; who asks and for what is added. By an official
// certificate it is a renewal.
func (h *Handler) certify(ctx context.Context, client enroll.Client, der []byte, c vetting.Claim) (enroll.Outcome, error) {
	csr, err := enroll.ParseCSR(der)
	if err != nil {
		return enroll.Outcome{}, err
	}
	c.At, c.Key, c.Subject, c.Transport = h.Now(), vetting.KeyFingerprint(csr.RawSubjectPublicKeyInfo), csr.RawSubject, transport
	c.Auth, c.Asserted, c.Vendors = client.Auth, client.Asserted, client.Vendors
	r := enroll.Request{CSR: csr, Claim: c}
	if client.Auth.Proof == vetting.ProofOfficial {
		r.Presented = client.Certificate
	}
	return h.Enroller.Enroll(ctx, r)
}

func (h *Handler) checkProduct(ctx context.Context, name string) error {
	if name == "" {
		return nil
	}
	_, err := h.Products.Product(ctx, name)
	if vetting.ProblemOf(err) == vetting.NotFound {
		return httperr.New(http.StatusNotFound, "there is no product %q: give a product's name, or none", clip(name))
	}
	return err
}

func (h *Handler) outcome(out enroll.Outcome) *reply {
	switch out.Verdict {
	case vetting.Admitted:
		return &reply{Status: http.StatusOK, Certificate: out.Certificate, CAs: h.CACerts()}
	case vetting.Held:
		return &reply{Status: http.StatusAccepted, Text: out.Text(), RetryAfter: max(1, seconds(out.RetryAfter))}
	}
	return &reply{Status: http.StatusForbidden, Text: out.Text(), RetryAfter: seconds(out.RetryAfter)}
}
