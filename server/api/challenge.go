package api

import (
	"context"
	"encoding/base64"
	"net/http"
	"strings"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// ChallengeInput asks a device to prove that it holds its official key.
type ChallengeInput struct {
	Device      int64  `json:"device,omitempty" minimum:"1" doc:"The device's number"`
	Certificate string `json:"certificate,omitempty" maxLength:"64" doc:"Instead of the device's number, the serial number of one of its certificates, in hexadecimal"`
	Lifetime    string `json:"lifetime,omitempty" maxLength:"16" doc:"How long the challenge may be answered, between 10s and 1h; absent for 5m"`
}

// AnswerInput is what a device signed, as somebody passes it on.
type AnswerInput struct {
	Signature   string `json:"signature" minLength:"1" maxLength:"2048" doc:"The signature in base64, over the 40 characters \"Touchmark proof of possession, version 1\", a zero byte, the nonce's 32 bytes and the SHA-256 of the key's SubjectPublicKeyInfo. ECDSA in ASN.1 with SHA-256 (SHA-384 on P-384, SHA-512 on P-521), Ed25519, or RSA by PKCS #1 v1.5 with SHA-256"`
	Certificate string `json:"certificate,omitempty" maxLength:"64" doc:"The serial number of the certificate whose key made it, in hexadecimal; absent for the device's current one"`
}

func (a *API) challenges() {
	register(a, access.VerifyDevices, operation{
		id: "createChallenge", method: http.MethodPost, path: "/challenges", tag: tagAuthenticity, status: http.StatusCreated,
		summary: "Challenge a device to prove that it holds its key",
		description: "The device signs the nonce with its official key, and whoever is with it passes the signature on to /challenges/{id}/answer; or it connects to the devices' door with its official certificate and posts to /device/v1/challenges/{nonce}. " +
			"A challenge is answered once, before it expires; after that, or for more than 16 open ones to a device, the answer is 409.",
	}, a.challenge)
	register(a, access.VerifyDevices, operation{
		id: "getChallenge", method: http.MethodGet, path: "/challenges/{id}", tag: tagAuthenticity,
		summary: "Show a challenge, and what its answer came to",
	}, func(ctx context.Context, c *call, in *idInput) (*bodyOutput[vetting.Challenge], error) {
		return answer(c.Challenge(ctx, in.ID))
	})
	register(a, access.VerifyDevices, operation{
		id: "answerChallenge", method: http.MethodPost, path: "/challenges/{id}/answer", tag: tagAuthenticity,
		summary:     "Pass on a device's answer to a challenge",
		description: "A signature that can be read counts as the one answer, right or wrong, and is answered with status 200: see result. Late and second answers are answered with 409.",
	}, func(ctx context.Context, c *call, in *idBody[AnswerInput]) (*bodyOutput[vetting.Challenge], error) {
		signature, err := base64.StdEncoding.DecodeString(strings.Join(strings.Fields(in.Body.Signature), ""))
		if err != nil {
			return nil, invalid("body.signature", "the signature is not base64: %v", err)
		}
		return answer(c.AnswerChallenge(ctx, c.act, in.ID, serialHex(in.Body.Certificate), signature))
	})
}

func (a *API) challenge(ctx context.Context, c *call, in *bodyOf[ChallengeInput]) (*bodyOutput[vetting.Challenge], error) {
	b := in.Body
	if (b.Device == 0) == (b.Certificate == "") {
		return nil, invalid("body", "name the device by its number or by one of its certificates")
	}
	lifetime := vetting.ChallengeLifetime
	if b.Lifetime != "" {
		d, err := time.ParseDuration(b.Lifetime)
		if err != nil || d < vetting.MinChallengeLifetime || d > vetting.MaxChallengeLifetime {
			return nil, invalid("body.lifetime", "the lifetime %q is none between %s and %s, such as 5m", b.Lifetime, vetting.MinChallengeLifetime, vetting.MaxChallengeLifetime)
		}
		lifetime = d
	}
	if b.Certificate != "" {
		cert, err := certificate(ctx, c, b.Certificate)
		if err != nil {
			return nil, err
		}
		b.Device = cert.DeviceID
	}
	return answer(c.CreateChallenge(ctx, c.act, b.Device, lifetime))
}

// serialHex is a certificate's serial number as the store has it.
func serialHex(s string) string { return strings.ToLower(strings.ReplaceAll(s, ":", "")) }
