package authenticode

import (
	"bytes"
	"context"
	"crypto/rand"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"log/slog"
	"math/big"
	"net/http"
	"net/http/httptest"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/firmware-sign/internal/signtest"
	"github.com/touchmark/touchmark/firmware-sign/timestamp"
	"github.com/touchmark/touchmark/internal/cms"
)

// logbook takes any time down.
type logbook struct{}

func (logbook) NoteTimeStamp(context.Context, string, time.Time) (time.Time, error) {
	return signtest.Now, nil
}

// authority runs one that stamps the time, and gives a client of it.
func authority(t *testing.T) (*timestamp.Client, *x509.Certificate) {
	t.Helper()
	ca, key := signtest.Key(t, "p256"), signtest.Key(t, "rsa2048")
	root := signtest.Certificate(t, "stamps", ca, nil, nil)
	usage, err := asn1.Marshal([]asn1.ObjectIdentifier{{1, 3, 6, 1, 5, 5, 7, 3, 8}})
	if err != nil {
		t.Fatal(err)
	}
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{SerialNumber: big.NewInt(8), Subject: pkix.Name{CommonName: "TSA"}, NotBefore: signtest.Now.AddDate(-1, 0, 0), NotAfter: signtest.Now.AddDate(9, 0, 0),
		KeyUsage: x509.KeyUsageDigitalSignature, ExtraExtensions: []pkix.Extension{{Id: asn1.ObjectIdentifier{2, 5, 29, 37}, Critical: true, Value: usage}}}, root, key.Public(), ca)
	if err != nil {
		t.Fatal(err)
	}
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		t.Fatal(err)
	}
	s := httptest.NewServer(&timestamp.Handler{Take: func() bool { return true }, Log: slog.New(slog.DiscardHandler), Authority: &timestamp.Authority{
		Log: logbook{}, Policy: asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 99999, 1}, Accuracy: time.Second, Now: func() time.Time { return signtest.Now },
		Signatory: func(context.Context) (cms.Signatory, error) { return cms.Signatory{Certificate: cert, Key: key}, nil },
	}})
	t.Cleanup(s.Close)
	roots := x509.NewCertPool()
	roots.AddCert(root)
	return &timestamp.Client{URL: s.URL + timestamp.Path, HTTP: http.DefaultClient, Roots: roots}, root
}

// stamped stamps an image in a file.
func stamped(t *testing.T, image []byte, by *timestamp.Client) ([]byte, error) {
	t.Helper()
	path := signtest.File(t, "image.efi", image)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	err = Stamp(f, int64(len(image)), func(content []byte) ([]byte, error) { return by.Stamp(t.Context(), content) })
	return read(t, path), err
}

// The time stamp is where Windows looks for it: osslsigncode and sbverify take
// the image, and find that it was stamped.
func TestATimeStampIsInside(t *testing.T) {
	by, root := authority(t)
	image := pe(true, 5, 512, 4096)
	one, two := newRelease(t, "rsa2048"), newRelease(t, "p256")
	plain := one.sign(t, image)
	if _, err := Stamped(signtest.Reader(plain), by.Roots); !errors.Is(err, timestamp.ErrNoStamp) {
		t.Errorf("without a stamp: %v", err)
	}
	signed, err := stamped(t, plain, by)
	if err != nil {
		t.Fatal(err)
	}
	for i, good := range []func(*testing.T, []byte) error{one.ours, one.sbverify} {
		if err := good(t, signed); err != nil {
			t.Errorf("checker %d: %v", i, err)
		}
	}
	out, err := signtest.Run("osslsigncode", "verify", "-in", signtest.File(t, "image.efi", signed), "-CAfile", signtest.CertificateFile(t, one.Root), "-TSA-CAfile", signtest.CertificateFile(t, root))
	if err != nil || !strings.Contains(out, "Timestamp Server Signature verification: ok") {
		t.Errorf("osslsigncode: %v\n%s", err, out)
	}
	token, err := Stamped(signtest.Reader(signed), by.Roots)
	if err != nil || !token.Time.Equal(signtest.Now) {
		t.Errorf("the stamp says %+v, %v", token, err)
	}
	if _, err := Stamped(signtest.Reader(signed), one.Roots); err == nil {
		t.Error("a stamp below another root is taken")
	}
	if again, err := stamped(t, signed, by); err == nil || !bytes.Equal(again, signed) {
		t.Errorf("stamped twice: %v", err)
	}
	if _, err := stamped(t, image, by); err == nil || !strings.Contains(err.Error(), "not signed") {
		t.Errorf("an image that is not signed: %v", err)
	}
	// A second signature is stamped, too, and the first one stays as it is.
	both, err := stamped(t, two.sign(t, signed), by)
	if err != nil {
		t.Fatal(err)
	}
	for i, r := range []release{one, two} {
		if err := r.ours(t, both); err != nil {
			t.Errorf("signer %d: %v", i, err)
		}
		if err := r.sbverify(t, both); err != nil {
			t.Error(err)
		}
	}
	token2, err := by.Stamp(t.Context(), []byte("something else"))
	if err != nil {
		t.Fatal(err)
	}
	path := signtest.File(t, "image.efi", plain)
	f, err := os.OpenFile(path, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	if err := Stamp(f, int64(len(plain)), func([]byte) ([]byte, error) { return token2, nil }); err != nil {
		t.Fatal(err)
	}
	if _, err := Stamped(signtest.Reader(read(t, path)), by.Roots); err == nil || !strings.Contains(err.Error(), "other bytes") {
		t.Errorf("the stamp of something else: %v", err)
	}
}
