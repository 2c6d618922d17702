package storetest

import (
	"fmt"
	"strings"
	"sync"

	"github.com/touchmark/touchmark/vetting"
)

// servers has the world's product be of servers below lab.example.
func (t *trial) servers(quantity int64) {
	t.Helper()
	w := t.world(quantity)
	p := *ok(t.store.Product(t.ctx, w.Product.Name))(t)
	p.Proofs, p.Domains = []vetting.Proof{vetting.ProofDomain}, vetting.Domains{Names: []string{".lab.example"}}
	ok(t.store.UpdateProduct(t.ctx, By, &p))(t)
}

// proved is a claim for a server's name by account 1, which is for an order.
func proved(name, order string, k int) vetting.Claim {
	c := Claim(Key("official", k), vetting.Fingerprint{})
	c.Key, c.Auth = Key("official", k), vetting.Auth{Proof: vetting.ProofDomain, Account: 1, Order: order}
	c.Asserted, c.Transport = vetting.Identity{Serial: name}, "acme"
	return c
}

func nameFinds(t *trial) {
	t.servers(2)
	t.enrol(proved("web1.lab.example", "po-1", 0), vetting.ReasonUnknownDevice)
	before := t.leaves()
	t.done(t.store.EnlistServer(t.ctx, 7, "po-1", "web1.lab.example"))
	if l := t.leaf(before); l.Act != "record.enlist" || l.By != "acme-account:7" || strings.Contains(l.Note, "lab") {
		t.Errorf("the leaf is %+v", l)
	}
	before = t.leaves()
	var wg sync.WaitGroup
	for range 4 {
		wg.Go(func() {
			if err := t.store.EnlistServer(t.ctx, 8, "po-1", "web1.lab.example"); err != nil {
				t.Errorf("again: %v", err)
			}
		})
	}
	wg.Wait()
	same(t, "leaves of what is enlisted already", t.leaves(), before)

	r := t.enrol(proved("web1.lab.example", "po-1", 0), vetting.ReasonVetted)
	same(t, "by", t.leaf(before).By, "acme-account:1")
	same(t, "the bound key", t.deviceOf(r).BoundKey, vetting.Fingerprint{})
	t.again(proved("web1.lab.example", "po-1", 0))
	earlier := t.deviceOf(r).Certificate
	t.enrol(proved("web1.lab.example", "po-1", 5), vetting.ReasonRenewed)
	same(t, "the certificate before", ok(t.store.Certificate(t.ctx, earlier))(t).State, vetting.CertificateSuperseded)
	same(t, "units", t.issued("po-1"), 1)
	t.enrol(proved("web1.lab.example", "", 6), vetting.ReasonRenewed)
	t.enrol(proved("web1.lab.example", "po-9", 7), vetting.ReasonWrongOrder)
}

func namesAllowed(t *trial) {
	t.servers(2)
	ok(t.store.CreateProduct(t.ctx, By, &vetting.Product{Name: "lamp", Profile: vetting.Profile{Validity: "1d"}, Proofs: []vetting.Proof{vetting.ProofRig}}))(t)
	t.done(t.store.AllowServer(t.ctx, "thermo", "web1.lab.example"))
	t.done(t.store.AllowServer(t.ctx, "", "web1.lab.example"))
	for product, name := range map[string]string{"thermo": "web1.example", "": "*.lab.example", "lamp": "web1.lab.example", "none": "web1.lab.example"} {
		t.refuses(vetting.NotFound)(nil, t.store.AllowServer(t.ctx, product, name))
	}
	before := t.leaves()
	t.done(t.store.EnlistServer(t.ctx, 1, "po-1", "web1.example"))
	same(t, "leaves of what is not the product's", t.leaves(), before)
	t.refuses(vetting.NotFound)(nil, t.store.EnlistServer(t.ctx, 1, "po-9", "web1.lab.example"))
}

func namesBounded(t *trial) {
	t.servers(2)
	before := t.leaves()
	for i := range 110 {
		t.done(t.store.EnlistServer(t.ctx, 1, "po-1", fmt.Sprintf("web%d.lab.example", i)))
	}
	same(t, "records", t.leaves()-before, 102)
}
