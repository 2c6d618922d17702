package devicesim

import (
	"bytes"
	"context"
	"crypto"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/hex"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"mime/multipart"
	"net/http"
	"net/textproto"
	"os"
	"strings"
	"time"

	"github.com/touchmark/touchmark/device"
)

// Operator is somebody who works with the server's REST API by a client
// certificate.
type Operator struct {
	URL  string // https://HOST:PORT
	Cert *x509.Certificate
	Key  crypto.Signer
	http *http.Client
	root *x509.Certificate
}

// NewOperator connects nothing yet.
func NewOperator(url string, root *x509.Certificate, c *device.Credential) *Operator {
	roots := x509.NewCertPool()
	roots.AddCert(root)
	return &Operator{URL: url, Cert: c.Leaf(), Key: c.Key, root: root, http: &http.Client{
		Timeout: time.Minute,
		Transport: &http.Transport{MaxIdleConnsPerHost: 64,
			TLSClientConfig: &tls.Config{RootCAs: roots, Certificates: []tls.Certificate{*c.TLS()}}},
	}}
}

// Close ends the kept connections.
func (o *Operator) Close() { o.http.CloseIdleConnections() }

// LoadOperator reads a PEM certificate and key.
func LoadOperator(url string, root *x509.Certificate, certFile, keyFile string) (*Operator, error) {
	var text []byte
	for _, name := range []string{keyFile, certFile} {
		b, err := os.ReadFile(name)
		if err != nil {
			return nil, err
		}
		text = append(text, b...)
	}
	c, err := device.ParseCredential(text)
	if err != nil {
		return nil, fmt.Errorf("%s and %s: %w", certFile, keyFile, err)
	}
	if c.Leaf() == nil {
		return nil, fmt.Errorf("%s holds no certificate", certFile)
	}
	return NewOperator(url, root, c), nil
}

// LoadCertificate reads one PEM certificate.
func LoadCertificate(name string) (*x509.Certificate, error) {
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	block, _ := pem.Decode(text)
	if block == nil {
		return nil, fmt.Errorf("%s holds no PEM", name)
	}
	return x509.ParseCertificate(block.Bytes)
}

// Do makes one call with JSON in and out; either may be nil.
func (o *Operator) Do(ctx context.Context, method, path string, in, out any) error {
	var body io.Reader = http.NoBody
	if in != nil {
		b, err := json.Marshal(in)
		if err != nil {
			return err
		}
		body = bytes.NewReader(b)
	}
	return o.send(ctx, method, "/api/v1"+path, "application/json", body, out)
}

func (o *Operator) send(ctx context.Context, method, path, contentType string, body io.Reader, out any) error {
	request, err := http.NewRequestWithContext(ctx, method, o.URL+path, body)
	if err != nil {
		return err
	}
	request.Header.Set("Content-Type", contentType)
	if method == http.MethodPost {
		key := make([]byte, 16)
		rand.Read(key)
		request.Header.Set("Idempotency-Key", hex.EncodeToString(key))
	}
	response, err := o.http.Do(request)
	if err != nil {
		return err
	}
	defer response.Body.Close()
	answer, err := io.ReadAll(io.LimitReader(response.Body, 16<<20))
	if err != nil {
		return err
	}
	if response.StatusCode >= 300 {
		return fmt.Errorf("%s %s: %d: %s", method, path, response.StatusCode, strings.TrimSpace(string(answer)))
	}
	if text, ok := out.(*string); ok {
		*text = string(answer)
		return nil
	}
	if out == nil {
		return nil
	}
	return json.Unmarshal(answer, out)
}

// Hire makes a key, has the server certify it and returns the new operator.
func (o *Operator) Hire(ctx context.Context, name, role, site string) (*Operator, error) {
	store := new(device.MemoryStore)
	c, err := store.Create(device.Pending, device.P256)
	if err != nil {
		return nil, err
	}
	csr, err := device.NewCSR(c.Key, name)
	if err != nil {
		return nil, err
	}
	var made struct{ Certificate string }
	if err := o.Do(ctx, http.MethodPost, "/operators", map[string]string{
		"name": name, "role": role, "site": site, "csr": csrPEM(csr)}, &made); err != nil {
		return nil, err
	}
	block, _ := pem.Decode([]byte(made.Certificate))
	if block == nil {
		return nil, errors.New("the server's answer holds no certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return nil, err
	}
	c.Chain = []*x509.Certificate{cert}
	return NewOperator(o.URL, o.root, c), nil
}

func csrPEM(der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE REQUEST", Bytes: der}))
}

// Manifest is what the server says of one that was handed in.
type Manifest struct {
	ID                                         int64
	State                                      string
	Records, Loaded, Fresh, Repeated, Disputed int64
}

// HandIn signs a manifest, uploads it for an order and waits until its
// records are in place.
func (o *Operator) HandIn(ctx context.Context, order string, manifest []byte) (m Manifest, err error) {
	signature, err := Sign(manifest, o.Cert, o.Key)
	if err != nil {
		return m, err
	}
	var body bytes.Buffer
	form := multipart.NewWriter(&body)
	for _, part := range []struct {
		name, kind string
		data       []byte
	}{{"manifest", "application/jsonl", manifest}, {"signature", "application/pkcs7-signature", signature}} {
		w, err := form.CreatePart(textproto.MIMEHeader{
			"Content-Disposition": {fmt.Sprintf(`form-data; name="%s"; filename="%s"`, part.name, part.name)},
			"Content-Type":        {part.kind}})
		if err != nil {
			return m, err
		}
		if _, err := w.Write(part.data); err != nil {
			return m, err
		}
	}
	if err := form.Close(); err != nil {
		return m, err
	}
	if err := o.send(ctx, http.MethodPost, "/api/v1/orders/"+order+"/manifests", form.FormDataContentType(), &body, &m); err != nil {
		return m, err
	}
	for m.State == "accepted" {
		wait(ctx, 50*time.Millisecond)
		if err := o.Do(ctx, http.MethodGet, fmt.Sprintf("/manifests/%d", m.ID), nil, &m); err != nil {
			return m, err
		}
	}
	return m, nil
}

// Registration is the verdict that a rig gets.
type Registration struct {
	Registration int64
	Verdict      string
	Reasons      []struct{ Code, Text string }
	Certificate  string
}

// Register has a rig register the unit in front of it: the unit makes its
// official key, the rig vouches, and the certificate goes into the unit.
func (o *Operator) Register(ctx context.Context, u *Unit) (r Registration, err error) {
	pending, err := u.Store.Load(device.Pending)
	if errors.Is(err, device.ErrEmpty) {
		pending, err = u.Store.Create(device.Pending, device.P256)
	}
	if err != nil {
		return r, err
	}
	csr, err := device.NewCSR(pending.Key, u.Serial)
	if err != nil {
		return r, err
	}
	if err := o.Do(ctx, http.MethodPost, "/registrations", map[string]string{
		"serial": u.Serial, "mac": u.MAC, "uid": u.UID, "csr": csrPEM(csr)}, &r); err != nil || r.Verdict != "admitted" {
		return r, err
	}
	block, _ := pem.Decode([]byte(r.Certificate))
	if block == nil {
		return r, errors.New("the server's answer holds no certificate")
	}
	cert, err := x509.ParseCertificate(block.Bytes)
	if err != nil {
		return r, err
	}
	if err := u.Store.Certify(device.Pending, []*x509.Certificate{cert}); err != nil {
		return r, err
	}
	return r, u.Store.Promote()
}

// Checkpoint fetches the audit log's newest checkpoint.
func (o *Operator) Checkpoint(ctx context.Context) (text string, err error) {
	err = o.send(ctx, http.MethodGet, "/audit/checkpoint", "text/plain", http.NoBody, &text)
	return text, err
}
