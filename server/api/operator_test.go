package api_test

import (
	"bytes"
	"crypto/x509"
	"encoding/pem"
	"testing"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

func TestCreateOperator(t *testing.T) {
	w := newWorld(t)
	for role, site := range map[access.Role]string{access.RoleSupport: "", access.RoleRig: "near"} {
		text, der := newCSR(t, "a name of its own choosing")
		got := w.as("admin", "POST", "/operators", map[string]any{"name": "new-" + string(role), "role": role, "site": site, "csr": text})
		out := decode[api.OperatorCreated](t, got, 201)
		csr, err := x509.ParseCertificateRequest(der)
		if err != nil {
			t.Fatal(err)
		}
		op := out.Operator
		if op.Name != "new-"+string(role) || op.Role != role || op.Site != site || op.Key != vetting.KeyFingerprint(csr.RawSubjectPublicKeyInfo) {
			t.Errorf("operator %+v", op)
		}
		block, _ := pem.Decode([]byte(out.Certificate))
		chain, rest := pem.Decode([]byte(out.Chain))
		if block == nil || chain == nil || len(rest) != 0 {
			t.Fatalf("certificate %q, chain %q", out.Certificate, out.Chain)
		}
		cert := parse(t, block.Bytes)
		if !bytes.Equal(cert.RawSubjectPublicKeyInfo, csr.RawSubjectPublicKeyInfo) || cert.Subject.CommonName != op.Name {
			t.Errorf("certificate for %s", cert.Subject)
		}
		if err := cert.CheckSignatureFrom(parse(t, chain.Bytes)); err != nil {
			t.Error(err)
		}
		if l := got.header.Get("Location"); l != "/api/v1/operators/"+op.Name {
			t.Errorf("Location %q", l)
		}
		decode[access.Operator](t, w.as("auditor", "GET", "/operators/"+op.Name, nil), 200)
	}
}

func TestOperatorAgain(t *testing.T) {
	w := newWorld(t)
	csr, _ := newCSR(t, "x")
	body := map[string]any{"name": "new", "role": "support", "csr": csr}
	key := header("Idempotency-Key", "k")
	decode[api.OperatorCreated](t, w.as("admin", "POST", "/operators", body, key), 201)
	decode[api.OperatorCreated](t, w.as("admin", "POST", "/operators", body, key), 201)
	refused(t, w.as("admin", "POST", "/operators", body), 409, "already")
	// A repetition must not bring a revoked operator a certificate.
	decode[access.Operator](t, w.as("admin", "POST", "/operators/new/revoke", nil), 200)
	refused(t, w.as("admin", "POST", "/operators", body, key), 409, "revoked")
}

func TestBadOperators(t *testing.T) {
	w := newWorld(t)
	csr, _ := newCSR(t, "x")
	for name, c := range map[string]struct {
		body   map[string]any
		status int
		words  string
	}{
		"unknown role":         {map[string]any{"name": "a", "role": "king", "csr": csr}, 422, "body.role"},
		"site missing":         {map[string]any{"name": "a", "role": "rig", "csr": csr}, 422, "site"},
		"site too much":        {map[string]any{"name": "a", "role": "admin", "site": "near", "csr": csr}, 422, "site"},
		"bad name":             {map[string]any{"name": "a/b", "role": "admin", "csr": csr}, 422, "a/b"},
		"bad CSR":              {map[string]any{"name": "a", "role": "admin", "csr": "AAAA"}, 400, "PKCS#10"},
		"role by another name": {map[string]any{"name": "a", "Role": "admin", "role": "support", "csr": csr}, 400, "twice"},
	} {
		t.Run(name, func(t *testing.T) {
			refused(t, w.as("admin", "POST", "/operators", c.body), c.status, c.words)
		})
	}
	refused(t, w.as("admin", "GET", "/operators/nobody", nil), 404)
	refused(t, w.as("admin", "POST", "/operators/nobody/revoke", nil), 404)
	if n := len(w.store.operators); n != len(access.Roles) {
		t.Errorf("%d operators", n)
	}
}
