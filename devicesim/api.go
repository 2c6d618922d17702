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
	"net/http"
	"os"
	"strconv"
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

// NewOperator connects nothing yet; without a root it can only sign.
func NewOperator(url string, root *x509.Certificate, c *device.Credential) *Operator {
	roots := x509.NewCertPool()
	if root != nil {
		roots.AddCert(root)
	}
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
		return problem(method+" "+path, response.StatusCode, answer)
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

// Problem is an answer that refuses an operator's call (RFC 9457).
type Problem struct {
	Call   string `json:"-"`
	Status int    `json:"-"`
	Title  string `json:"title"`
	Detail string `json:"detail"`
	Errors []struct {
		Message, Location string
	} `json:"errors"`
	Lines []struct {
		Line    int64
		Message string
	} `json:"lines"`
}

func (p *Problem) Error() string {
	text := p.Detail
	if text == "" {
		text = p.Title
	}
	for _, e := range p.Errors {
		text += "; " + strings.TrimPrefix(e.Location+": "+e.Message, ": ")
	}
	for _, l := range p.Lines[:min(len(p.Lines), 5)] {
		text += fmt.Sprintf("; line %d: %s", l.Line, l.Message)
	}
	return fmt.Sprintf("%s: %d: %s", p.Call, p.Status, text)
}

func problem(call string, status int, answer []byte) error {
	p := &Problem{}
	if json.Unmarshal(answer, p) != nil || p.Title+p.Detail == "" {
		p.Detail = strings.TrimSpace(string(answer))
	}
	p.Call, p.Status = call, status
	return p
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

// Checkpoint fetches the audit log's newest checkpoint.
func (o *Operator) Checkpoint(ctx context.Context) (text string, err error) {
	err = o.send(ctx, http.MethodGet, "/audit/checkpoint", "text/plain", http.NoBody, &text)
	return text, err
}

// CheckpointOver waits until a checkpoint covers a leaf: the server signs one
// now and then.
func (o *Operator) CheckpointOver(ctx context.Context, leaf int64) (string, error) {
	again := time.NewTicker(50 * time.Millisecond)
	defer again.Stop()
	for {
		text, err := o.Checkpoint(ctx)
		if err != nil {
			return "", err
		}
		if size, err := checkpointSize(text); err != nil || size > leaf {
			return text, err
		}
		select {
		case <-again.C:
		case <-ctx.Done():
			return "", fmt.Errorf("no checkpoint covers leaf %d yet: %w", leaf, ctx.Err())
		}
	}
}

// checkpointSize is the second line of a checkpoint (C2SP tlog-checkpoint).
func checkpointSize(text string) (int64, error) {
	lines := strings.SplitN(text, "\n", 3)
	if len(lines) < 3 {
		return 0, fmt.Errorf("%q is not a checkpoint", text)
	}
	return strconv.ParseInt(lines[1], 10, 64)
}
