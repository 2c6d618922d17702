package main

import (
	"bytes"
	"encoding/json"
	"encoding/pem"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"testing"

	"github.com/touchmark/touchmark/firmware-sign/ceremony"
	"github.com/touchmark/touchmark/firmware-sign/release"
)

// change writes a changed copy of a file of the vault.
func change[T any](t *testing.T, w *vaultWorld, from, to string, how func(*T)) {
	t.Helper()
	text, err := os.ReadFile(w.safe(from))
	if err != nil {
		t.Fatal(err)
	}
	v := new(T)
	if err := json.Unmarshal(text, v); err != nil {
		t.Fatal(err)
	}
	how(v)
	if text, err = json.Marshal(v); err != nil {
		t.Fatal(err)
	}
	w.lock(t, to, text)
}

// A vault signs nothing that was not approved as it stands, below its root, for
// its key.
func TestTheVaultRefuses(t *testing.T) {
	w := newVaultWorld(t)
	const name = "thermostat@1.4.0"
	w.offlineKey(t, "other")
	w.approved(t, name, "vault")
	w.export(t, name, "request.json")
	w.approved(t, "thermostat@1.5.0", "other")
	w.export(t, "thermostat@1.5.0", "another.json")
	another := new(ceremony.Request)
	change(t, w, "another.json", "same.json", func(r *ceremony.Request) { *another = *r })
	strangers, err := os.ReadFile(filepath.Join(initialized(t), "ca", "root.crt"))
	if err != nil {
		t.Fatal(err)
	}
	w.lock(t, "stranger.crt", strangers)
	for _, c := range []struct {
		what, want string
		how        func(*ceremony.Request)
		more       []string
	}{
		{"an edited statement", "the digest in the proposal", func(r *ceremony.Request) {
			r.Approval.Envelope.Payload = bytes.Replace(r.Approval.Envelope.Payload, []byte(`"counter":3`), []byte(`"counter":4`), 1)
		}, nil},
		{"fewer approvals wanted", "is not over this proposal", func(r *ceremony.Request) {
			r.Approval.Envelope.Payload = bytes.Replace(r.Approval.Envelope.Payload, []byte(`"wanted":2`), []byte(`"wanted":1`), 1)
		}, nil},
		{"a missing approval", "1 of 2 approvals", func(r *ceremony.Request) {
			r.Approval.Envelope.Signatures, r.Approval.Signers = r.Approval.Envelope.Signatures[:1], r.Approval.Signers[:1]
		}, nil},
		{"the approval twice", "signed twice", func(r *ceremony.Request) {
			r.Approval.Envelope.Signatures[1], r.Approval.Signers[1] = r.Approval.Envelope.Signatures[0], r.Approval.Signers[0]
		}, nil},
		{"another type", "of the type", func(r *ceremony.Request) { r.Type = "x" }, nil},
		{"no approval", "no approval", func(r *ceremony.Request) { r.Approval = nil }, nil},
		{"no key", "lacks the key vault", func(r *ceremony.Request) { r.Keys = nil }, nil},
		{"another key of that name", "is that of", func(r *ceremony.Request) { r.Keys[0].Certificate = another.Keys[0].Certificate }, nil},
		{"another key's certificate", "lacks the key vault", func(r *ceremony.Request) { r.Keys = another.Keys }, nil},
		{"a key below no root", "unknown authority", func(r *ceremony.Request) { r.Keys[0].Chain = nil }, nil},
		{"the key twice", "twice", func(r *ceremony.Request) { r.Keys = append(r.Keys, r.Keys[0]) }, nil},
		{"a key that the server has", "nothing of", func(r *ceremony.Request) { r.Keys[0].Offline = false }, nil},
		{"more approvals wanted here", "--approvals wants 3", nil, []string{"--approvals", "3"}},
		{"another root", "unknown authority", nil, []string{"--root", w.safe("stranger.crt")}},
		{"a file that is another one", "no artefact of", nil, []string{"--file", w.file("sbom.json")}},
		{"another key", "is to be signed by vault", nil, []string{"--key", w.safe("other.key")}},
		{"no verifier of the log", "nothing was signed", nil, []string{"--verifier", w.safe("none")}},
	} {
		change(t, w, "request.json", "bad.json", func(r *ceremony.Request) {
			if c.how != nil {
				c.how(r)
			}
		})
		t.Log(c.what)
		w.sign(t, "vault", "bad.json", "bad.out", c.more...).want(t, exitFailed, c.want)
		if _, err := os.Stat(w.safe("bad.out")); err == nil {
			t.Fatalf("%s: a response was written", c.what)
		}
	}
	w.lock(t, "broken.json", []byte("{"))
	w.sign(t, "vault", "broken.json", "bad.out").want(t, exitFailed, "not a request")
	touchmark(t, "firmware", "request", "sign", w.safe("request.json"), "--key", w.safe("vault.key"), "--root", w.safe("root.crt"), "-o", w.safe("bad.out")).want(t, exitUsage, "--yes")
	w.sign(t, "vault", "request.json", "request.json").want(t, exitFailed, "exist")
	w.sign(t, "vault", "request.json", "good.json").want(t, 0)
}

// What a response brings counts as a whole, for the release as it was
// approved, as long as that and the key are good.
func TestTheServerRefusesResponses(t *testing.T) {
	w := newVaultWorld(t)
	const name = "thermostat@1.4.0"
	w.offlineKey(t, "other")
	w.write(t, "second.bin", 1000)
	w.as(t, w.erna, "release", "create", name, "--counter", "3", "--support-end", "2031-12-31").want(t, 0)
	for _, file := range []string{"app.bin", "second.bin"} {
		w.as(t, w.erna, "sign", w.file(file), "--format", "raw", "--stage", "production", "--release", name, "--key", "vault").want(t, exitHeld)
	}
	w.provenance(t, "provenance.json", "app.bin", "second.bin")
	for _, document := range []string{"sbom.json", "provenance.json"} {
		w.as(t, w.erna, "release", "attach", name, w.file(document)).want(t, 0)
	}
	w.as(t, w.erna, "release", "submit", name, "--note", "it is ready").want(t, 0)
	w.approve(t, name, w.berta, w.carla)
	w.approved(t, "thermostat@1.5.0", "other")
	w.export(t, name, "request.json")
	w.sign(t, "vault", "request.json", "response.json").want(t, 0)
	w.export(t, "thermostat@1.5.0", "another.json")
	w.sign(t, "other", "another.json", "of-another.json").want(t, 0)
	var others release.Response
	change(t, w, "of-another.json", "same.json", func(r *release.Response) { others = *r })
	before := w.as(t, w.erna, "release", "show", name, "--json").out
	for what, c := range map[string]struct {
		want string
		how  func(*release.Response)
	}{
		"another release":           {"another statement", func(r *release.Response) { r.Release = "thermostat@1.5.0" }},
		"another release's content": {"another statement", func(r *release.Response) { *r = others; r.Release = name }},
		"no such release":           {"no release", func(r *release.Response) { r.Release = "thermostat@9" }},
		"another statement":         {"another statement", func(r *release.Response) { r.Statement = others.Statement }},
		"a changed signature":       {"does not verify", func(r *release.Response) { r.Signatures[1].Signature[20] ^= 1 }},
		"another signature":         {"does not verify", func(r *release.Response) { r.Signatures[1].Signature = others.Signatures[0].Signature }},
		"exchanged signatures": {"does not verify", func(r *release.Response) {
			r.Signatures[0].Artefact, r.Signatures[1].Artefact = r.Signatures[1].Artefact, r.Signatures[0].Artefact
		}},
		"a missing signature": {"missing", func(r *release.Response) { r.Signatures = r.Signatures[:1] }},
		"a signature too many": {"does not want", func(r *release.Response) {
			r.Signatures = append(r.Signatures, others.Signatures[0])
			r.Signatures[2].Artefact = "x"
		}},
		"a signature twice":         {"twice", func(r *release.Response) { r.Signatures = append(r.Signatures, r.Signatures[0]) }},
		"another key":               {"signs nothing of release", func(r *release.Response) { r.PublicKey = others.PublicKey }},
		"a key that the server has": {"signs nothing of release", func(r *release.Response) { r.PublicKey = w.key(t, "thermo-1").PublicKey }},
		"another type":              {"of the type", func(r *release.Response) { r.Type = "x" }},
		"nothing":                   {"signatures", func(r *release.Response) { r.Signatures = nil }},
	} {
		t.Log(what)
		change(t, w, "response.json", "bad.json", c.how)
		w.take(t, "bad.json").want(t, exitFailed, c.want)
	}
	if after := w.as(t, w.erna, "release", "show", name, "--json").out; after != before {
		t.Errorf("refused responses changed the release:\n%s%s", before, after)
	}
	w.as(t, w.erna, "yank", "thermostat@1.5.0", "--note", "it burns", "--yes").want(t, 0)
	w.approve(t, "thermostat@1.5.0", w.berta, w.carla)
	w.take(t, "of-another.json").want(t, exitFailed, "is yanked")
	w.as(t, w.erna, "key", "revoke", "vault", "--note", "the vault was open", "--yes").want(t, 0)
	w.approve(t, "vault", w.berta, w.carla)
	w.take(t, "response.json").want(t, exitFailed, "key vault was revoked")
	w.as(t, w.erna, "request", "export", name, "-o", w.safe("late.json")).want(t, exitFailed, "revoked")
	w.admin(t, "audit", "verify").want(t, 0, "nothing is wrong")
}

// A key is imported by who has it, once, if it can sign firmware.
func TestOfflineKeysAreProven(t *testing.T) {
	w := newVaultWorld(t)
	imported := func(name string) ran {
		return w.admin(t, "firmware", "key", "import", name, "--product", "thermostat", "--csr", w.safe(name+".csr"))
	}
	csr, err := os.ReadFile(w.safe("vault.csr"))
	if err != nil {
		t.Fatal(err)
	}
	w.lock(t, "again.csr", csr)
	imported("again").want(t, exitFailed, "that is the key vault")
	imported("vault").want(t, exitFailed, "exists")
	forged, _ := pem.Decode(csr)
	forged.Bytes[len(forged.Bytes)-1] ^= 1
	w.lock(t, "forged.csr", pem.EncodeToMemory(forged))
	imported("forged").want(t, exitFailed, "does not verify with its own key")
	touchmark(t, "firmware", "key", "request", "x", "--key", w.safe("vault.key"), "--create", "P-256", "-o", w.safe("x.csr")).want(t, exitFailed, "exist")
	touchmark(t, "firmware", "key", "request", "x", "--key", w.safe("x.key"), "--create", "ML-DSA-65", "-o", w.safe("x.csr")).want(t, exitUsage, "take one of")
	touchmark(t, "firmware", "key", "request", "rsa", "--key", w.safe("rsa.key"), "--create", "RSA-3072", "-o", w.safe("rsa.csr")).want(t, 0)
	imported("rsa").want(t, 0, "RSA-3072", "offline")
	w.as(t, w.erna, "key", "import", "rsa", "--product", "thermostat", "--csr", w.safe("rsa.csr")).want(t, exitFailed, "does not include the permission")
	names := map[string]bool{}
	for _, k := range decodeAs[struct{ Items []release.Key }](t, w.admin(t, "firmware", "key", "list", "--json").want(t, 0).out).Items {
		if k.Offline {
			names[k.Name] = true
		}
	}
	if got := slices.Sorted(maps.Keys(names)); !slices.Equal(got, []string{"rsa", "vault"}) {
		t.Errorf("offline are %q", got)
	}
}
