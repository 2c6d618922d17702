package store_test

import (
	"context"
	"testing"
	"time"

	"github.com/touchmark/touchmark/enroll/certorder"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// An account whose opening fails was opened, or not; asked again, its client
// has it, and the account key was spent on it alone.
func TestOpenAccountFails(t *testing.T) {
	ctx := context.Background()
	var key *vetting.AccountKey
	open := func(w *storetest.World, name string) (*certorder.Account, error) {
		a, _, err := w.Store.OpenAccount(ctx, &certorder.Account{Key: []byte(name), Status: certorder.Valid, Binding: key.ID})
		return a, err
	}
	eachFaultAfter(t, func(t *testing.T, w *storetest.World) {
		var err error
		if key, err = w.Store.CreateAccountKey(ctx, storetest.By, &vetting.AccountKey{Order: "po-1", Expires: time.Now().Add(time.Hour)}); err != nil {
			t.Fatal(err)
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		if _, err := open(w, "client"); err == nil {
			t.Error("no error although the write failed")
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		k, err := w.Store.AccountKey(ctx, key.ID)
		if persisted := fault == "persisted anyway"; err != nil || persisted != (k.State == vetting.CodeUsed) {
			t.Errorf("the account key is %s: %v", k.State, err)
		}
		if _, err := open(w, "client"); err != nil {
			t.Errorf("asked again: %v", err)
		}
		if _, err := open(w, "another"); vetting.ProblemOf(err) != vetting.Conflict {
			t.Errorf("another client: %v", err)
		}
	})
}

// A change of an order for a certificate that fails took effect, or not, and
// as a whole; who asks again sees which.
func TestChangeCertificateOrderFails(t *testing.T) {
	ctx := context.Background()
	var a *certorder.Account
	var o *certorder.Order
	var done bool
	eachFaultAfter(t, func(t *testing.T, w *storetest.World) {
		var err error
		if a, _, err = w.Store.OpenAccount(ctx, &certorder.Account{Key: []byte("client"), Status: certorder.Valid}); err != nil {
			t.Fatal(err)
		}
		o = &certorder.Order{Account: a.ID, Status: certorder.Ready, Identifier: certorder.Identifier{Type: certorder.PermanentIdentifier, Value: "S"}, Expires: time.Now().Add(time.Hour)}
		if err := w.Store.OpenCertificateOrder(ctx, a, o); err != nil {
			t.Fatal(err)
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		next := *o
		next.Status, next.Request = certorder.Processing, []byte("request")
		err := w.Store.ChangeCertificateOrder(ctx, a, &next)
		done = err == nil
		if alone := fault == "a statement fails"; done != alone || done != (next.Revision > o.Revision) { // the second one, and there is one
			t.Errorf("revision %d, %v", next.Revision, err)
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		have, err := w.Store.CertificateOrder(ctx, o.ID)
		if err != nil {
			t.Fatal(err)
		}
		persisted := done || fault == "persisted anyway"
		if persisted != (have.Status == certorder.Processing) || persisted != (len(have.Request) > 0) || persisted != (have.Revision > o.Revision) {
			t.Errorf("the order is %+v", have)
		}
		have.Status = certorder.Valid
		if err := w.Store.ChangeCertificateOrder(ctx, nil, have); err != nil {
			t.Errorf("changed again: %v", err)
		}
	})
}

// A server's record whose making fails was made, or not; asked again there is
// one.
func TestEnlistServerFails(t *testing.T) {
	ctx := context.Background()
	const name = "web1.lab.example"
	eachFaultAfter(t, func(t *testing.T, w *storetest.World) {
		p := *w.Product
		p.Proofs, p.Domains = []vetting.Proof{vetting.ProofDomain}, vetting.Domains{Names: []string{".lab.example"}}
		if _, err := w.Store.UpdateProduct(ctx, storetest.By, &p); err != nil {
			t.Fatal(err)
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		if err := w.Store.EnlistServer(ctx, 1, "po-1", name); err == nil {
			t.Error("no error although the write failed")
		}
	}, func(t *testing.T, w *storetest.World, fault string) {
		list, err := w.Store.Devices(ctx, vetting.DeviceFilter{Identity: vetting.Identity{Serial: name}}, vetting.Page{})
		if persisted := fault == "persisted anyway"; err != nil || persisted != (len(list) == 1) {
			t.Errorf("%d records: %v", len(list), err)
		}
		if err := w.Store.EnlistServer(ctx, 1, "po-1", name); err != nil {
			t.Errorf("asked again: %v", err)
		}
		if list, err = w.Store.Devices(ctx, vetting.DeviceFilter{Identity: vetting.Identity{Serial: name}}, vetting.Page{}); err != nil || len(list) != 1 {
			t.Errorf("after that %d records: %v", len(list), err)
		}
	})
}
