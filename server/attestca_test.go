package server

import (
	"bytes"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"path/filepath"
	"strings"
	"testing"

	"go.step.sm/crypto/tpm"
	"go.step.sm/crypto/tpm/attestation"
	"go.step.sm/crypto/tpm/storage"
	"go.step.sm/crypto/x509util"

	"github.com/touchmark/touchmark/enroll/attest"
	"github.com/touchmark/touchmark/enroll/attest/attesttest"
	"github.com/touchmark/touchmark/internal/swtpm"
	"github.com/touchmark/touchmark/vetting"
)

// step's client gets a certificate for its AK, with what step and smallstep's
// ACME want in it.
func TestAttestationCAByStep(t *testing.T) {
	w := openedForTPMs(t, nil)
	machine := swtpm.New(t)
	device, err := tpm.New(tpm.WithDeviceName(machine.Socket), tpm.WithStore(storage.NewDirstore(t.TempDir())), tpm.WithDisableDownload())
	if err != nil {
		t.Fatal(err)
	}
	ak, err := device.CreateAK(t.Context(), "ak")
	if err != nil {
		t.Fatal(err)
	}
	eks, err := device.GetEKs(t.Context())
	if err != nil || len(eks) == 0 {
		t.Fatalf("%d EKs: %v", len(eks), err)
	}
	client, err := attestation.NewClient("https://"+strings.Replace(w.server.Addrs()["est"], "127.0.0.1", "localhost", 1)+"/device/v1/tpm",
		attestation.WithRootsFile(filepath.Join(w.config.Dir, "ca", "root.crt")))
	if err != nil {
		t.Fatal(err)
	}
	print, err := vetting.PublicKeyFingerprint(eks[0].Public())
	if err != nil {
		t.Fatal(err)
	}
	w.lists("G-1", print)
	chain, err := client.Attest(t.Context(), device, eks[0], ak)
	if err != nil {
		t.Fatal(err)
	}
	w.checkAK(chain, print, "G-1")
	if acts := w.acts("attestation-key."); len(acts) != 1 {
		t.Errorf("the log has %q", acts)
	}
	if err := ak.SetCertificateChain(t.Context(), chain); err != nil {
		t.Errorf("step does not keep the chain: %v", err)
	}
	_, text := w.send(v13, pair{}, "GET", "/device/v1/tpm/ca", "")
	if block, _ := pem.Decode([]byte(text)); block == nil || !bytes.Equal(parsed(t, block.Bytes).SubjectKeyId, chain[0].AuthorityKeyId) {
		t.Errorf("the CA's certificate is shown as %s", text)
	}
}

// checkAK holds an AK's certificate to what clients and ACME servers want.
func (w *tpmWorld) checkAK(chain []*x509.Certificate, ek vetting.Fingerprint, serial string) {
	w.t.Helper()
	if len(chain) != 2 {
		w.t.Fatalf("%d certificates", len(chain))
	}
	c := chain[0]
	names, err := x509util.ParseSubjectAlternativeNames(c)
	if err != nil || len(names.PermanentIdentifiers) != 2 || names.PermanentIdentifiers[0].Identifier != attest.EKURN(ek) || names.PermanentIdentifiers[1].Identifier != serial {
		w.t.Errorf("names %+v, %v", names, err)
	}
	if d := names.TPMHardwareDetails; d.Manufacturer == "" || d.Model == "" || d.Version == "" {
		w.t.Errorf("the TPM's names: %+v", d)
	}
	if len(c.URIs) != 1 || c.URIs[0].String() != attest.EKURN(ek) || c.Subject.String() != "" || c.IsCA || len(c.UnknownExtKeyUsage) != 1 {
		w.t.Errorf("URIs %v, subject %q, usages %v", c.URIs, c.Subject, c.UnknownExtKeyUsage)
	}
	if err := c.CheckSignatureFrom(chain[1]); err != nil {
		w.t.Error(err)
	}
}

// What the attestation CA does not certify: TPMs that nobody knows, and AKs
// whose TPM did not answer.
func TestAttestationCARefuses(t *testing.T) {
	w := openedForTPMs(t, nil)
	d := attesttest.New(t, swtpm.New(t), attesttest.P256)
	first := attest.AttestRequest{EK: d.EKPublic(), Params: d.Hello.AK}
	if code, _, body := w.posts("attest", first); code != 403 || !strings.Contains(body, d.EK().String()) {
		t.Errorf("an unknown TPM: %d %s", code, body)
	}
	w.lists("G-1", d.EK())
	for what, spoil := range map[string]func(*attest.AttestRequest){
		"not a public key":     func(r *attest.AttestRequest) { r.EK = r.EK[1:] },
		"other creation data":  func(r *attest.AttestRequest) { r.Params.CreateData[len(r.Params.CreateData)-3] ^= 1 },
		"not signed by the AK": func(r *attest.AttestRequest) { r.Params.CreateSignature[len(r.Params.CreateSignature)-1] ^= 1 },
	} {
		text, err := json.Marshal(first)
		var r attest.AttestRequest
		if err == nil {
			err = json.Unmarshal(text, &r)
		}
		if err != nil {
			t.Fatal(err)
		}
		spoil(&r)
		if code, _, body := w.posts("attest", r); code != 400 || !strings.Contains(body, what) {
			t.Errorf("want 400 and %q, got %d %s", what, code, body)
		}
	}
	code, _, body := w.posts("attest", first)
	var answer attest.AttestAnswer
	if err := json.Unmarshal([]byte(body), &answer); code != 200 || err != nil {
		t.Fatalf("%d %s %v", code, body, err)
	}
	if code, _, body := w.posts("secret", attest.SecretRequest{Secret: make([]byte, 32)}); code != 401 {
		t.Errorf("a secret that is none: %d %s", code, body)
	}
	secret := attest.SecretRequest{Secret: d.Activate(&attest.Challenge{Credential: answer.Credential, Secret: answer.Secret})}
	code, _, body = w.posts("secret", secret)
	var certified attest.SecretAnswer
	if err := json.Unmarshal([]byte(body), &certified); code != 200 || err != nil || len(certified.Chain) != 2 {
		t.Fatalf("%d %s %v", code, body, err)
	}
	w.checkAK([]*x509.Certificate{parsed(t, certified.Chain[0]), parsed(t, certified.Chain[1])}, d.EK(), "G-1")
	w.ahead.Add(int64(attest.ChallengeLife) + 1)
	if code, _, body := w.posts("secret", secret); code != 401 {
		t.Errorf("a secret that is too old: %d %s", code, body)
	}
}
