package server

import (
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

const wrongCode = "ZZZZ-ZZZZ-ZZZZ-ZZZF"

func basic(user, code string) string {
	return base64.StdEncoding.EncodeToString([]byte(user + ":" + code))
}

// code makes an enrolment code over the API, for a device or for the world's
// order.
func (w *works) code(serial string) string {
	w.t.Helper()
	p, err := w.server.store.Product(w.t.Context(), "thermo")
	if err != nil {
		w.t.Fatal(err)
	}
	if !p.Accepts(vetting.ProofCode) {
		changed := *p
		changed.Proofs = append(changed.Proofs, vetting.ProofCode)
		if _, err := w.server.store.UpdateProduct(w.t.Context(), storetest.By, &changed); err != nil {
			w.t.Fatal(err)
		}
	}
	in := api.CodesInput{Order: "po-1", Expires: time.Now().Add(time.Hour)}
	if serial != "" {
		in.Order, in.Devices = "", []int64{w.device(serial).ID}
	}
	var made api.CodesCreated
	if err := json.Unmarshal(send(w.t, as(w.t, w.config, "admin"), "POST", "https://"+w.server.Addrs()["api"]+"/api/v1/codes", in, 201), &made); err != nil {
		w.t.Fatal(err)
	}
	return made.Codes[0].Code
}

// csr is a request on a new key.
func (w *works) csr() []byte {
	w.t.Helper()
	_, der := w.request(&x509.Certificate{})
	return der
}

// byCode enrols with a code and nothing else.
func (w *works) byCode(user, code string, csr []byte) (status int, header http.Header, body string) {
	w.t.Helper()
	resp, text := w.send(tls.VersionTLS13, pair{}, "POST", "/.well-known/est/simpleenroll", b64(csr), "Content-Type", "application/pkcs10", "Authorization", "Basic "+basic(user, code))
	return resp.StatusCode, resp.Header, text
}

// Whoever guesses at codes for a device is slowed down and leaves one trace;
// the device itself gets in by a code made for it.
func TestGuessing(t *testing.T) {
	w := opened(t, func(*Config) {})
	w.build("S-1", time.Now().Add(time.Hour))
	own := w.code("S-1")
	answers := map[int]int{}
	for range 2 * leastBurst {
		code, err := vetting.NewOneTimeCode(rand.Reader)
		if err != nil {
			t.Fatal(err)
		}
		status, header, _ := w.byCode("S-1", code.Label(), w.csr())
		answers[status]++
		if status == 429 && header.Get("Retry-After") == "" || status == 401 && header.Get("WWW-Authenticate") == "" {
			t.Errorf("%d %v", status, header)
		}
	}
	if answers[401] < leastBurst || answers[429] == 0 || answers[401]+answers[429] != 2*leastBurst {
		t.Errorf("%v", answers)
	}
	list, err := w.server.store.Registrations(t.Context(), vetting.RegistrationFilter{}, vetting.Page{})
	if err != nil || len(list) != 1 || list[0].Repeats != int64(answers[401]-1) {
		t.Errorf("%d registrations, %v", len(list), err)
	}
	evidence, err := w.server.store.Evidence(t.Context(), vetting.EvidenceFilter{Kind: vetting.EvidenceWrongCode}, vetting.Page{})
	if err != nil || len(evidence) != 1 || evidence[0].DeviceID != w.device("S-1").ID {
		t.Errorf("evidence %+v, %v", evidence, err)
	}
	if status, _, body := w.byCode("", own, w.csr()); status != 200 {
		t.Errorf("the device itself: %d %s", status, body)
	}
	if status, _, body := w.byCode("", own, w.csr()); status != 403 || !strings.Contains(body, "used already") {
		t.Errorf("its code again, with another key: %d %s", status, body)
	}
}
