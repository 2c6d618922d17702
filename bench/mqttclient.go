package main

import (
	"context"
	"crypto/tls"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/touchmark/touchmark/internal/mqtttest"
)

// visitor is a device's connection to a broker, subscribed to the reply topic
// of its branch, with its request ready.
type visitor struct {
	*mqtttest.Client
	topic   string
	request []byte
}

// visit connects to mqtts://HOST:PORT or mqtt://HOST:PORT. The request is
// published below the root.
func visit(ctx context.Context, address string, config *tls.Config, root, key string, request []byte) (*visitor, error) {
	var dialer interface {
		DialContext(ctx context.Context, network, address string) (net.Conn, error)
	} = new(net.Dialer)
	host, secure := strings.CutPrefix(address, "mqtts://")
	if secure {
		dialer = &tls.Dialer{Config: config}
	}
	conn, err := dialer.DialContext(ctx, "tcp", strings.TrimPrefix(host, "mqtt://"))
	if err != nil {
		return nil, err
	}
	v := &visitor{mqtttest.New(conn), root + key + "/request", request}
	if err := v.enter(key); err != nil {
		conn.Close()
		return nil, err
	}
	return v, nil
}

func (v *visitor) enter(key string) error {
	code, err := v.Connect(key, mqtttest.CleanSession, 0)
	if err != nil {
		return err
	}
	if code != 0 {
		return fmt.Errorf("CONNECT was answered %d", code)
	}
	code, err = v.Subscribe(ownRoot + key + "/reply")
	if err == nil && code == mqtttest.SubscriptionRefused {
		err = errors.New("SUBSCRIBE was refused")
	}
	return err
}

// ask publishes the request and returns what comes back.
func (v *visitor) ask() ([]byte, error) {
	if err := v.Publish(v.topic, v.request); err != nil {
		return nil, err
	}
	var answer []byte
	for acknowledged := false; !acknowledged || answer == nil; {
		kind, body, err := v.Receive()
		if err != nil {
			return nil, err
		}
		m, ok := mqtttest.Published(kind, body)
		switch {
		case ok:
			answer, err = m.Payload, v.Acknowledge(m)
		case kind == mqtttest.Puback:
			acknowledged = true
		default:
			err = errors.New("the broker sent what nobody asked for")
		}
		if err != nil {
			return nil, err
		}
	}
	return answer, nil
}
