package mqtt

import (
	"context"
	"crypto/hmac"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/binary"
	"encoding/hex"
	"encoding/pem"
	"net/http"
	"strings"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/httperr"
	"github.com/touchmark/touchmark/vetting"
)

// The topics of AWS IoT fleet provisioning, which much firmware has built in.
// Answers go to the topic with accepted or rejected below it, and only to the
// client that asked: these topics are the same for all devices.
const (
	createTopic     = "$aws/certificates/create-from-csr/"
	templatesTopic  = "$aws/provisioning-templates/"
	provisionMiddle = "/provision/"
	acceptedLevel   = "/accepted"
	rejectedLevel   = "/rejected"
)

// tokenLife is how long a certificate ownership token counts.
const tokenLife = time.Hour

// call is one request of the compatible shape.
type call struct {
	topic    string
	codec    codec
	template string // "" for create-from-csr
	client   enroll.Client
	remote   string
}

// parseCall reads a topic.
func parseCall(topic string) (c call, ok bool) {
	c.topic = topic
	format, create := strings.CutPrefix(topic, createTopic)
	if !create {
		rest, provision := strings.CutPrefix(topic, templatesTopic)
		if c.template, format, ok = strings.Cut(rest, provisionMiddle); !provision || !ok || c.template == "" || strings.Contains(c.template, "/") {
			return c, false
		}
	}
	c.codec, ok = codecs[format]
	return c, ok
}

// Provides reports whether a topic is of the compatible shape. Any device may
// publish to it, and read its answers.
func Provides(topic string) bool {
	_, ok := parseCall(topic)
	return ok
}

func mayReadAnswers(filter string) bool {
	topic, ok := strings.CutSuffix(filter, acceptedLevel)
	if !ok {
		topic, ok = strings.CutSuffix(filter, rejectedLevel)
	}
	return ok && !strings.ContainsAny(topic, "+#") && Provides(topic)
}

type (
	createRequest struct {
		CSR string `json:"certificateSigningRequest"` // PEM
	}
	createAnswer struct {
		Token string `json:"certificateOwnershipToken"`
		ID    string `json:"certificateId"` // SHA-256 of the certificate's DER, in hex
		PEM   string `json:"certificatePem"`
	}
	provisionRequest struct {
		Token      string            `json:"certificateOwnershipToken"`
		Parameters map[string]string `json:"parameters"`
	}
	provisionAnswer struct {
		Configuration map[string]string `json:"deviceConfiguration"`
		Thing         string            `json:"thingName"`
	}
	rejection struct {
		Status     int    `json:"statusCode"`
		Code       string `json:"errorCode"`
		Text       string `json:"errorMessage"`
		RetryAfter int64  `json:"retryAfter,omitempty"` // seconds
	}
)

// Provision answers a request of the compatible shape, by a client who has
// proved in the TLS handshake that it holds the key of the first of the
// certificates that it showed. Nothing in
// the message proves anything: it must not come over any other broker than the
// one in the process. The answer is for that client alone.
func (h *Handler) Provision(ctx context.Context, shown []*x509.Certificate, topic string, payload []byte, remote string) (*Message, error) {
	c, ok := parseCall(topic)
	if !ok {
		return h.refuse(ctx, refusedTopic, topic, remote, nil)
	}
	c.remote = remote
	answer, err := h.provide(ctx, &c, shown, payload)
	if err != nil {
		a := httperr.Of(ctx, err, h.Log, h.Now(), "topic", topic, "remote", remote)
		if a.Status == 0 {
			return nil, err
		}
		answer = rejection{a.Status, errorCodes[a.Status], a.Text, seconds(a.RetryAfter)}
	}
	level := acceptedLevel
	if _, rejected := answer.(rejection); rejected {
		level = rejectedLevel
	}
	text, err := c.codec.marshal(answer)
	if err != nil {
		return nil, err
	}
	return &Message{c.topic + level, text}, nil
}

// errorCodes name statuses for programs.
var errorCodes = map[int]string{
	http.StatusBadRequest: "InvalidRequest", http.StatusForbidden: "Refused", http.StatusNotFound: "TemplateNotFound",
	http.StatusTooManyRequests: "Throttled", http.StatusServiceUnavailable: "ServiceUnavailable", http.StatusAccepted: "Held",
}

func (h *Handler) provide(ctx context.Context, c *call, shown []*x509.Certificate, payload []byte) (any, error) {
	if len(payload) > MaxMessage {
		return nil, enroll.BadRequest("the message is %d bytes long: at most %d are accepted", len(payload), MaxMessage)
	}
	var err error
	if c.client, err = h.Clients.Identify(ctx, shown[0], shown[1:]...); err != nil {
		return nil, err
	}
	if c.client.Auth.Proof == vetting.ProofRig {
		return nil, errRig
	}
	if c.template != "" {
		return h.provisionThing(ctx, c, payload)
	}
	return h.create(ctx, c, payload)
}

// create is the enrolment: a certificate is made only for a device that is let
// in, and a token to go on with.
func (h *Handler) create(ctx context.Context, c *call, payload []byte) (any, error) {
	var in createRequest
	if err := c.codec.unmarshal(payload, &in); err != nil {
		return nil, err
	}
	block, rest := pem.Decode([]byte(in.CSR))
	if block == nil || block.Type != "CERTIFICATE REQUEST" || len(strings.TrimSpace(string(rest))) > 0 {
		return nil, enroll.BadRequest("certificateSigningRequest is not one PKCS#10 request in PEM (CERTIFICATE REQUEST)")
	}
	out, err := h.certify(ctx, c.client, block.Bytes, vetting.Claim{Remote: c.remote})
	if err != nil {
		return nil, err
	}
	switch out.Verdict {
	case vetting.Admitted:
	case vetting.Held:
		return rejection{http.StatusAccepted, errorCodes[http.StatusAccepted], out.Text(), max(1, seconds(out.RetryAfter))}, nil
	default:
		return rejection{http.StatusForbidden, errorCodes[http.StatusForbidden], out.Text(), seconds(out.RetryAfter)}, nil
	}
	cert, err := x509.ParseCertificate(out.Certificate)
	if err != nil {
		return nil, err
	}
	id := sha256.Sum256(out.Certificate)
	return createAnswer{
		Token: h.token(c.client.Auth.Key, enroll.SerialHex(cert), h.Now().Add(tokenLife)), ID: hex.EncodeToString(id[:]),
		PEM: string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: out.Certificate})),
	}, nil
}

// provisionThing tells the device its name. It changes nothing: the device was
// vetted when its certificate was made, and is active when it uses that.
func (h *Handler) provisionThing(ctx context.Context, c *call, payload []byte) (any, error) {
	var in provisionRequest
	if err := c.codec.unmarshal(payload, &in); err != nil {
		return nil, err
	}
	serial, ok := h.owned(c.client.Auth.Key, in.Token)
	if !ok {
		return nil, enroll.BadRequest("the certificateOwnershipToken was not given to this key by this server, or more than %s ago: call create-from-csr again, which gives the same certificate", tokenLife)
	}
	s, err := h.Lives.Standing(ctx, serial)
	if err != nil {
		return nil, err
	}
	if s.Product.Name != c.template {
		return nil, httperr.New(http.StatusNotFound, "the template is %q, but the device's product is another: the template's name is the product's", clip(c.template))
	}
	if named := in.Parameters["SerialNumber"]; named != "" && named != s.Device.Serial {
		return nil, httperr.New(http.StatusForbidden, "the parameter SerialNumber is not the device's serial number")
	}
	return provisionAnswer{map[string]string{}, s.Device.Serial}, nil
}

// token binds a certificate to the key that asked for it.
func (h *Handler) token(key vetting.Fingerprint, serial string, until time.Time) string {
	body := append(binary.BigEndian.AppendUint64(nil, uint64(until.Unix())), serial...)
	return base64.RawURLEncoding.EncodeToString(append(h.seal(key, body), body...))
}

// owned reads a token of that key.
func (h *Handler) owned(key vetting.Fingerprint, token string) (serial string, ok bool) {
	raw, err := base64.RawURLEncoding.DecodeString(token)
	if err != nil || len(raw) < sha256.Size+8 {
		return "", false
	}
	seal, body := raw[:sha256.Size], raw[sha256.Size:]
	if !hmac.Equal(seal, h.seal(key, body)) || h.Now().Unix() > int64(binary.BigEndian.Uint64(body)) {
		return "", false
	}
	return string(body[8:]), true
}

func (h *Handler) seal(key vetting.Fingerprint, body []byte) []byte {
	m := hmac.New(sha256.New, h.secret[:])
	m.Write(key[:])
	m.Write(body)
	return m.Sum(nil)
}
