package server

import (
	"crypto/rand"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// own sends a request to the devices' own door.
func (w *works) own(p pair, method, path string) (code int, header http.Header, body string) {
	w.t.Helper()
	resp, text := w.send(v13, p, method, path, "")
	return resp.StatusCode, resp.Header, text
}

// device finds a device by its serial number.
func (w *works) device(serial string) *vetting.Device {
	w.t.Helper()
	list, err := w.server.store.Devices(w.t.Context(), vetting.DeviceFilter{Identity: vetting.Identity{Serial: serial}}, vetting.Page{})
	if err != nil || len(list) != 1 {
		w.t.Fatalf("%d devices %s: %v", len(list), serial, err)
	}
	return list[0]
}

const v13 = 0x0304 // TLS 1.3

func TestActivation(t *testing.T) {
	w := opened(t)
	soon := w.now().Add(time.Hour)
	boot := w.build("A-1", soon)
	official := w.enrol(v13, boot, "simpleenroll", nil)
	if d := w.device("A-1"); d.State != vetting.DeviceIssued {
		t.Fatalf("before its first use the device is %s", d.State)
	}
	for range 2 {
		code, header, body := w.own(official, "POST", "/device/v1/activation")
		var a struct {
			Serial, Certificate, State string
			NotAfter                   time.Time
			Renew                      struct{ Start, End time.Time }
		}
		if err := json.Unmarshal([]byte(body), &a); err != nil || code != 200 || header.Get("Content-Type") != "application/json" {
			t.Fatalf("activation: %d %s, %v", code, body, err)
		}
		if a.Serial != "A-1" || a.Certificate != fmt.Sprintf("%034x", official.cert.SerialNumber) || a.State != "valid" || !a.NotAfter.Equal(official.cert.NotAfter) ||
			!a.Renew.Start.After(w.now()) || !a.Renew.End.After(a.Renew.Start) || a.Renew.End.After(a.NotAfter) {
			t.Errorf("activation: %s", body)
		}
	}
	d := w.device("A-1")
	if d.State != vetting.DeviceActive || d.Activated.IsZero() {
		t.Errorf("activated, the device is %+v", d)
	}
	renewed := w.enrol(v13, official, "simplereenroll", official.cert)
	stranger := w.issued("S-1", w.issued("Stranger CA", pair{}, soon), soon)
	if _, err := w.server.store.SetDeviceState(t.Context(), storetest.By, w.device("A-1").ID, vetting.DeviceSuspended, "test"); err != nil {
		t.Fatal(err)
	}
	for name, tt := range map[string]struct {
		who  pair
		code int
		text string
	}{
		"nobody":           {pair{}, 401, "no client certificate"},
		"a bootstrap key":  {boot, 403, "not an official one"},
		"a stranger":       {stranger, 403, "no CA of this server"},
		"a suspended":      {renewed, 403, "is suspended"},
		"a superseded one": {official, 403, "is suspended"},
	} {
		code, header, body := w.own(tt.who, "POST", "/device/v1/activation")
		if code != tt.code || !strings.Contains(body, tt.text) || header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s", name, code, body)
		}
	}
	w.ahead.Store(int64(900 * 24 * time.Hour))
	if code, _, body := w.own(renewed, "POST", "/device/v1/activation"); code != 403 || !strings.Contains(body, "ran out") {
		t.Errorf("run out: %d %s", code, body)
	}
	for path, want := range map[string]int{"/device/v1/": 404, "/device/v1/activation/": 404, "/device/v2/activation": 404} {
		if code, _, body := w.own(pair{}, "POST", path); code != want {
			t.Errorf("%s: %d %s", path, code, body)
		}
	}
}

// An expired certificate that is shown to fetch the CA certificates is no use
// of it.
func TestExpiredUseDoesNotActivate(t *testing.T) {
	w := opened(t)
	official := w.enrol(v13, w.build("A-1", w.now().Add(time.Hour)), "simpleenroll", nil)
	w.ahead.Store(int64(900 * 24 * time.Hour))
	w.getsCACerts(v13, official, "expired")
	if d := w.device("A-1"); d.State != vetting.DeviceIssued {
		t.Errorf("the device is %s", d.State)
	}
}

// ariName is a certificate's name by RFC 9773 §4.1.
func ariName(p pair) string {
	encode := base64.RawURLEncoding.EncodeToString
	number := p.cert.SerialNumber.Bytes()
	if number[0] >= 0x80 {
		number = append([]byte{0}, number...)
	}
	return encode(p.cert.AuthorityKeyId) + "." + encode(number)
}

// renewalWindow asks when a certificate should be renewed.
func (w *works) renewalWindow(p pair) (start, end time.Time) {
	w.t.Helper()
	code, header, body := w.own(pair{}, "GET", "/device/v1/renewal-info/"+ariName(p))
	var a struct {
		SuggestedWindow struct{ Start, End time.Time }
	}
	if err := json.Unmarshal([]byte(body), &a); err != nil || code != 200 || header.Get("Content-Type") != "application/json" {
		w.t.Fatalf("%d %s, %v", code, body, err)
	}
	if s, err := strconv.Atoi(header.Get("Retry-After")); err != nil || s < 60 {
		w.t.Errorf("Retry-After %q (RFC 9773 §4.3)", header.Get("Retry-After"))
	}
	return a.SuggestedWindow.Start, a.SuggestedWindow.End
}

func TestRenewalInfo(t *testing.T) {
	w := opened(t)
	official := w.enrol(v13, w.build("A-1", w.now().Add(time.Hour)), "simpleenroll", nil)
	ask := func() (start, end time.Time) { return w.renewalWindow(official) }
	life := official.cert.NotAfter.Sub(w.now())
	start, end := ask()
	if left := official.cert.NotAfter.Sub(start); left < life*33/100 || left > life*34/100 || end.After(official.cert.NotAfter.Add(-life*16/100)) || !end.After(start) {
		t.Errorf("the window is from %s to %s of a life until %s", start, end, official.cert.NotAfter)
	}
	p := *w.world.Product
	p.Life.RenewWindow = "10d"
	if _, err := w.server.store.UpdateProduct(t.Context(), storetest.By, &p); err != nil {
		t.Fatal(err)
	}
	_, csr := w.request(official.cert)
	if code, _, body := w.est(v13, official, "simplereenroll", csr); code != 403 || !strings.Contains(body, "renews from") {
		t.Errorf("renewal before its time: %d %s", code, body)
	}
	if wait := w.renewAfter(official, csr); wait < 814*24*time.Hour || wait > 815*24*time.Hour+time.Second {
		t.Errorf("renewal before its time: Retry-After %s", wait)
	}
	if start, _ := ask(); !start.Equal(official.cert.NotAfter.Add(-10 * 24 * time.Hour)) {
		t.Errorf("the window begins at %s, where the product renews 10 days before %s", start, official.cert.NotAfter)
	}
}

// renewAfter asks for a renewal and returns the answer's Retry-After.
func (w *works) renewAfter(p pair, csr []byte) time.Duration {
	w.t.Helper()
	client := w.speaks(v13, p)
	defer client.CloseIdleConnections()
	resp, err := client.Post("https://"+w.server.Addrs()["est"]+"/.well-known/est/simplereenroll", "application/pkcs10", strings.NewReader(base64.StdEncoding.EncodeToString(csr)))
	if err != nil {
		w.t.Fatal(err)
	}
	defer resp.Body.Close()
	s, err := strconv.Atoi(resp.Header.Get("Retry-After"))
	if err != nil {
		w.t.Errorf("Retry-After: %v", err)
	}
	return time.Duration(s) * time.Second
}

func TestRenewalInfoRefuses(t *testing.T) {
	w := opened(t)
	official := w.enrol(v13, w.build("A-1", w.now().Add(time.Hour)), "simpleenroll", nil)
	good := ariName(official)
	issuer, number, _ := strings.Cut(good, ".")
	for name, want := range map[string]int{
		issuer:                           400,
		issuer + ".":                     400,
		"." + number:                     400,
		good + "=":                       400,
		good + ".x":                      400,
		issuer + ".gA":                   400, // a negative number
		issuer + ".AAE":                  400, // a zero too many
		strings.Repeat("A", 200) + ".AQ": 400,
		issuer + ".AQ":                   404, // never issued
		"AAAA." + number:                 404, // by another CA
		"%2e%2e":                         400,
		"x%00y.AQ":                       400,
		issuer + ".AP__":                 404,
	} {
		code, header, body := w.own(pair{}, "GET", "/device/v1/renewal-info/"+name)
		if code != want || header.Get("Content-Type") != "application/problem+json" {
			t.Errorf("%s: %d %s, want %d", name, code, body, want)
		}
	}
}

// sameKey is the request with which a device renews on its own key.
func (w *works) sameKey(p pair) []byte {
	w.t.Helper()
	csr, err := x509.CreateCertificateRequest(rand.Reader, &x509.CertificateRequest{RawSubject: p.cert.RawSubject}, p.key)
	if err != nil {
		w.t.Fatal(err)
	}
	return csr
}

// A device that slept beyond its certificate's end comes back as its product
// allows: by itself, by a person's word, or not at all.
func TestSleeper(t *testing.T) {
	w := opened(t)
	p := *w.world.Product
	p.Life.Grace, p.Life.Rescue = "30d", "60d"
	if _, err := w.server.store.UpdateProduct(t.Context(), storetest.By, &p); err != nil {
		t.Fatal(err)
	}
	soon := w.now().Add(time.Hour)
	first := w.enrol(v13, w.build("A-1", soon), "simpleenroll", nil)
	second := w.enrol(v13, w.build("A-2", soon), "simpleenroll", nil)
	day := 24 * time.Hour
	w.ahead.Store(int64(845 * day)) // the profile gives 825
	_, rekey := w.request(first.cert)
	if code, _, body := w.est(v13, first, "simplereenroll", rekey); code != 403 || !strings.Contains(body, "on its own key only") {
		t.Errorf("in the time of grace, on a new key: %d %s", code, body)
	}
	if code, _, body := w.est(v13, first, "simplereenroll", w.sameKey(first)); code != 200 {
		t.Errorf("in the time of grace: %d %s", code, body)
	}
	w.ahead.Store(int64(870 * day))
	code, _, body := w.est(v13, second, "simplereenroll", w.sameKey(second))
	if code != 202 || !strings.Contains(body, "a person must decide") {
		t.Fatalf("beyond the grace: %d %s", code, body)
	}
	held, err := w.server.store.Registrations(t.Context(), vetting.RegistrationFilter{Undecided: true}, vetting.Page{})
	if err != nil || len(held) != 1 {
		t.Fatalf("%d registrations wait, %v", len(held), err)
	}
	if _, err := w.server.store.DecideRegistration(t.Context(), storetest.By, held[0].ID, vetting.Decision{Admit: true, By: "petra", Note: "it was in store"}); err != nil {
		t.Fatal(err)
	}
	if code, _, body := w.est(v13, second, "simplereenroll", w.sameKey(second)); code != 200 {
		t.Errorf("let in: %d %s", code, body)
	}
}
