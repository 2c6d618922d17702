package docs

import (
	"net"
	"path/filepath"
	"strings"
	"testing"
)

const mqttScript = "./guides/mqtt-with-mosquitto-and-openssl.sh"

// TestMQTTWithMosquittoAndOpenSSL walks a device through its life over MQTT
// with nothing of ours, by the script of
// docs/guides/mqtt-with-mosquitto-and-openssl.md, with MQTT 3.1.1 and with 5.
func TestMQTTWithMosquittoAndOpenSSL(t *testing.T) {
	w := newWorld(t, "sqlite:touchmark.db")
	s := &shift{world: w, devices: t.TempDir(), lin: filepath.Join(t.TempDir(), "lin")}
	s.plan(t)
	s.handIn(t, "A-0001", "A-0002")
	s.overMQTT(t, heldStatus, "enrol", "A-0001", "draft", "ask again after")
	s.cli(t, "order", "open", "PO-1")
	for serial, version := range map[string]string{"A-0001": "mqttv311", "A-0002": "mqttv5"} {
		t.Run(version, func(t *testing.T) {
			t.Setenv("MQTT_VERSION", version)
			s.lifeOverMQTT(t, serial)
		})
	}
	must(t, estScript, "bootstrap", s.device("stranger"), "A-9999")
	s.overMQTT(t, 1, "enrol", "stranger", "403", "record")
	w.cli(t, "audit", "verify")
}

// overMQTT runs the device's script with the exit status that it must have.
func (s *shift) overMQTT(t *testing.T, want int, action, serial string, says ...string) string {
	t.Helper()
	host, port, err := net.SplitHostPort(s.mqtt)
	if err != nil {
		t.Fatal(err)
	}
	out, errors, code := outcome(t, mqttScript, action, s.device(serial), host, port, s.root(), "thermostat")
	if code != want {
		t.Fatalf("%s %s: exit status %d, want %d\n%s%s", action, serial, code, want, out, errors)
	}
	for _, part := range says {
		if !strings.Contains(out+errors, part) {
			t.Errorf("%s %s does not say %q:\n%s%s", action, serial, part, out, errors)
		}
	}
	return out
}

func (s *shift) lifeOverMQTT(t *testing.T, serial string) {
	s.overMQTT(t, 0, "enrol", serial)
	first := s.official(t, serial)
	s.overMQTT(t, 0, "activate", serial, `"state":"valid"`, `"serial":"`+serial+`"`)
	s.overMQTT(t, 0, "renew", serial)
	second := s.official(t, serial)
	s.overMQTT(t, 0, "rekey", serial)
	third := s.official(t, serial)
	if first == second || second == third {
		t.Errorf("renewing gave the same certificate: %s, %s, %s", first, second, third)
	}
	device := s.cli(t, "device", "show", serial, "--json")
	if state, cert := field[string](t, device, "state"), field[string](t, device, "certificate"); state != "active" || !strings.EqualFold(cert, third) {
		t.Errorf("the device is %s with certificate %s, want active with %s", state, cert, third)
	}
	s.overMQTT(t, 1, "enrol", serial, "403", "bootstrap key")
	if evidence := s.cli(t, "evidence", "list", "--kind", "spent-bootstrap-key"); !strings.Contains(evidence, serial) {
		t.Errorf("using the spent bootstrap key left no evidence: %s", evidence)
	}
}
