package mqtt

import (
	"bytes"
	"encoding/json"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/enroll"
)

const nonce = "0123456789abcdef"

func TestRequestsThatAreNone(t *testing.T) {
	for name, tt := range map[string]struct{ content, want string }{
		"nothing":            {``, "ends too early"},
		"half":               {`{"operation":"enrol"`, "ends too early"},
		"two":                {`{"nonce":"` + nonce + `"} {}`, "goes on"},
		"a list":             {`[]`, "array"},
		"an unknown field":   {`{"nonce":"` + nonce + `","admin":true}`, "admin"},
		"a CSR of no base64": {`{"nonce":"` + nonce + `","csr":"*"}`, "base64"},
		"a CSR of a number":  {`{"nonce":"` + nonce + `","csr":7}`, "csr"},
		"no nonce":           {`{"operation":"enrol"}`, "nonce"},
		"a short nonce":      {`{"nonce":"` + nonce[1:] + `"}`, "15 characters"},
		"a long nonce":       {`{"nonce":"` + strings.Repeat("x", 129) + `"}`, "129 characters"},
		"a nonce with a tab": {`{"nonce":"0123456789abcde\t"}`, "printable"},
		"garbage":            {"\x00\xff{}", "invalid character"},
	} {
		if r, err := parseRequest([]byte(tt.content)); err == nil || !strings.Contains(err.Error(), tt.want) || strings.Contains(err.Error(), "mqtt.") {
			t.Errorf("%s: %+v, %v; want an error that mentions %q", name, r, err, tt.want)
		} else if _, ok := err.(*enroll.RequestError); !ok {
			t.Errorf("%s: %T is not the client's fault", name, err)
		}
	}
}

func TestReplyTopics(t *testing.T) {
	own, other := Branch{1}, Branch{2}
	for topic, good := range map[string]bool{
		own.String() + "/reply":                             true,
		own.String() + "/reply/1":                           true,
		own.String() + "/reply/a/b c":                       true,
		own.String() + "/replyx":                            false,
		own.String() + "/notice":                            false,
		own.String() + "/request":                           false,
		own.String():                                        false,
		other.String() + "/reply":                           false,
		own.String() + "/reply/+":                           false,
		own.String() + "/reply/#":                           false,
		own.String() + "/reply/\x00":                        false,
		own.String() + "/reply/\xff":                        false,
		own.String() + "/reply/" + strings.Repeat("x", 256): false,
		"":                                    false,
		"$share/g/" + own.String() + "/reply": false,
	} {
		if err := own.checkReply(topic); (err == nil) != good {
			t.Errorf("%q: %v", topic, err)
		}
	}
}

func TestRequestTopics(t *testing.T) {
	b := Branch{0xab}
	if got, ok := requested(b.Request()); !ok || got != b {
		t.Errorf("%s is not understood", b.Request())
	}
	for _, topic := range []string{"", "touchmark/v1//request", b.String(), b.Notice(), strings.ToUpper(b.Request()), "touchmark/v1/" + strings.Repeat("AB", 32) + "/request", "touchmark/v1/" + strings.Repeat("xy", 32) + "/request", b.Request() + "/"} {
		if _, ok := requested(topic); ok {
			t.Errorf("%q passes for a request topic", topic)
		}
	}
}

// FuzzParseRequest: what is accepted is within its bounds, and means the same
// when it is written anew.
func FuzzParseRequest(f *testing.F) {
	f.Add([]byte(`{"operation":"enrol","csr":"AAAA","nonce":"0123456789abcdef","reply":"touchmark/v1/x/reply","product":"p"}`))
	f.Add([]byte(`{"nonce":"0123456789abcdef"}`))
	f.Add([]byte(`{"NONCE":"0123456789abcdef","nonce":"fedcba9876543210"}`))
	f.Fuzz(func(t *testing.T, in []byte) {
		r, err := parseRequest(in)
		if err != nil {
			if _, ok := err.(*enroll.RequestError); !ok || r != nil {
				t.Fatalf("%T beside %+v", err, r)
			}
			return
		}
		if len(r.Nonce) < minNonce || len(r.Nonce) > maxNonce || len(r.CSR) > len(in) {
			t.Fatalf("out of bounds: %+v", r)
		}
		text, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := parseRequest(text)
		if err != nil || again.Operation != r.Operation || again.Nonce != r.Nonce || again.Reply != r.Reply || again.Product != r.Product || !bytes.Equal(again.CSR, r.CSR) {
			t.Fatalf("%+v became %+v, %v", r, again, err)
		}
		var b Branch
		if b.checkReply(r.Reply) == nil && !b.MayRead(r.Reply) {
			t.Fatalf("a reply to %q leaves the branch", r.Reply)
		}
	})
}
