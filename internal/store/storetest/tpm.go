package storetest

import (
	"bytes"
	"sync"
	"sync/atomic"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

var tpmCases = []conformance{
	{"a TPM finds the record that lists it", tpmListed},
	{"a TPM that no record lists is bound to the device that it first comes with", tpmBinds},
	{"one TPM is one device", tpmOfTwo},
	{"one of many devices gets in by a TPM", tpmRace},
	{"what a TPM said is kept", tpmFacts},
	{"a secret is the same for all servers", secrets},
	{"a TPM leads to its device", deviceOfEK},
}

// withTPMs makes a world whose product takes TPMs, and records of units from 0
// that list those of the keys, none for 0. Claims come from the site.
func (t *trial) withTPMs(makers bool, keys ...int) *World {
	w := t.keyless(0)
	p := *ok(t.store.Product(t.ctx, w.Product.Name))(t)
	p.Proofs = []vetting.Proof{vetting.ProofTPM}
	if makers {
		p.TPM.Makers = []vetting.Vendor{{Name: "maker"}}
	}
	w.Product = ok(t.store.UpdateProduct(t.ctx, By, &p))(t)
	for i, k := range keys {
		r := Unit(i)
		r.BootstrapKey = vetting.Fingerprint{}
		if k != 0 {
			r.Made.EKHash = Key("ek", k).String()
		}
		w.Load(t, r)
	}
	return w
}

// ByTPM is a claim by TPM k, of a maker that product thermo trusts, as
// unit n.
func ByTPM(n, k int) vetting.Claim {
	c := Claim(Key("ek", k), Key("official", k))
	c.Auth.Proof, c.TPM = vetting.ProofTPM, &vetting.TPM{AK: "000b"}
	c.Asserted = vetting.Identity{Serial: Unit(n).Serial}
	c.Vendors = []vetting.VendorMatch{{Product: "thermo", Vendor: "maker"}}
	return c
}

func tpmListed(t *trial) {
	w := t.withTPMs(false, 1, 2, 0)
	listed := ByTPM(0, 1)
	listed.Asserted = vetting.Identity{}
	r := t.enrol(listed, vetting.ReasonVetted)
	same(t, "the device", t.deviceOf(r).Serial, Unit(0).Serial)
	t.again(listed)
	t.enrol(ByTPM(0, 2), vetting.ReasonMismatch)
	t.enrol(ByTPM(0, 3), vetting.ReasonWrongKey)
	t.enrol(ByTPM(2, 3), vetting.ReasonProof) // neither listed nor a maker's
	t.enrol(ByTPM(9, 3), vetting.ReasonUnknownDevice)
	same(t, "units", t.issued("po-1"), 1)
	twice := Unit(4)
	twice.BootstrapKey, twice.Made.EKHash = vetting.Fingerprint{}, Key("ek", 2).String()
	w.Load(t, twice)
	t.enrol(ByTPM(1, 2), vetting.ReasonDisputed)
}

func tpmBinds(t *trial) {
	t.withTPMs(true, 0, 0)
	away := ByTPM(0, 1)
	away.Remote = "198.51.100.9"
	t.enrol(away, vetting.ReasonOffSite)
	foreign := ByTPM(0, 1)
	foreign.Vendors = nil
	t.enrol(foreign, vetting.ReasonVendor)
	r := t.enrol(ByTPM(0, 1), vetting.ReasonVetted)
	same(t, "the maker", r.Claim.Auth.Vendor, "maker")
	t.again(away) // the TPM that is bound counts anywhere
	t.enrol(ByTPM(0, 2), vetting.ReasonBound)
	t.enrol(ByTPM(1, 1), vetting.ReasonMismatch)
	nameless := ByTPM(0, 1)
	nameless.Asserted = vetting.Identity{}
	t.again(nameless)
	same(t, "units", t.issued("po-1"), 1)
}

// A TPM came with one device before a manifest listed it for another.
func tpmOfTwo(t *trial) {
	w := t.withTPMs(true, 0)
	first := t.enrol(ByTPM(0, 1), vetting.ReasonVetted)
	late := Unit(1)
	late.BootstrapKey, late.Made.EKHash = vetting.Fingerprint{}, Key("ek", 1).String()
	w.Load(t, late)
	t.enrol(ByTPM(1, 1), vetting.ReasonBound)
	h := ok(t.store.DeviceHistory(t.ctx, first.DeviceID))(t)
	if len(h.Evidence) != 1 || h.Evidence[0].Kind != vetting.EvidenceDuplicateEK {
		t.Errorf("evidence against the first %+v", h.Evidence)
	}
}

// Many devices come with one TPM at a time, over two servers.
func tpmRace(t *trial) {
	const devices = 8
	t.withTPMs(true, make([]int, devices)...)
	other := t.second()
	var admitted atomic.Int64
	var wait sync.WaitGroup
	for n := range devices {
		wait.Go(func() {
			c := ByTPM(n, 1)
			c.Key = Key("official", 100+n)
			s := t.store
			if n%2 == 1 {
				s = other
			}
			switch v, _, err := Enrol(t.ctx, s, c); {
			case err == nil && v.Outcome == vetting.Admitted:
				admitted.Add(1)
			case err != nil || v.Reasons[0].Code != vetting.ReasonMismatch && v.Reasons[0].Code != vetting.ReasonBound:
				t.Errorf("%s, %v", v.Text(), err)
			}
		})
	}
	wait.Wait()
	same(t, "devices let in", admitted.Load(), int64(1))
	same(t, "units", t.issued("po-1"), 1)
}

func tpmFacts(t *trial) {
	w := t.withTPMs(false, 1)
	c := ByTPM(0, 1)
	c.TPM = &vetting.TPM{AK: "000b00", Manufacturer: "id:49465800", Firmware: "0001", PCRs: map[string]string{"7": "aa"}}
	r := t.enrol(c, vetting.ReasonVetted)
	same(t, "what the TPM said", r.Claim.TPM, c.TPM)
	seen := 0
	t.done(t.store.PastRegistrations(t.ctx, w.Product.Name, time.Time{}, 10, func(p vetting.Past) error {
		seen++
		same(t, "what the TPM said, for a trial of rules", p.Registration.Claim.TPM, c.TPM)
		return nil
	}))
	same(t, "registrations for a trial", seen, 1)
}

func secrets(t *trial) {
	one := ok(t.store.Secret(t.ctx, "one"))(t)
	if len(one) != 32 || bytes.Equal(one, make([]byte, 32)) {
		t.Errorf("the secret %x", one)
	}
	if other := ok(t.second().Secret(t.ctx, "one"))(t); !bytes.Equal(one, other) {
		t.Error("another server has another secret")
	}
	if two := ok(t.store.Secret(t.ctx, "two"))(t); bytes.Equal(one, two) {
		t.Error("another name has the same secret")
	}
}

// Who asks for a TPM finds its device by the record, or by how it enrolled.
func deviceOfEK(t *trial) {
	w := t.withTPMs(true, 1, 0)
	t.enrol(ByTPM(1, 2), vetting.ReasonVetted)
	for k, want := range map[int]string{1: Unit(0).Serial, 2: Unit(1).Serial, 3: ""} {
		same(t, "the device", ok(t.store.DeviceOfEK(t.ctx, Key("ek", k)))(t), want)
	}
	for k, want := range map[int]*vetting.Product{1: w.Product, 2: w.Product, 3: nil} {
		if p := ok(t.store.ProductOfEK(t.ctx, Key("ek", k)))(t); (p == nil) != (want == nil) || p != nil && p.ID != want.ID {
			t.Errorf("the product of TPM %d is %+v", k, p)
		}
	}
	twice := Unit(4)
	twice.BootstrapKey, twice.Made.EKHash = vetting.Fingerprint{}, Key("ek", 1).String()
	w.Load(t, twice)
	if p := ok(t.store.ProductOfEK(t.ctx, Key("ek", 1)))(t); p != nil {
		t.Errorf("the product of a TPM that two records list is %+v", p)
	}
	same(t, "the device of a TPM that two records list", ok(t.store.DeviceOfEK(t.ctx, Key("ek", 1)))(t), "")
	t.done(t.store.NoteAKCertificate(t.ctx, Key("ek", 1), []byte{1, 2}))
}
