package main

import (
	"bufio"
	"context"
	"crypto/tls"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"net"
	"strings"
)

// visitor is a device's connection to a broker (MQTT 3.1.1), subscribed to the
// reply topic of its branch, with its request ready.
type visitor struct {
	conn    net.Conn
	in      *bufio.Reader
	publish []byte // the packet
}

// Packet types, with the flags that they come with here (MQTT 3.1.1 §2.2).
const (
	mqttConnect, mqttConnack     = 0x10, 0x20
	mqttPublish, mqttPublishQoS1 = 0x30, 0x32
	mqttPuback                   = 0x40
	mqttSubscribe, mqttSuback    = 0x82, 0x90
)

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
	v := &visitor{conn: conn, in: bufio.NewReader(conn), publish: packet(mqttPublishQoS1, text(root+key+"/request"), []byte{0, 2}, request)}
	if err := v.enter(key); err != nil {
		conn.Close()
		return nil, err
	}
	return v, nil
}

func (v *visitor) enter(key string) error {
	for _, step := range []struct {
		send []byte
		want byte
	}{
		{packet(mqttConnect, text("MQTT"), []byte{4, 2, 0, 0}, text(key)), mqttConnack},
		{packet(mqttSubscribe, []byte{0, 1}, text(ownRoot+key+"/reply"), []byte{1}), mqttSuback},
	} {
		if _, err := v.conn.Write(step.send); err != nil {
			return err
		}
		kind, body, err := v.read()
		if err != nil {
			return err
		}
		if kind != step.want || body[len(body)-1] > 1 {
			return fmt.Errorf("the broker answered %x %x", kind, body)
		}
	}
	return nil
}

func text(s string) []byte { return append(binary.BigEndian.AppendUint16(nil, uint16(len(s))), s...) }

func packet(kind byte, parts ...[]byte) []byte {
	n := 0
	for _, p := range parts {
		n += len(p)
	}
	b := binary.AppendUvarint([]byte{kind}, uint64(n))
	for _, p := range parts {
		b = append(b, p...)
	}
	return b
}

func (v *visitor) read() (kind byte, body []byte, err error) {
	if kind, err = v.in.ReadByte(); err != nil {
		return 0, nil, err
	}
	n, err := binary.ReadUvarint(v.in)
	if err != nil {
		return 0, nil, err
	}
	body = make([]byte, n)
	_, err = io.ReadFull(v.in, body)
	return kind, body, err
}

// ask publishes the request and returns what comes back.
func (v *visitor) ask() ([]byte, error) {
	if _, err := v.conn.Write(v.publish); err != nil {
		return nil, err
	}
	var answer []byte
	for acknowledged := false; !acknowledged || answer == nil; {
		kind, body, err := v.read()
		switch {
		case err != nil:
			return nil, err
		case kind == mqttPuback:
			acknowledged = true
		case kind&0xf0 == mqttPublish && len(body) > 2:
			body = body[2+binary.BigEndian.Uint16(body):]
			if kind&0x06 != 0 {
				id := body[:2]
				body = body[2:]
				if _, err := v.conn.Write(packet(mqttPuback, id)); err != nil {
					return nil, err
				}
			}
			answer = body
		default:
			return nil, errors.New("the broker sent what nobody asked for")
		}
	}
	return answer, nil
}
