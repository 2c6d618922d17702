package device_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"testing"

	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/device/devicetest"
)

// TestNotices: only what a server of the device's own root signed is a notice.
func TestNotices(t *testing.T) {
	d, b := overMQTT(t, built(t))
	official, err := d.PowerOn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	number := fmt.Sprintf("%x", official.Leaf().SerialNumber.Bytes())
	_, stranger := overMQTT(t, built(t))
	b.Notices = [][]byte{
		stranger.Notice(device.NoticeRevoked, number, x509.ExtKeyUsageServerAuth),
		b.Notice(device.NoticeRevoked, number, x509.ExtKeyUsageClientAuth), // an operator's
		[]byte("revoked"),
		b.Notice("", number, x509.ExtKeyUsageServerAuth),
		b.Notice(device.NoticeRenew, number, x509.ExtKeyUsageServerAuth),
	}
	ctx, enough := context.WithCancel(t.Context())
	var heard []device.Notice
	err = d.MQTT.Listen(ctx, official, func() {}, func(n device.Notice) { heard = append(heard, n); enough() })
	var broken *device.LineError
	if !errors.As(err, &broken) || len(heard) != 1 || heard[0].Notice != device.NoticeRenew || heard[0].Certificate != number {
		t.Errorf("heard %+v: %v", heard, err)
	}
}

// TestAgentHearsNotices: a notice about the certificate that the device has
// makes it renew, one about another does not, and one that tells of a
// revocation makes it rest.
func TestAgentHearsNotices(t *testing.T) {
	s := devicetest.New(t)
	d := newDevice(s, built(t))
	official, err := d.PowerOn(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	number := fmt.Sprintf("%x", official.Leaf().SerialNumber.Bytes())
	notices := make(chan device.Notice, 2)
	a := &device.Agent{Device: d, Notices: notices}
	notices <- device.Notice{Notice: device.NoticeRevoked, Certificate: "17"}
	notices <- device.Notice{Notice: device.NoticeRenew, Certificate: number}
	ctx, enough := context.WithCancel(t.Context())
	a.Tell = func(attempt device.Attempt) {
		if attempt.Step == device.StepRenew {
			enough()
		}
	}
	if err := a.Run(ctx); !errors.Is(err, context.Canceled) || s.Seen("simplereenroll") != 1 {
		t.Errorf("it renewed %d times: %v", s.Seen("simplereenroll"), err)
	}
	if official, err = d.Store.Load(device.Official); err != nil {
		t.Fatal(err)
	}
	a.Tell = nil
	notices <- device.Notice{Notice: device.NoticeRevoked, Certificate: fmt.Sprintf("%x", official.Leaf().SerialNumber.Bytes())}
	if err := a.Run(t.Context()); !errors.Is(err, device.ErrRevoked) || s.Seen("simplereenroll") != 1 {
		t.Errorf("after a revocation it renewed %d times: %v", s.Seen("simplereenroll"), err)
	}
}
