package ceremony

import (
	"bytes"
	"encoding/json"
	"testing"

	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
	"github.com/touchmark/touchmark/internal/approval"
)

// What is read of a request is all of it: written again, it is read as the
// same. Nothing that nobody signed is opened.
func FuzzReadRequest(f *testing.F) {
	root := signtest.Certificate(f, "root", signtest.Key(f, "p256"), nil, nil)
	for _, text := range []string{
		`{"type":"touchmark/firmware-request/1","approval":{"envelope":{"payloadType":"application/vnd.touchmark.proposal+json","payload":"e30=","signatures":[]},"signers":[]},"keys":[{"name":"vault","certificate":"MAA=","chain":["MAA="],"offline":true}]}`,
		`{"type":"touchmark/firmware-request/1","approval":null,"keys":[]}`,
		`{"type":"touchmark/firmware-request/2"}`, `{} {}`, `[`,
	} {
		f.Add([]byte(text))
	}
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ReadRequest(bytes.NewReader(text))
		if err != nil {
			return
		}
		once, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		again, err := ReadRequest(bytes.NewReader(once))
		if err != nil {
			t.Fatalf("it was read, and written as %s, which is not: %v", once, err)
		}
		if twice, err := json.Marshal(again); err != nil || !bytes.Equal(once, twice) {
			t.Fatalf("written as %s, then as %s (%v)", once, twice, err)
		}
		if _, err := r.Open(root, func(approval.Approver, approval.Kind) bool { return true }); err == nil {
			t.Fatal("opened, and nobody approved it")
		}
	})
}

// The same of responses.
func FuzzReadResponse(f *testing.F) {
	f.Add([]byte(`{"type":"touchmark/firmware-response/1","release":"lamp@1","statement":"00","publicKey":"MAA=","signatures":[{"artefact":"app.bin","index":0,"signature":"MAA="}]}`))
	f.Add([]byte(`{"type":"touchmark/firmware-response/1","signatures":null}`))
	f.Fuzz(func(t *testing.T, text []byte) {
		r, err := ReadResponse(bytes.NewReader(text))
		if err != nil {
			return
		}
		once, err := json.Marshal(r)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ReadResponse(bytes.NewReader(once)); err != nil {
			t.Fatalf("it was read, and written as %s, which is not: %v", once, err)
		}
	})
}
