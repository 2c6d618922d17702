package device_test

import (
	"context"
	"errors"
	"testing"

	"github.com/touchmark/touchmark/device"
	"github.com/touchmark/touchmark/device/devicetest"
)

// A device with a code needs no bootstrap key; it shows the code at its first
// enrolment and never again.
func TestPowerOnByCode(t *testing.T) {
	for name, store := range map[string]*device.MemoryStore{"with a bootstrap key": built(t), "with nothing else": new(device.MemoryStore)} {
		t.Run(name, func(t *testing.T) {
			s, ctx := devicetest.New(t), context.Background()
			s.Code = "7K3M-9QXT-2VWB-5HNC"
			d := newDevice(s, store)
			d.Client.Login = &device.Login{User: "SN-1", Code: "0000-0000-0000-0000"}
			var refused *device.StatusError
			if _, err := d.PowerOn(ctx); !errors.As(err, &refused) || refused.Status != 401 || !refused.Final() {
				t.Fatalf("a wrong code: %v", err)
			}
			d.Client.Login.Code = s.Code
			first, err := d.PowerOn(ctx)
			if err != nil {
				t.Fatal(err)
			}
			if renewed, err := d.Renew(ctx, true); err != nil || renewed.Leaf().Equal(first.Leaf()) {
				t.Errorf("the renewal: %v", err)
			}
		})
	}
	d := newDevice(devicetest.New(t), new(device.MemoryStore))
	if _, err := d.PowerOn(context.Background()); !errors.Is(err, device.ErrEmpty) {
		t.Errorf("without key and code: %v", err)
	}
}
