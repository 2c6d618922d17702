package webhook

import (
	"net/http"
	"net/netip"
	"net/url"
	"strings"
	"testing"

	"github.com/touchmark/touchmark/internal/events"
	"github.com/touchmark/touchmark/vetting"
)

func TestTargets(t *testing.T) {
	inside, err := NewTargets([]string{"erp.intern.example", "10.1.0.0/16", "2001:db8:7::/48", "Receiver.Example."})
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range []struct {
		targets Targets
		url     string
		address string
		want    string // "" if it is admitted
	}{
		{Targets{}, "https://a.example/x", "1.1.1.1", ""},
		{Targets{}, "https://a.example:8443/x?y=z", "2606:4700::1111", ""},
		{Targets{}, "https://a.example/x", "10.1.2.3", "not a public one"},
		{Targets{}, "https://a.example/x", "::ffff:10.1.2.3", "not a public one"},
		{Targets{}, "http://a.example/x", "1.1.1.1", "use https"},
		{inside, "https://a.example/", "10.1.2.3", ""},
		{inside, "http://a.example/", "10.1.2.3", ""},
		{inside, "http://a.example/", "::ffff:10.1.2.3", ""},
		{inside, "http://a.example/", "10.2.2.3", "not a public one"},
		{inside, "http://a.example/", "1.1.1.1", "use https"},
		{inside, "https://a.example/", "2001:db8:7::1", ""},
		{inside, "http://erp.intern.example/", "192.168.1.1", ""},
		{inside, "http://RECEIVER.example:8080/", "127.0.0.1", ""},
		{inside, "https://x.erp.intern.example/", "192.168.1.1", "not a public one"},
		{Targets{}, "ftp://a.example/", "1.1.1.1", "want https://"},
		{Targets{}, "//a.example/", "1.1.1.1", "want https://"},
		{Targets{}, "https://", "1.1.1.1", "want https://"},
		{Targets{}, "https://:443/", "1.1.1.1", "want https://"},
		{Targets{}, "https://user:pw@a.example/", "1.1.1.1", "user name"},
		{Targets{}, "https://a.example/#x", "1.1.1.1", "fragment"},
		{Targets{}, "https://a.example:0/", "1.1.1.1", "port"},
		{Targets{}, "https://a.example:99999/", "1.1.1.1", "port"},
		{Targets{}, "https://a.example/%zz", "1.1.1.1", "cannot be read"},
		{Targets{}, "https://a.example/" + strings.Repeat("x", 3000), "1.1.1.1", "bytes"},
	} {
		u, err := c.targets.parse(c.url)
		if err == nil {
			err = c.targets.control(u)("tcp", netip.AddrPortFrom(netip.MustParseAddr(c.address), 443).String(), nil)
		}
		if c.want == "" && err != nil || c.want != "" && (err == nil || !strings.Contains(err.Error(), c.want)) {
			t.Errorf("%s at %s: %v, want %q", c.url, c.address, err, c.want)
		}
	}
	for _, bad := range []string{"", "https://a.example", "a.example:443", "10.0.0.0/33", "*.example", "a b"} {
		if _, err := NewTargets([]string{bad}); err == nil {
			t.Errorf("%q is accepted", bad)
		}
	}
}

// TestTargetsAtCreation refuses what can be known to lead inside.
func TestTargetsAtCreation(t *testing.T) {
	for url, want := range map[string]string{
		"https://127.0.0.1/": "not a public one", "https://[::1]/": "not a public one", "https://[::ffff:127.0.0.1]/": "not a public one",
		"https://169.254.169.254/latest/meta-data/": "not a public one", "https://localhost/": "not a public one",
		"https://[64:ff9b::7f00:1]/": "not a public one", "http://1.1.1.1/": "use https", "https://1.1.1.1/": "",
	} {
		err := Targets{}.Check(t.Context(), events.Target{URL: url})
		if want == "" && err != nil || want != "" && (vetting.ProblemOf(err) != vetting.Invalid || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", url, err, want)
		}
	}
	if err := (Targets{}).Check(t.Context(), events.Target{URL: "https://1.1.1.1/", CA: "no PEM"}); vetting.ProblemOf(err) != vetting.Invalid {
		t.Errorf("a CA that is none: %v", err)
	}
}

// TestAddressIsCheckedWhenDialled has names that lead inside only when the
// connection is made: no connection is made then.
func TestAddressIsCheckedWhenDialled(t *testing.T) {
	w := newWorld(t)
	u, err := url.Parse(w.receiver.URL)
	if err != nil {
		t.Fatal(err)
	}
	w.receiver.Config.Handler = http.HandlerFunc(func(http.ResponseWriter, *http.Request) { t.Error("it was reached") })
	for _, host := range []string{"localhost", "127.0.0.1", "[::ffff:127.0.0.1]", "127.1"} {
		hook := &events.Webhook{Name: "x", Target: events.Target{URL: "https://" + host + ":" + u.Port() + "/", CA: w.ca()}, Seed: NewSeed()}
		c, err := newCourier(hook, Targets{}, testSecrets, w.now)
		if err != nil {
			t.Fatal(err)
		}
		if err := c.bring(t.Context(), "id", nil); err == nil || !strings.Contains(err.Error(), "not a public one") && host != "127.1" {
			t.Errorf("%s: %v", host, err)
		}
	}
}
