package device_test

import (
	"context"
	"crypto"
	"crypto/x509"
	"encoding/base64"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/device/devicetest"
)

var errEnough = errors.New("waited long enough")

// agent counts its pauses instead of waiting, and gives up after some.
func agent(d *device.Device, patience int, pauses *[]time.Duration) *device.Agent {
	return &device.Agent{Device: d, Pause: func(_ context.Context, pause time.Duration) error {
		if *pauses = append(*pauses, pause); len(*pauses) > patience {
			return errEnough
		}
		return nil
	}}
}

// TestAgentPatience: a device that is held asks again when it was told to,
// one that meets a server out of order a little later, until it is let in.
func TestAgentPatience(t *testing.T) {
	s, n := devicetest.New(t), 0
	s.Answer = func(w http.ResponseWriter, peer *x509.Certificate, csr *x509.CertificateRequest) bool {
		n++
		switch n {
		case 1:
			return respond(503, "40", "starting")(w, peer, csr)
		case 2:
			return respond(202, "600", "the order is a draft")(w, peer, csr)
		}
		return false
	}
	var pauses []time.Duration
	c, err := agent(newDevice(s, built(t)), 2, &pauses).PowerOn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if len(pauses) != 2 || pauses[0] < 40*time.Second || pauses[1] < 10*time.Minute || pauses[1] > 12*time.Minute {
		t.Errorf("it waited %s", pauses)
	}
	if s.Keys() != 1 || !s.Used(c.Leaf()) {
		t.Errorf("%d keys were certified; used: %v", s.Keys(), s.Used(c.Leaf()))
	}
}

func TestAgentGivesUp(t *testing.T) {
	s := devicetest.New(t)
	var pauses []time.Duration
	s.Answer = respond(403, "", "over-production")
	_, err := agent(newDevice(s, built(t)), 3, &pauses).PowerOn(context.Background())
	var refused *device.StatusError
	if !errors.As(err, &refused) || len(pauses) != 0 {
		t.Errorf("refused for good: %v after %d pauses", err, len(pauses))
	}
	s.Set(func(s *devicetest.Server) { s.Answer = respond(202, "60", "a person must decide") })
	_, err = agent(newDevice(s, built(t)), 3, &pauses).PowerOn(context.Background())
	var held *device.PendingError
	if !errors.Is(err, errEnough) || !errors.As(err, &held) {
		t.Errorf("held until patience ended: %v", err)
	}
	pauses = nil
	d := newDevice(s, built(t))
	d.Client.URL = "https://localhost:1" // nobody answers
	_, err = agent(d, 12, &pauses).PowerOn(context.Background())
	var broken *device.LineError
	if !errors.As(err, &broken) || len(pauses) != 13 || pauses[0] > time.Second || pauses[12] < time.Minute || pauses[12] > 5*time.Minute {
		t.Errorf("a server that is away: %v after the pauses %s", err, pauses)
	}
}

// TestAgentResumesReKey: the answer to a re-key was lost with the power. The
// old certificate is superseded, so nothing is done with it but to ask again.
func TestAgentResumesReKey(t *testing.T) {
	s, store := devicetest.New(t), built(t)
	d := newDevice(s, store)
	first, err := d.PowerOn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	begun, err := store.Create(device.Pending, device.P256)
	if err != nil {
		t.Fatal(err)
	}
	var pauses []time.Duration
	c, err := agent(newDevice(s, store), 0, &pauses).PowerOn(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	if c.Leaf().Equal(first.Leaf()) || !begun.Key.Public().(interface{ Equal(crypto.PublicKey) bool }).Equal(c.Leaf().PublicKey) {
		t.Error("the official key is not the one of the re-key that had begun")
	}
	if s.Used(first.Leaf()) || !s.Used(c.Leaf()) {
		t.Error("the old certificate was used, or the new one was not")
	}
}

// TestAgentRenews: as time goes by the agent renews again and again.
func TestAgentRenews(t *testing.T) {
	for _, rekey := range []bool{false, true} {
		s, store := devicetest.New(t), built(t)
		now := time.Now()
		s.Template = func(c *x509.Certificate) { c.NotBefore, c.NotAfter = now, now.Add(30*time.Minute) }
		d := newDevice(s, store)
		d.Client.Now = func() time.Time { return now }
		a := &device.Agent{Device: d, Rekey: rekey, Pause: func(_ context.Context, pause time.Duration) error {
			now = now.Add(pause)
			if s.Seen("simplereenroll") == 2 {
				return errEnough
			}
			return nil
		}}
		if err := a.Run(context.Background()); !errors.Is(err, errEnough) {
			t.Fatal(err)
		}
		want := 1
		if rekey {
			want = 3
		}
		if s.Keys() != want {
			t.Errorf("re-key %v: %d keys were certified instead of %d", rekey, s.Keys(), want)
		}
	}
}

// TestAgentFollowsTheServer: the server says when to renew, however much of
// its life a certificate has left; and it is asked again as it wants.
func TestAgentFollowsTheServer(t *testing.T) {
	s, asked := devicetest.New(t), []string{}
	d := newDevice(s, built(t))
	c, err := d.PowerOn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	now := time.Now()
	d.Client.Now = func() time.Time { return now }
	later := now.Add(1000 * time.Hour)
	s.Window = func(name string) (start, end time.Time) {
		if asked = append(asked, name); len(asked) == 3 { // something happened
			return now.Add(-time.Hour), now.Add(-time.Minute)
		}
		return later, later
	}
	s.Template = func(c *x509.Certificate) { c.NotAfter = later }
	var pauses []time.Duration
	a := agent(d, 2, &pauses)
	counting := a.Pause
	a.Pause = func(ctx context.Context, pause time.Duration) error {
		now = now.Add(pause)
		return counting(ctx, pause)
	}
	if err := a.Run(t.Context()); !errors.Is(err, errEnough) {
		t.Fatal(err)
	}
	number := c.Leaf().SerialNumber.Bytes()
	name := base64.RawURLEncoding.EncodeToString(c.Leaf().AuthorityKeyId) + "." + base64.RawURLEncoding.EncodeToString(number)
	if len(asked) != 4 || asked[0] != name || asked[1] != name || asked[2] != name || asked[3] == name {
		t.Errorf("it asked for %q, the certificate is %q", asked, name)
	}
	for _, p := range pauses {
		if p != 30*time.Minute {
			t.Errorf("it waited %s", pauses)
		}
	}
}
