package mqtt

import (
	"bytes"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/fxamacker/cbor/v2"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/vetting"
)

func TestCompatibleTopics(t *testing.T) {
	const create, provision = "$aws/certificates/create-from-csr/", "$aws/provisioning-templates/thermo/provision/"
	for _, topic := range []string{create + "json", create + "cbor", provision + "json", provision + "cbor"} {
		if !Provides(topic) || !mayReadAnswers(topic+"/accepted") || !mayReadAnswers(topic+"/rejected") || mayReadAnswers(topic) {
			t.Errorf("%s is not served as it should be", topic)
		}
	}
	for _, topic := range []string{
		"", create, create + "xml", create + "json/accepted", "$aws/provisioning-templates//provision/json", "$aws/provisioning-templates/a/b/provision/json",
		"$aws/provisioning-templates/a/provision/", "$aws/certificates/create/json", "x" + create + "json",
	} {
		if Provides(topic) {
			t.Errorf("%q is served", topic)
		}
	}
	for _, filter := range []string{create + "+/accepted", "$aws/#", "$aws/provisioning-templates/+/provision/json/accepted", create + "json/#"} {
		if mayReadAnswers(filter) {
			t.Errorf("%q may be read", filter)
		}
	}
}

func TestOwnershipTokens(t *testing.T) {
	now := time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)
	h := (&Handler{Now: func() time.Time { return now }, Window: time.Minute}).Ready()
	mine, others := vetting.Fingerprint{1}, vetting.Fingerprint{2}
	token := h.token(mine, "5a41", now.Add(tokenLife))
	if serial, ok := h.owned(mine, token); !ok || serial != "5a41" {
		t.Errorf("the token is for %q, %v", serial, ok)
	}
	other := (&Handler{Now: h.Now, Window: time.Minute}).Ready()
	for name, ok := range map[string]bool{
		"another key's":     second(h.owned(others, token)),
		"another server's":  second(other.owned(mine, token)),
		"cut off":           second(h.owned(mine, token[:len(token)-2])),
		"empty":             second(h.owned(mine, "")),
		"no base64":         second(h.owned(mine, "*")),
		"for another":       second(h.owned(mine, h.token(others, "5a41", now.Add(tokenLife)))),
		"changed":           second(h.owned(mine, "A"+token[1:])) && token[0] != 'A',
		"over for a second": second(h.owned(mine, h.token(mine, "5a41", now.Add(-time.Second)))),
	} {
		if ok {
			t.Errorf("a token that is %s counts", name)
		}
	}
}

func second[T any](_ T, ok bool) bool { return ok }

func TestPayloadsThatAreNone(t *testing.T) {
	deep, err := cbor.Marshal(map[string]any{"certificateOwnershipToken": "x", "parameters": map[string]any{"a": []any{[]any{[]any{[]any{1}}}}}})
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		format  string
		payload []byte
	}{
		{"json", nil}, {"json", []byte("{")}, {"json", []byte("[]")}, {"json", []byte(`{"parameters":{"a":1}}`)}, {"json", []byte(`{"certificateOwnershipToken":{}}`)}, {"json", []byte("\xff")},
		{"cbor", nil}, {"cbor", []byte{0xa1}}, {"cbor", []byte{0x80}}, {"cbor", deep},
		{"cbor", []byte{0xbf, 0xff}},                                       // of indefinite length
		{"cbor", []byte{0xa2, 0x61, 'a', 0x61, 'b', 0x61, 'a', 0x61, 'c'}}, // one key twice
		{"cbor", []byte{0xc1, 0xa0}},                                       // tagged
		{"cbor", append([]byte{0x9b, 0, 0, 1, 0, 0, 0, 0, 0}, 1)},          // of 2^40 elements
		{"cbor", bytes.Repeat([]byte{0x81}, 1<<15)},                        // 32,768 deep
	} {
		var in provisionRequest
		err := codecs[tt.format].unmarshal(tt.payload, &in)
		if _, ok := err.(*enroll.RequestError); !ok {
			t.Errorf("%s %x: %v", tt.format, tt.payload[:min(8, len(tt.payload))], err)
		}
	}
}

// FuzzPayload: what is accepted in one format means the same when written and
// read again in the other.
func FuzzPayload(f *testing.F) {
	good := provisionRequest{"token", map[string]string{"SerialNumber": "A-1"}}
	for _, format := range slices.Sorted(maps.Keys(codecs)) {
		b, err := codecs[format].marshal(good)
		if err != nil {
			f.Fatal(err)
		}
		f.Add(format == "cbor", b)
	}
	f.Add(true, []byte{0xbf, 0xff})
	f.Fuzz(func(t *testing.T, isCBOR bool, in []byte) {
		from, to := codecs["json"], codecs["cbor"]
		if isCBOR {
			from, to = to, from
		}
		var a, b provisionRequest
		if err := from.unmarshal(in, &a); err != nil {
			if _, ok := err.(*enroll.RequestError); !ok || strings.Contains(err.Error(), "mqtt.") {
				t.Fatalf("%T: %v", err, err)
			}
			return
		}
		if len(a.Token) > len(in)*3 { // JSON writes what is no UTF-8 as U+FFFD
			t.Fatalf("%d bytes became a token of %d", len(in), len(a.Token))
		}
		text, err := to.marshal(a)
		if err != nil {
			t.Fatal(err)
		}
		if err := to.unmarshal(text, &b); len(a.Parameters) <= 64 && (err != nil || a.Token != b.Token || !maps.Equal(a.Parameters, b.Parameters)) {
			t.Fatalf("%+v became %+v, %v", a, b, err)
		}
	})
}
