package device_test

import (
	"bytes"
	"context"
	"crypto/x509"
	"errors"
	"sync"
	"testing"
	"time"

	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/device/devicetest"
)

// overMQTT is a device that has nothing but a broker's address and the root.
func overMQTT(t *testing.T, store device.KeyStore) (*device.Device, *devicetest.Broker) {
	t.Helper()
	s := devicetest.New(t)
	b := devicetest.NewBroker(t, s)
	roots := x509.NewCertPool()
	roots.AddCert(s.Root)
	return &device.Device{Serial: "SN-1", Store: store, Root: s.Root, MQTT: &device.MQTTClient{Address: b.Address, Roots: roots}}, b
}

func TestLifeOverMQTT(t *testing.T) {
	d, b := overMQTT(t, built(t))
	ctx := context.Background()
	first, err := d.PowerOn(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := d.Use(ctx); err != nil {
		t.Fatal(err)
	}
	rekeyed, err := d.Renew(ctx, true)
	if err != nil || bytes.Equal(rekeyed.Leaf().RawSubjectPublicKeyInfo, first.Leaf().RawSubjectPublicKeyInfo) {
		t.Fatalf("re-keying: %v", err)
	}
	renewed, err := d.Renew(ctx, false)
	if err != nil || !bytes.Equal(renewed.Leaf().RawSubjectPublicKeyInfo, rekeyed.Leaf().RawSubjectPublicKeyInfo) || renewed.Leaf().Equal(rekeyed.Leaf()) {
		t.Fatalf("renewing: %v", err)
	}
	for _, want := range []string{"enrol", "activate", "renew", "renew"} {
		if got := <-b.Operations; got != want {
			t.Errorf("the device asked to %s, not to %s", got, want)
		}
	}
}

// Requests that the broker acknowledges and drops are asked again, by the same
// key.
func TestDroppedRequestsAreAskedAgain(t *testing.T) {
	d, b := overMQTT(t, built(t))
	d.MQTT.Timeout = 300 * time.Millisecond
	var dropped sync.Map
	b.Drop = func(operation string) bool {
		_, before := dropped.LoadOrStore(operation, true)
		return !before
	}
	a := &device.Agent{Device: d, Rekey: true, Pause: func(context.Context, time.Duration) error { return nil }}
	first, err := a.PowerOn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	second, err := a.Renew(t.Context())
	if err != nil || second.Leaf().Equal(first.Leaf()) {
		t.Fatalf("renewing: %v", err)
	}
	for _, operation := range []string{"enrol", "activate", "renew"} {
		if _, asked := dropped.Load(operation); !asked {
			t.Errorf("%s was not asked for", operation)
		}
	}
}

// What is no good answer leaves the device where it was.
func TestBadAnswersOverMQTT(t *testing.T) {
	stranger, err := new(device.MemoryStore).Create(device.Pending, device.P256)
	if err != nil {
		t.Fatal(err)
	}
	other, err := device.NewCSR(stranger.Key, "SN-1")
	if err != nil {
		t.Fatal(err)
	}
	csr, err := x509.ParseCertificateRequest(other)
	if err != nil {
		t.Fatal(err)
	}
	var reply *device.ReplyError
	var refused *device.StatusError
	var held *device.PendingError
	for name, tt := range map[string]struct {
		spoil func(*devicetest.Broker, *devicetest.Server)
		want  any
	}{
		"to another request": {func(b *devicetest.Broker, _ *devicetest.Server) {
			b.Change = func(a map[string]any) { a["nonce"] = "x" }
		}, &reply},
		"to other bytes": {func(b *devicetest.Broker, _ *devicetest.Server) {
			b.Change = func(a map[string]any) { a["request"] = "00" }
		}, &reply},
		"for another key": {func(b *devicetest.Broker, s *devicetest.Server) {
			b.Change = func(a map[string]any) { s.Set(func(s *devicetest.Server) { a["certificate"] = s.Certify(csr) }) }
		}, &reply},
		"without a certificate": {func(b *devicetest.Broker, _ *devicetest.Server) {
			b.Change = func(a map[string]any) { delete(a, "certificate") }
		}, &reply},
		"without the CAs": {func(b *devicetest.Broker, _ *devicetest.Server) {
			b.Change = func(a map[string]any) { delete(a, "cas") }
		}, &reply},
		"by an operator": {func(b *devicetest.Broker, _ *devicetest.Server) { b.Usage = x509.ExtKeyUsageClientAuth }, &reply},
		"cut off": {func(b *devicetest.Broker, _ *devicetest.Server) {
			b.Damage = func(m []byte) []byte { return m[:len(m)-1] }
		}, &reply},
		"with other content": {func(b *devicetest.Broker, _ *devicetest.Server) { b.Damage = swap("status\":200", "status\":201") }, &reply},
		"nothing but opening brackets": {func(b *devicetest.Broker, _ *devicetest.Server) {
			b.Damage = func([]byte) []byte { return bytes.Repeat([]byte{0x30, 0x80}, 64<<10) }
		}, &reply},
		"no": {func(b *devicetest.Broker, _ *devicetest.Server) {
			b.Change = func(a map[string]any) { a["status"], a["text"] = 403, "no" }
		}, &refused},
		"later": {func(b *devicetest.Broker, _ *devicetest.Server) {
			b.Change = func(a map[string]any) { a["status"], a["retryAfter"] = 202, 7 }
		}, &held},
	} {
		t.Run(name, func(t *testing.T) {
			s := devicetest.New(t)
			b := devicetest.NewBroker(t, s)
			tt.spoil(b, s)
			roots := x509.NewCertPool()
			roots.AddCert(s.Root)
			d := &device.Device{Serial: "SN-1", Store: built(t), Root: s.Root, MQTT: &device.MQTTClient{Address: b.Address, Roots: roots}}
			if _, err := d.PowerOn(t.Context()); err == nil || !errors.As(err, tt.want) {
				t.Errorf("%T %v", err, err)
			}
			if c, err := d.Store.Load(device.Official); err == nil {
				t.Errorf("the device took a certificate of %s", c.Leaf().Subject)
			}
		})
	}
	if held.RetryAfter != 7*time.Second || !refused.Final() || refused.Text != "no" {
		t.Errorf("held %+v, refused %+v", held, refused)
	}
}

func swap(old, with string) func([]byte) []byte {
	return func(m []byte) []byte { return bytes.ReplaceAll(m, []byte(old), []byte(with)) }
}

func TestBrokersThatAreNotTrusted(t *testing.T) {
	d, _ := overMQTT(t, built(t))
	_, stranger := overMQTT(t, built(t))
	d.MQTT.Address = stranger.Address
	var trust *device.TrustError
	if _, err := d.PowerOn(t.Context()); !errors.As(err, &trust) {
		t.Errorf("a stranger's broker: %v", err)
	}
	d.MQTT.Address = "localhost:1"
	var line *device.LineError
	if _, err := d.PowerOn(t.Context()); !errors.As(err, &line) {
		t.Errorf("no broker: %v", err)
	}
}
