package ceremony

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"strings"
	"testing"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
	"github.com/touchmark/touchmark/firmware-sign/catalogue"
	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
	"github.com/touchmark/touchmark/firmware-sign/release"
)

// A statement can say one file, and have another one signed: who has the file
// finds out.
func TestWhatIsSignedFollowsFromTheFile(t *testing.T) {
	ca, by := signtest.Key(t, "p256"), signtest.Key(t, "p256")
	root := signtest.Certificate(t, "root", ca, nil, nil)
	cert := signtest.Certificate(t, "vault", by, root, ca)
	digest := func(content string) []byte { sum := sha256.Sum256([]byte(content)); return sum[:] }
	approved := func(source, signed string) *Approved {
		t.Helper()
		want, err := firmwaresign.NewDigestToSign(firmwaresign.ECDSAP256SHA256, by.Public(), digest(signed))
		if err != nil {
			t.Fatal(err)
		}
		return &Approved{
			Statement: release.Statement{Product: "lamp", Version: "1", Artefacts: []release.StatementArtefact{{Name: "app.bin", Format: "raw", Parameters: map[string]string{},
				Source: release.File{Size: int64(len(source)), SHA256: hex.EncodeToString(digest(source))}, Keys: []string{"vault"}, ToSign: []firmwaresign.ToSign{want}}}},
			keys: []key{{"vault", true, catalogue.Signer{Public: by.Public(), Certificate: cert, Chain: []*x509.Certificate{}}}},
		}
	}
	file := signtest.Reader([]byte("good"))
	if name, err := approved("good", "good").Prove(file); err != nil || name != "app.bin" {
		t.Errorf("%s, %v", name, err)
	}
	if _, err := approved("good", "evil").Prove(file); err == nil || !strings.Contains(err.Error(), "does not follow") {
		t.Errorf("another file is signed: %v", err)
	}
	if _, err := approved("evil", "evil").Prove(file); err == nil || !strings.Contains(err.Error(), "no artefact") {
		t.Errorf("another file is approved: %v", err)
	}
	response, err := approved("good", "good").Sign(by)
	if err != nil || len(response.Signatures) != 1 || response.Release != "lamp@1" {
		t.Fatalf("%+v, %v", response, err)
	}
	if _, err := approved("good", "good").Sign(ca); err == nil || !strings.Contains(err.Error(), "to be signed by vault") {
		t.Errorf("another key: %v", err)
	}
}
