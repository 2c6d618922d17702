package foreign

import (
	"context"
	"crypto/ecdsa"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/globalsign/est"
)

// client is GlobalSign's EST client, as the party given; nil for none.
func (w *world) client(as *party) *est.Client {
	w.t.Helper()
	roots := x509.NewCertPool()
	roots.AddCert(w.root())
	c := &est.Client{Host: strings.Replace(w.est, "127.0.0.1", "localhost", 1), AdditionalPathSegment: "thermo", ExplicitAnchor: roots, DisableKeepAlives: true}
	if as != nil {
		c.Certificates, c.PrivateKey = []*x509.Certificate{as.cert}, as.key
	}
	return c
}

func request(t *testing.T, key *ecdsa.PrivateKey, subject pkix.Name) *x509.CertificateRequest {
	t.Helper()
	der, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{Subject: subject}, key)
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(der)
	if err != nil {
		t.Fatal(err)
	}
	return csr
}

// refused demands an answer that is no success, by its status and words.
func refused(t *testing.T, err error, status int, words string) est.Error {
	t.Helper()
	var e est.Error
	if !errors.As(err, &e) || e.StatusCode() != status || !strings.Contains(e.Error(), words) {
		t.Fatalf("got %v, want status %d and %q", err, status, words)
	}
	return e
}

// A device's whole life through every operation.
func TestGlobalSignClient(t *testing.T) {
	ctx, w := context.Background(), newWorld(t)
	boot := w.build("SN-1")

	certs, err := w.client(nil).CACerts(ctx)
	if err != nil || len(certs) != 4 || !certs[0].Equal(w.root()) {
		t.Fatalf("cacerts: %d certificates, %v", len(certs), err)
	}
	chain := x509.VerifyOptions{Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(), KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageClientAuth}}
	chain.Roots.AddCert(certs[0])
	for _, c := range certs[1:] {
		chain.Intermediates.AddCert(c)
	}

	key := newKey(t)
	csr := request(t, key, pkix.Name{CommonName: "SN-1"})
	_, err = w.client(&boot).Enroll(ctx, csr)
	if e := refused(t, err, http.StatusAccepted, ""); e.RetryAfter() < 1 {
		t.Errorf("held, with Retry-After %d", e.RetryAfter())
	}
	w.admin("order", "open", "po-1")
	cert, err := w.client(&boot).Enroll(ctx, csr)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := cert.Verify(chain); err != nil || !key.PublicKey.Equal(cert.PublicKey) || cert.Subject.CommonName != "SN-1" {
		t.Errorf("enrolled as %s: %v", cert.Subject, err)
	}
	if again, err := w.client(&boot).Enroll(ctx, csr); err != nil || !again.Equal(cert) {
		t.Errorf("asking twice: %v", err)
	}

	official := party{key, cert}
	renewed, err := w.client(&official).Reenroll(ctx, request(t, key, cert.Subject))
	if err != nil || renewed.Equal(cert) || !key.PublicKey.Equal(renewed.PublicKey) {
		t.Fatalf("renewed: %v", err)
	}
	next := newKey(t)
	official.cert = renewed
	rekeyed, err := w.client(&official).Reenroll(ctx, request(t, next, cert.Subject))
	if err != nil || !next.PublicKey.Equal(rekeyed.PublicKey) {
		t.Fatalf("re-keyed: %v", err)
	}
	if _, err := rekeyed.Verify(chain); err != nil {
		t.Error(err)
	}
	_, err = w.client(&boot).Enroll(ctx, csr)
	refused(t, err, http.StatusForbidden, "no longer counts")
	stranger := device(t, "SN-9")
	_, err = w.client(&stranger).Enroll(ctx, request(t, newKey(t), pkix.Name{}))
	refused(t, err, http.StatusForbidden, "No manufacturing record")
	_, err = w.client(nil).Enroll(ctx, csr)
	refused(t, err, http.StatusUnauthorized, "no client certificate")
}

// A client that knows nothing of templates reads the list beside them.
func TestGlobalSignClientReadsCSRAttrs(t *testing.T) {
	ctx, w := context.Background(), newWorld(t)
	attrs, err := w.client(nil).CSRAttrs(ctx)
	if err != nil || len(attrs.OIDs) != 1 || attrs.OIDs[0].String() != "1.2.840.10045.4.3.2" || len(attrs.Attributes) != 2 {
		t.Fatalf("%+v, %v", attrs, err)
	}
	key, template := attrs.Attributes[0], attrs.Attributes[1]
	curve, ok := key.Values[0].(asn1.ObjectIdentifier)
	if !ok || key.Type.String() != "1.2.840.10045.2.1" || curve.String() != "1.2.840.10045.3.1.7" {
		t.Errorf("the key is %+v", key)
	}
	if template.Type.String() != "1.2.840.113549.1.9.16.2.61" || len(template.Values) != 1 {
		t.Errorf("the template is %+v", template)
	}
	c := w.client(nil)
	c.AdditionalPathSegment = ""
	if attrs, err := c.CSRAttrs(ctx); err != nil || len(attrs.OIDs)+len(attrs.Attributes) != 0 {
		t.Errorf("without a label: %+v, %v", attrs, err)
	}
}

func TestGlobalSignClientGetsServerKey(t *testing.T) {
	ctx, w := context.Background(), newWorld(t)
	w.admin("order", "open", "po-1")
	boot := w.build("SN-1")
	csr := request(t, newKey(t), pkix.Name{CommonName: "SN-1"})
	var last []byte
	for range 2 {
		cert, pkcs8, err := w.client(&boot).ServerKeyGen(ctx, csr)
		if err != nil {
			t.Fatal(err)
		}
		key, err := x509.ParsePKCS8PrivateKey(pkcs8)
		if err != nil || !key.(*ecdsa.PrivateKey).PublicKey.Equal(cert.PublicKey) || string(pkcs8) == string(last) {
			t.Errorf("the private key is not the certificate's own: %v", err)
		}
		last = pkcs8
	}
	w.admin("product", "update", "thermo", "--server-keys", "encrypted")
	_, _, err := w.client(&boot).ServerKeyGen(ctx, csr)
	refused(t, err, http.StatusForbidden, "AsymmetricDecryptKeyIdentifier")
	w.admin("product", "update", "thermo", "--server-keys", "off")
	_, _, err = w.client(&boot).ServerKeyGen(ctx, csr)
	refused(t, err, http.StatusForbidden, "makes no private keys")
}

// A rig enrols the device in front of it (RFC 7030 §3.7).
func TestGlobalSignClientAsRig(t *testing.T) {
	ctx, w := context.Background(), newWorld(t)
	w.admin("order", "open", "po-1")
	w.build("SN-1")
	rig, key := w.rig("rig-1"), newKey(t)
	cert, err := w.client(&rig).Enroll(ctx, request(t, key, pkix.Name{SerialNumber: "SN-1"}))
	if err != nil || cert.Subject.SerialNumber != "SN-1" || !key.PublicKey.Equal(cert.PublicKey) {
		t.Fatalf("%v", err)
	}
	_, err = w.client(&rig).Enroll(ctx, request(t, newKey(t), pkix.Name{}))
	refused(t, err, http.StatusBadRequest, "must name the device")
}
