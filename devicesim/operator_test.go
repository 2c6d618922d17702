package devicesim_test

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/device/devicetest"
	"github.com/touchmark/touchmark/devicesim"
)

// fakeAPI answers an operator's calls as the test says, by method and path.
type fakeAPI struct {
	answers map[string]func(w http.ResponseWriter, r *http.Request)
	mu      sync.Mutex
	keys    map[string]bool // idempotency keys seen
}

func (f *fakeAPI) operator(t *testing.T) *devicesim.Operator {
	t.Helper()
	f.keys = map[string]bool{}
	server := httptest.NewUnstartedServer(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		answer := f.answers[r.Method+" "+r.URL.Path]
		if answer == nil || len(r.TLS.PeerCertificates) == 0 {
			t.Errorf("%s %s by %d certificates", r.Method, r.URL.Path, len(r.TLS.PeerCertificates))
			return
		}
		if r.Method == http.MethodPost {
			f.mu.Lock()
			key := r.Header.Get("Idempotency-Key")
			if key == "" || f.keys[key] {
				t.Errorf("%s: the idempotency key %q", r.URL.Path, key)
			}
			f.keys[key] = true
			f.mu.Unlock()
		}
		answer(w, r)
	}))
	server.TLS = &tls.Config{ClientAuth: tls.RequestClientCert}
	server.StartTLS()
	t.Cleanup(server.Close)
	o := devicesim.NewOperator(server.URL, server.Certificate(), person(t))
	t.Cleanup(o.Close)
	return o
}

// person is a key with a certificate that a test can sign with.
func person(t *testing.T) *device.Credential {
	t.Helper()
	c, err := device.MakeBootstrap(new(device.MemoryStore), "lin", device.P256, time.Now())
	if err != nil {
		t.Fatal(err)
	}
	return c
}

func say(text string) func(http.ResponseWriter, *http.Request) {
	return func(w http.ResponseWriter, _ *http.Request) { _, _ = io.WriteString(w, text) }
}

func TestProblem(t *testing.T) {
	f := &fakeAPI{answers: map[string]func(http.ResponseWriter, *http.Request){
		"POST /api/v1/orders": func(w http.ResponseWriter, _ *http.Request) {
			w.WriteHeader(http.StatusUnprocessableEntity)
			_, _ = io.WriteString(w, `{"title":"Unprocessable Entity","detail":"the order makes no sense","errors":[{"location":"body.quantity","message":"0 is less than 1"}],"lines":[{"line":7,"message":"no serial"}]}`)
		},
		"POST /api/v1/sites":    func(w http.ResponseWriter, _ *http.Request) { http.Error(w, "a proxy speaks", http.StatusBadGateway) },
		"GET /audit/checkpoint": say("origin\n3\n"),
	}}
	o := f.operator(t)
	err := o.Do(context.Background(), http.MethodPost, "/orders", map[string]int{"quantity": 0}, nil)
	var p *devicesim.Problem
	want := "POST /api/v1/orders: 422: the order makes no sense; body.quantity: 0 is less than 1; line 7: no serial"
	if !errors.As(err, &p) || p.Status != 422 || err.Error() != want {
		t.Errorf("%v", err)
	}
	if err := o.Do(context.Background(), http.MethodPost, "/sites", nil, nil); err == nil || !strings.HasSuffix(err.Error(), "502: a proxy speaks") {
		t.Errorf("%v", err)
	}
	if text, err := o.Checkpoint(context.Background()); err != nil || text != "origin\n3\n" {
		t.Errorf("%q, %v", text, err)
	}
}

func TestCheckpointOver(t *testing.T) {
	asked := 0
	f := &fakeAPI{answers: map[string]func(http.ResponseWriter, *http.Request){
		"GET /audit/checkpoint": func(w http.ResponseWriter, _ *http.Request) {
			asked++
			fmt.Fprintf(w, "origin\n%d\nroot\n", 2*asked)
		},
	}}
	o := f.operator(t)
	if text, err := o.CheckpointOver(context.Background(), 5); err != nil || text != "origin\n6\nroot\n" {
		t.Errorf("%q, %v", text, err)
	}
	ended, cancel := context.WithCancel(context.Background())
	cancel()
	if text, err := o.CheckpointOver(ended, 1000); err == nil {
		t.Errorf("%q", text)
	}
	f.answers["GET /audit/checkpoint"] = say("<html>")
	if text, err := o.CheckpointOver(context.Background(), 5); err == nil {
		t.Errorf("%q", text)
	}
}

// TestHandIn: what goes over the wire is the manifest and a signature over
// it that openssl accepts; then the operator waits for the records.
func TestHandIn(t *testing.T) {
	dir := t.TempDir()
	factory := devicesim.Factory{Prefix: "SN-", Block: 9, Now: time.Now}
	units := build(t, 3)
	manifest := factory.Manifest(units)
	looks := 0
	f := &fakeAPI{answers: map[string]func(http.ResponseWriter, *http.Request){
		"POST /api/v1/orders/PO-1/manifests": func(w http.ResponseWriter, r *http.Request) {
			form, err := r.MultipartReader()
			if err != nil {
				t.Error(err)
				return
			}
			for _, want := range []string{"manifest", "signature"} {
				part, err := form.NextPart()
				if err != nil || part.FormName() != want {
					t.Errorf("part %s: %v", want, err)
					return
				}
				data, err := io.ReadAll(part)
				if err == nil {
					err = os.WriteFile(filepath.Join(dir, want), data, 0o600)
				}
				if err != nil {
					t.Error(err)
				}
			}
			w.WriteHeader(http.StatusCreated)
			_, _ = io.WriteString(w, `{"id":5,"state":"accepted","records":3}`)
		},
		"GET /api/v1/manifests/5": func(w http.ResponseWriter, _ *http.Request) {
			if looks++; looks < 2 {
				_, _ = io.WriteString(w, `{"id":5,"state":"accepted","records":3,"loaded":1}`)
				return
			}
			_, _ = io.WriteString(w, `{"id":5,"state":"loaded","records":3,"loaded":3,"fresh":3}`)
		},
	}}
	o := f.operator(t)
	m, err := o.HandIn(context.Background(), "PO-1", manifest)
	if err != nil || m.State != "loaded" || m.Fresh != 3 || looks != 2 {
		t.Errorf("%+v after %d looks, %v", m, looks, err)
	}
	if sent, err := os.ReadFile(filepath.Join(dir, "manifest")); err != nil || !bytes.Equal(sent, manifest) {
		t.Errorf("the manifest was sent as %q: %v", sent, err)
	}
	cert := pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: o.Cert.Raw})
	if err := os.WriteFile(filepath.Join(dir, "lin.crt"), cert, 0o600); err != nil {
		t.Fatal(err)
	}
	verify := exec.Command("openssl", "cms", "-verify", "-binary", "-inform", "DER", "-in", "signature", "-content", "manifest", "-out", "verified",
		"-noverify", "-certfile", "lin.crt")
	verify.Dir = dir
	if out, err := verify.CombinedOutput(); err != nil {
		t.Errorf("openssl does not accept the signature: %v: %s", err, out)
	}
}

func TestManifestLines(t *testing.T) {
	f := devicesim.Factory{Prefix: "SN-", Block: 9, Now: time.Now}
	units, err := f.Build(254, 257)
	if err != nil {
		t.Fatal(err)
	}
	manifest := f.Manifest(units)
	lines := bytes.Split(bytes.TrimSpace(manifest), []byte("\n"))
	if len(lines) != 3 {
		t.Fatalf("%d lines", len(lines))
	}
	var last map[string]any
	if err := json.Unmarshal(lines[2], &last); err != nil {
		t.Fatal(err)
	}
	c, err := units[2].Store.Load(device.Bootstrap)
	if err != nil {
		t.Fatal(err)
	}
	key, err := device.Fingerprint(c.Key.Public())
	if err != nil {
		t.Fatal(err)
	}
	for field, want := range map[string]string{"serial": "SN-000256", "mac": "02:09:00:00:01:00", "uid": "0900000000000100", "bootstrapKey": key} {
		if last[field] != want {
			t.Errorf("%s is %v instead of %s", field, last[field], want)
		}
	}
	read, err := devicesim.ReadManifest(manifest)
	if err != nil || len(read) != 3 || read[2].MAC != units[2].MAC || read[2].UID != units[2].UID || read[2].Listed != key {
		t.Errorf("read again: %v", err)
	}
	if _, err := devicesim.ReadManifest(append(manifest, "{"...)); err == nil || !strings.Contains(err.Error(), "record 4") {
		t.Errorf("a broken line: %v", err)
	}
}

// TestRig registers a unit through the API and another over EST; the unit
// takes only a certificate for its own key.
func TestRig(t *testing.T) {
	s, units := devicetest.New(t), build(t, 3)
	spoil := false
	f := &fakeAPI{answers: map[string]func(http.ResponseWriter, *http.Request){
		"POST /api/v1/registrations": func(w http.ResponseWriter, r *http.Request) {
			var in struct{ Serial, MAC, UID, CSR string }
			if err := json.NewDecoder(r.Body).Decode(&in); err != nil {
				t.Error(err)
			}
			if in.Serial == units[2].Serial {
				_, _ = io.WriteString(w, `{"verdict":"refused","reasons":[{"code":"x","text":"One."},{"code":"y","text":"Two."}]}`)
				return
			}
			block, _ := pem.Decode([]byte(in.CSR))
			csr, err := x509.ParseCertificateRequest(block.Bytes)
			if err != nil || in.MAC != units[0].MAC || in.UID != units[0].UID {
				t.Errorf("%+v: %v", in, err)
				return
			}
			der := s.Root.Raw
			if !spoil {
				s.Set(func(s *devicetest.Server) { der = s.Certify(csr) })
			}
			_ = json.NewEncoder(w).Encode(map[string]any{"verdict": "admitted", "certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}))})
		},
	}}
	rig, ctx := f.operator(t), context.Background()
	spoil = true
	var bad *device.ReplyError
	if _, err := rig.Register(ctx, serverOf(s), units[0]); !errors.As(err, &bad) {
		t.Errorf("a certificate for another key: %v", err)
	}
	spoil = false
	if r, err := rig.Register(ctx, serverOf(s), units[0]); err != nil || r.Verdict != "admitted" {
		t.Errorf("%+v, %v", r, err)
	}
	if r, err := rig.Register(ctx, serverOf(s), units[2]); err != nil || r.Verdict != "refused" || r.Text() != "One. Two." {
		t.Errorf("%+v, %v", r, err)
	}
	s.Set(func(s *devicetest.Server) {
		s.Answer = func(_ http.ResponseWriter, peer *x509.Certificate, csr *x509.CertificateRequest) bool {
			if !peer.Equal(rig.Cert) || csr.Subject.SerialNumber != units[1].Serial {
				t.Errorf("%s asks for %s", peer.Subject, csr.Subject)
			}
			return false
		}
	})
	cert, err := rig.RegisterOverEST(ctx, serverOf(s), units[1])
	if err != nil {
		t.Fatal(err)
	}
	if c, err := units[1].Store.Load(device.Official); err != nil || !c.Leaf().Equal(cert) || len(c.Chain) != 2 {
		t.Errorf("the unit did not get its certificate: %v", err)
	}
}

func TestHire(t *testing.T) {
	authority := devicetest.New(t)
	f := &fakeAPI{answers: map[string]func(http.ResponseWriter, *http.Request){
		"POST /api/v1/operators": func(w http.ResponseWriter, r *http.Request) {
			var in struct{ Name, Role, Site, CSR string }
			if err := json.NewDecoder(r.Body).Decode(&in); err != nil || in.Name != "rig-7" || in.Role != "rig" || in.Site != "hsinchu" {
				t.Errorf("%+v: %v", in, err)
			}
			block, _ := pem.Decode([]byte(in.CSR))
			csr, err := x509.ParseCertificateRequest(block.Bytes)
			if err != nil {
				t.Error(err)
				return
			}
			_ = json.NewEncoder(w).Encode(map[string]string{"certificate": string(pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: authority.Certify(csr)}))})
		},
		"GET /api/v1/whoami": func(w http.ResponseWriter, r *http.Request) {
			_ = json.NewEncoder(w).Encode(map[string]string{"name": r.TLS.PeerCertificates[0].Subject.CommonName})
		},
	}}
	rig, err := f.operator(t).Hire(context.Background(), "rig-7", "rig", "hsinchu")
	if err != nil {
		t.Fatal(err)
	}
	defer rig.Close()
	var me struct{ Name string }
	if err := rig.Do(context.Background(), http.MethodGet, "/whoami", nil, &me); err != nil || me.Name != "rig-7" {
		t.Errorf("%q, %v", me.Name, err)
	}
}
