package webhook

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"encoding/base64"
	"net/http"
	"strconv"
	"strings"
	"time"

	"github.com/touchmark/touchmark/internal/events"
)

// Secrets makes webhooks' signing secrets: the HMAC of a webhook's seed,
// which the database holds, under a key of the server, which it does not. So
// neither the database nor a backup without keys can sign.
type Secrets struct{ key []byte }

// NewSecrets uses a key that all servers of an installation share.
func NewSecrets(key []byte) Secrets { return Secrets{key} }

// seedLength is how long seeds are, in bytes.
const seedLength = 24

// NewSeed makes the seed of a new secret.
func NewSeed() []byte {
	seed := make([]byte, seedLength)
	rand.Read(seed)
	return seed
}

func (s Secrets) derive(seed []byte) []byte {
	m := hmac.New(sha256.New, s.key)
	m.Write(seed)
	return m.Sum(nil)
}

// Text is the secret of a seed in the form that receivers are given:
// "whsec_" and base64, as the Standard Webhooks specification has it.
func (s Secrets) Text(seed []byte) string {
	return "whsec_" + base64.StdEncoding.EncodeToString(s.derive(seed))
}

// sign sets the headers of a message (Standard Webhooks 1.0.0): its ID, when
// it was sent, and a signature by each secret that counts.
func (s Secrets) sign(h http.Header, w *events.Webhook, id string, now time.Time, body []byte) {
	at := strconv.FormatInt(now.Unix(), 10)
	seeds := [][]byte{w.Seed}
	if len(w.Former) > 0 && now.Before(w.FormerUntil) {
		seeds = append(seeds, w.Former)
	}
	var signatures []string
	for _, seed := range seeds {
		m := hmac.New(sha256.New, s.derive(seed))
		m.Write([]byte(id + "." + at + "."))
		m.Write(body)
		signatures = append(signatures, "v1,"+base64.StdEncoding.EncodeToString(m.Sum(nil)))
	}
	h.Set("Webhook-Id", id)
	h.Set("Webhook-Timestamp", at)
	h.Set("Webhook-Signature", strings.Join(signatures, " "))
}
