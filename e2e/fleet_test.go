package e2e

import (
	"context"
	"encoding/hex"
	"math/rand/v2"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/devicesim"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/server"
	"github.com/touchmark/touchmark/vetting"
)

// TestDemo is the demo's day on a small order.
func TestDemo(t *testing.T) {
	for name, dsn := range storetest.Databases(t) {
		t.Run(name, func(t *testing.T) {
			i := install(t, dsn)
			i.start()
			var out strings.Builder
			d := devicesim.Demo{Server: i.server(), Admin: i.admin(), Quantity: 40, Over: 5, Workers: 8, Out: &out}
			good, err := d.Run(context.Background())
			if err != nil || !good {
				t.Fatalf("%v\n%s", err, out.String())
			}
			i.stop()
			verifyLog(t, i.store())
		})
	}
}

// TestKill kills the server again and again, TOUCHMARK_KILL_ROUNDS times or a
// few, under a fleet whose devices retry, lose replies and lose power, half of
// them over MQTT. The order is smaller than the fleet.
func TestKill(t *testing.T) {
	kills := number(t, "TOUCHMARK_KILL_ROUNDS", 1, 6)
	for name, dsn := range storetest.Databases(t) {
		t.Run(name, func(t *testing.T) {
			const perRound = 16
			n := perRound * (kills + 1)
			quantity := n * 3 / 4
			i := install(t, dsn)
			broker := freePort(t)
			i.reconfigure(func(c *server.Config) { c.MQTT.Listen = broker })
			i.start()
			f, units := build(t, n)
			i.order(quantity, units, f)
			steps, ended := make(chan struct{}, n), make(chan []devicesim.Result, 2)
			s := i.server()
			s.MQTT = broker
			for half, mqtt := range []bool{false, true} {
				fleet := devicesim.Fleet{
					Servers: []devicesim.Server{s}, Units: units[half*n/2 : (half+1)*n/2], Workers: 12, Retry: 20 * time.Millisecond,
					LostReplies: 0.1, PowerCuts: 0.1, OverMQTT: mqtt,
					Progress: func(int, int, devicesim.Result) { steps <- struct{}{} },
				}
				go func() { ended <- fleet.Run(context.Background()) }()
			}
			for range kills {
				for range 1 + rand.IntN(perRound) {
					<-steps
				}
				i.kill()
				i.start()
			}
			results := append(<-ended, <-ended...)
			i.stop()
			db := i.store()
			checkFleet(t, db, results, quantity)
			verifyLog(t, db)
		})
	}
}

// checkFleet holds what the devices got against what the database says.
func checkFleet(t *testing.T, s *store.Store, results []devicesim.Result, quantity int) {
	t.Helper()
	ctx := context.Background()
	o, err := s.Order(ctx, "po-1")
	if err != nil {
		t.Fatal(err)
	}
	verdicts := map[string]int{}
	for _, r := range results {
		verdicts[r.Verdict]++
		for _, cert := range r.Certificates {
			if _, err := s.Certificate(ctx, hex.EncodeToString(cert.SerialNumber.Bytes())); err != nil {
				t.Errorf("%s was answered the certificate %x: %v", r.Unit.Serial, cert.SerialNumber, err)
			}
		}
		if r.Verdict == "admitted" && len(r.Certificates) != 1 {
			t.Errorf("%s was answered %d certificates", r.Unit.Serial, len(r.Certificates))
		}
	}
	if verdicts["admitted"] != quantity || verdicts["refused"] != len(results)-quantity || o.Issued != int64(quantity) {
		t.Errorf("verdicts %v for %d units of %d; the order says %d", verdicts, quantity, len(results), o.Issued)
	}
	valid := 0
	eachDevice(t, s, func(d *vetting.Device) { valid += oneValid(t, s, d) })
	if valid != quantity {
		t.Errorf("%d devices hold a valid certificate, %d were ordered", valid, quantity)
	}
}

// oneValid counts a device's valid certificates and complains about a second.
func oneValid(t *testing.T, s *store.Store, d *vetting.Device) (n int) {
	t.Helper()
	h, err := s.DeviceHistory(context.Background(), d.ID)
	if err != nil {
		t.Fatal(err)
	}
	for _, c := range h.Certificates {
		if c.State == vetting.CertificateValid {
			n++
		}
	}
	if n > 1 {
		t.Errorf("%s has %d valid certificates", d.Serial, n)
	}
	return n
}

// TestTwoServers splits a fleet that is larger than its order over two
// servers on one PostgreSQL.
func TestTwoServers(t *testing.T) {
	dsn := storetest.Postgres(t)
	const quantity, n = 1000, 1500
	a := install(t, dsn)
	b := a.sibling()
	a.start()
	b.start()
	f, units := build(t, n)
	a.order(quantity, units, f)
	fleet := devicesim.Fleet{Servers: []devicesim.Server{a.server(), b.server()}, Units: units, Workers: 32, Retry: 20 * time.Millisecond}
	results := fleet.Run(context.Background())
	a.stop()
	b.stop()
	s := a.store()
	checkFleet(t, s, results, quantity)
	verifyLog(t, s)
}
