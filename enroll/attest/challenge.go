package attest

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"encoding/binary"
	"errors"
	"time"

	"github.com/touchmark/touchmark/enroll"
)

// A challenge's text is random bytes and the time until which it counts. Its
// answer is derived from them, the keys that it is for, and the servers'
// secret; who was not sent it encrypted cannot know it. So nothing is kept of
// a challenge, and any server can judge the answer.
const challengeRandom = 16

// label keeps answers apart from whatever else is derived from the secret.
const label = "touchmark tpm answer 1"

func (a *Attestor) challenge(ek *endorsement, ak *attestationKey, expires time.Time) (text string, answer []byte) {
	body := make([]byte, challengeRandom, challengeRandom+8)
	rand.Read(body)
	body = binary.BigEndian.AppendUint64(body, uint64(expires.Unix()))
	return base64.RawURLEncoding.EncodeToString(body), a.answer(body, ek, ak)
}

// answer is 32 bytes, the most that fits into a credential for any EK (Part 1,
// 24.4: the size of its name algorithm's digest).
func (a *Attestor) answer(body []byte, ek *endorsement, ak *attestationKey) []byte {
	m := hmac.New(sha256.New, a.Secret)
	m.Write([]byte(label))
	m.Write(body) // all before the name has a fixed length
	m.Write(ek.print[:])
	m.Write(ak.name)
	return m.Sum(nil)
}

// checkAnswer checks that the TPM with this EK and this AK decrypted the
// challenge. The error is a *enroll.ProofError.
func (a *Attestor) checkAnswer(p *Proof, ek *endorsement, ak *attestationKey) error {
	body, err := base64.RawURLEncoding.DecodeString(p.Challenge)
	if err != nil || len(body) != challengeRandom+8 {
		return &enroll.ProofError{Reason: "the challenge is not one of this server's: begin anew with /challenge"}
	}
	if !hmac.Equal(p.Answer, a.answer(body, ek, ak)) {
		return &enroll.ProofError{Reason: "the answer is not what was encrypted to this endorsement key for this attestation key: begin anew with another challenge"}
	}
	if until := binary.BigEndian.Uint64(body[challengeRandom:]); a.Now().Unix() > int64(until) {
		return &enroll.ProofError{Reason: "the challenge is too old: begin anew with another"}
	}
	return nil
}

// nonce is what statements must carry, so that they were made for this
// challenge by who could read it.
func nonce(answer []byte) []byte {
	n := sha256.Sum256(answer)
	return n[:]
}

// isUntrue gives the reason of an *Untrue.
func isUntrue(err error) (reason string, ok bool) {
	var u *Untrue
	if errors.As(err, &u) {
		return u.Reason, true
	}
	return "", false
}
