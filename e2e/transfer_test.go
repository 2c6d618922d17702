package e2e

import (
	"fmt"
	"math/rand/v2"
	"slices"
	"testing"

	"github.com/touchmark/touchmark/devicesim"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// TestKillTransfer kills the server in the middle of each step of transfers:
// all of their devices took it, or none did and it is taken again.
func TestKillTransfer(t *testing.T) {
	const portion, portions = 400, 3
	for name, dsn := range storetest.Databases(t) {
		t.Run(name, func(t *testing.T) {
			i := install(t, dsn)
			fill(t, i.store(), portion*portions)
			i.start()
			i.owner("acme")
			looks := make([]int, 3) // how often one can look while a step is taken
			for p := range portions {
				d := newDeal(i, p*portion, portion)
				for step := range looks {
					if p > 0 {
						d.takeKilled(rand.IntN(looks[step] + 1))
					}
					if d.steps == step {
						d.kill()
						d.start() // as cold as when it is killed meanwhile
						looks[step] = d.take()
					}
				}
			}
			i.stop()
			verifyLog(t, i.store())
		})
	}
}

// deal is a transfer of some units: offered, accepted and reversed.
type deal struct {
	*installation
	admin   *devicesim.Operator
	serials []string
	steps   int   // taken so far
	id      int64 // of the transfer, once it is offered
}

func newDeal(i *installation, first, n int) *deal {
	d := &deal{installation: i, admin: i.admin()}
	for k := range n {
		d.serials = append(d.serials, storetest.Unit(first+k).Serial)
	}
	return d
}

func (i *installation) owner(name string) {
	i.t.Helper()
	if err := i.admin().Do(i.t.Context(), "POST", "/owners", map[string]any{"name": name}, nil); err != nil {
		i.t.Fatal(err)
	}
}

// stands is what is known of a device.
type stands struct {
	owner                      string
	transfer                   int64
	state                      vetting.DeviceState
	certificate                vetting.CertificateState
	reason                     int
	offers, accepts, reversals int // leaves in the log
}

// after is how each device stands after so many steps.
func (d *deal) after(steps int) stands {
	return []stands{
		{state: vetting.DeviceIssued, certificate: vetting.CertificateValid},
		{"", d.id, vetting.DeviceIssued, vetting.CertificateValid, 0, 1, 0, 0},
		{"acme", d.id, vetting.DeviceManufactured, vetting.CertificateRevoked, 3, 1, 1, 0},
		{"", d.id, vetting.DeviceManufactured, vetting.CertificateRevoked, 3, 1, 1, 1},
	}[steps]
}

// send asks the server for the next step.
func (d *deal) send() (ended chan error) {
	path, body := "/transfers", map[string]any{"to": "acme", "serials": d.serials}
	if d.steps > 0 {
		path = fmt.Sprintf("/transfers/%d/%s", d.id, []string{"", "accept", "reverse"}[d.steps])
		body = map[string]any{"note": "by the test"}
	}
	ended = make(chan error, 1)
	go func() { ended <- d.admin.Do(d.t.Context(), "POST", path, body, nil) }()
	return ended
}

// look asks the server which step was taken last.
func (d *deal) look() {
	d.t.Helper()
	var list struct{ Items []vetting.Transfer }
	if err := d.admin.Do(d.t.Context(), "GET", "/transfers?limit=1", nil, &list); err != nil {
		d.t.Fatal(err)
	}
	for _, t := range list.Items {
		if d.id == 0 && t.State == vetting.TransferReversed {
			return // it is the deal before this one
		}
		d.id = t.ID
		d.steps = map[vetting.TransferState]int{vetting.TransferOffered: 1, vetting.TransferAccepted: 2, vetting.TransferReversed: 3}[t.State]
	}
}

// take takes the next step and returns how often it could look meanwhile.
func (d *deal) take() (looks int) {
	d.t.Helper()
	for ended := d.send(); ; looks++ {
		d.look()
		select {
		case err := <-ended:
			if err != nil {
				d.t.Fatal(err)
			}
			d.look()
			d.check()
			return looks
		default:
		}
	}
}

// takeKilled asks for the next step and kills the server after so many looks,
// or when it is done.
func (d *deal) takeKilled(looks int) {
	d.t.Helper()
	d.kill()
	d.start()
	before, ended := d.steps, d.send()
	for left := looks; left > 0 && d.steps == before; left-- {
		d.look()
	}
	d.kill()
	answer := <-ended
	d.start()
	d.owner(fmt.Sprintf("after-%s-%d", d.serials[0], before)) // this waits for what PostgreSQL may still do for the dead
	d.look()
	if answer == nil && d.steps == before {
		d.t.Errorf("step %d of transfer %d was answered, and did not happen", before+1, d.id)
	}
	d.t.Logf("killed in step %d after %d looks: done is %v", before+1, looks, d.steps > before)
	d.check()
}

// check demands that the deal's devices, their certificates and the log are
// where the transfer is.
func (d *deal) check() {
	d.t.Helper()
	s := d.store()
	defer s.Close()
	offers, accepts, reversals := turns(d.t, s, "transfer.offer"), turns(d.t, s, "transfer.accept"), turns(d.t, s, "transfer.reverse")
	want, seen := d.after(d.steps), 0
	eachDevice(d.t, s, func(dev *vetting.Device) {
		if !slices.Contains(d.serials, dev.Serial) {
			return
		}
		seen++
		c, err := s.Certificate(d.t.Context(), dev.Certificate)
		if err != nil {
			d.t.Fatal(err)
		}
		if now := (stands{dev.Owner, dev.Transfer, dev.State, c.State, c.Reason, offers[dev.ID], accepts[dev.ID], reversals[dev.ID]}); now != want {
			d.t.Fatalf("after step %d device %s is %+v, want %+v", d.steps, dev.Serial, now, want)
		}
	})
	if seen != len(d.serials) {
		d.t.Errorf("%d devices of %d", seen, len(d.serials))
	}
}
