package mqtt

import (
	"crypto/x509"
	"encoding/hex"
	"strings"
	"unicode/utf8"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/vetting"
)

// Root is where the topics of all devices begin.
const Root = "touchmark/v1/"

// RequestFilter matches the requests of all devices.
const RequestFilter = Root + "+/request"

const (
	requestLevel = "/request"
	replyLevel   = "/reply"
	noticeLevel  = "/notice"
)

// maxTopic is the longest reply topic that a request may name, in bytes.
const maxTopic = 256

// Branch is what one key may publish and read under: its fingerprint names it.
type Branch vetting.Fingerprint

// BranchOf is the branch of a certificate's key.
func BranchOf(cert *x509.Certificate) Branch {
	return Branch(vetting.KeyFingerprint(cert.RawSubjectPublicKeyInfo))
}

func (b Branch) String() string { return Root + hex.EncodeToString(b[:]) }

// Request is the topic that the key's requests are published to.
func (b Branch) Request() string { return b.String() + requestLevel }

// Notice is the topic that notices to the key's holder are published to.
func (b Branch) Notice() string { return b.String() + noticeLevel }

// requested is the branch that a request was published in.
func requested(topic string) (Branch, bool) {
	name, ok := strings.CutPrefix(topic, Root)
	if !ok {
		return Branch{}, false
	}
	if name, ok = strings.CutSuffix(name, requestLevel); !ok || len(name) != 2*len(Branch{}) || strings.ToLower(name) != name {
		return Branch{}, false
	}
	raw, err := hex.DecodeString(name)
	if err != nil {
		return Branch{}, false
	}
	return Branch(raw), true
}

// checkReply holds the topic that a reply is wanted on to the signer's own
// branch.
func (b Branch) checkReply(topic string) error {
	rest, own := strings.CutPrefix(topic, b.String()+replyLevel)
	switch {
	case len(topic) > maxTopic:
		return enroll.BadRequest("the reply topic is %d bytes long: at most %d are accepted", len(topic), maxTopic)
	case !own || rest != "" && rest[0] != '/':
		return enroll.BadRequest("the reply topic must be %s%s or lie below it: a reply goes nowhere but to the branch of the key that signed the request", b, replyLevel)
	case strings.ContainsAny(rest, "+#\x00") || !utf8.ValidString(rest):
		return enroll.BadRequest("the reply topic holds a wildcard or a character that no topic may hold")
	}
	return nil
}

// MayPublish reports whether the holder of the branch's key may publish to a
// topic through this server's own broker: requests, and nothing else.
func (b Branch) MayPublish(topic string) bool { return topic == b.Request() || Provides(topic) }

// MayRead reports whether the holder of the branch's key may subscribe to a
// filter, or be sent a message: what lies in the branch, and the answers of the
// compatible shape, which the broker keeps apart for each client.
func (b Branch) MayRead(filter string) bool {
	return strings.HasPrefix(filter, b.String()+"/") || mayReadAnswers(filter)
}
