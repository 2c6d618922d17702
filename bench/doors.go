package main

import (
	"context"
	"fmt"
	"os"
	"path/filepath"

	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/internal/mqtttest"
	"github.com/touchmark/touchmark/server"
)

// idleDevices is how many devices are connected over MQTT and say nothing.
const idleDevices = 100

// fewestBesideDoors is from how many enrolments on a rate counts: what a
// server does when it starts, which is more with more doors, takes a second.
const fewestBesideDoors = 6000

// idleDoors measures first enrolments over EST with every other door open and
// idle, against those of a server on which no other door for devices is open.
func (b *bench) idleDoors(ctx context.Context, db string, t *table) error {
	r := row{name: fmt.Sprintf("first enrolments over EST, all doors open, %d devices on MQTT, %s", idleDevices, db), limit: "the same with no other door open", wanted: 0.97}
	for n := range b.runs {
		var rates [2]float64
		for i := range rates {
			all := (n+i)%2 == 1 // what comes first changes from run to run
			rate, err := b.besideDoors(ctx, db, all)
			if err != nil {
				return err
			}
			if all {
				rates[0] = rate
			} else {
				rates[1] = rate
			}
		}
		r.add(rates[0], rates[1])
	}
	t.rows = append(t.rows, r)
	return nil
}

// besideDoors is the rate of first enrolments over EST, with all doors open or
// none beside it.
func (b *bench) besideDoors(ctx context.Context, db string, all bool) (float64, error) {
	dir, err := os.MkdirTemp("", "touchmark-bench")
	if err != nil {
		return 0, err
	}
	defer os.RemoveAll(dir)
	m, err := mqtttest.StartMosquitto(dir)
	if err != nil {
		return 0, err
	}
	defer m.Stop()
	units := max(b.units, fewestBesideDoors)
	w, drop, err := b.worldWith(ctx, db, filepath.Join(dir, "touchmark"), units+idleDevices, func(ctx context.Context, c *server.Config) (map[string]string, func(), error) {
		if all {
			c.MQTT.Broker = server.MQTTBroker{URL: "mqtt://" + m.Address, ClientID: "touchmark"}
		} else {
			c.MQTT.Listen, c.Status.Listen = "", ""
		}
		return serveHere(ctx, c)
	})
	if err != nil {
		return 0, err
	}
	defer drop()
	clients, err := w.alone(ctx, 0, units)
	if err != nil {
		return 0, err
	}
	if all {
		leave, err := w.connectIdle(ctx)
		if err != nil {
			return 0, err
		}
		defer leave()
	}
	enrolled, err := drive(ctx, w.est+"/.well-known/est/simpleenroll", clients, b.clients)
	if err != nil {
		return 0, fmt.Errorf("first enrolments: %w", err)
	}
	return enrolled.rate, nil
}

// connectIdle connects devices at the broker in the process, which wait for
// notices.
func (w *world) connectIdle(ctx context.Context) (leave func(), err error) {
	var connected []*visitor
	leave = func() {
		for _, v := range connected {
			v.Close()
		}
	}
	units, err := w.units(ctx, 1, idleDevices)
	if err != nil {
		return nil, err
	}
	for _, u := range units {
		c, err := u.Store.Load(device.Bootstrap)
		if err == nil {
			var v *visitor
			if v, err = visit(ctx, "mqtts://"+w.mqtt, w.tls(c), ownRoot, keyName(c.Leaf()), nil); err == nil {
				connected = append(connected, v)
			}
		}
		if err != nil {
			leave()
			return nil, err
		}
	}
	return leave, nil
}
