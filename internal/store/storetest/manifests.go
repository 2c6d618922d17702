package storetest

import (
	"errors"
	"fmt"
	"slices"
	"time"

	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/manifest"
)

var manifestCases = []conformance{
	{"a file's parts come back in order", manifestParts},
	{"a manifest is invisible while it arrives", manifestReceiving},
	{"an accepted manifest is kept as it was given", manifestIsKept},
	{"a manifest is dropped unless it was accepted", manifestDrop},
	{"the same file for the same order is one manifest", manifestTwin},
	{"accepting again changes nothing", manifestAcceptedTwice},
	{"what is not there cannot be accepted", manifestGone},
	{"a manifest waits for its signatures", manifestSignatures},
	{"an operator's second signature does not count", manifestSignedTwice},
	{"what an upload left behind is swept", manifestSwept},
	{"manifests are listed by site and order", manifestLists},
}

// begin makes a manifest that is arriving, as the importer does.
func (w *World) begin(t *trial, file string) *vetting.Manifest {
	t.Helper()
	m := &vetting.Manifest{OrderID: w.Order.ID, Format: vetting.FormatCSV, Records: 2, Size: 99, Wanted: w.Order.ManifestSignatures, SHA256: Key(file, 0).String()}
	m.ID = ok(w.Store.BeginManifest(t.ctx, m))(t)
	return m
}

// accept makes one that has arrived, signed by operators.
func (w *World) accept(t *trial, file string, signers ...string) *vetting.Manifest {
	t.Helper()
	return ok(w.Store.AcceptManifest(t.ctx, By, w.begin(t, file), signed(signers...)))(t)
}

func signed(operators ...string) (list []manifest.Signature) {
	for _, name := range operators {
		list = append(list, manifest.Signature{Operator: name, DER: []byte(name), At: time.Now()})
	}
	return list
}

// parts joins a manifest's parts, each with a bar after it.
func (t *trial) parts(id int64) string {
	t.Helper()
	text := ""
	t.done(t.store.ManifestParts(t.ctx, id, func(data []byte) error {
		text += string(data) + "|"
		return nil
	}))
	return text
}

func manifestParts(t *trial) {
	w := t.world(1)
	m, other := w.begin(t, "one"), w.begin(t, "two")
	for _, seq := range []int{2, 0, 1} {
		t.done(t.store.AddManifestPart(t.ctx, m.ID, seq, fmt.Appendf(nil, "part %d", seq)))
	}
	t.done(t.store.AddManifestPart(t.ctx, other.ID, 0, []byte("else")))
	if err := t.store.AddManifestPart(t.ctx, m.ID, 1, []byte("again")); err == nil {
		t.Error("a part was taken twice")
	}
	want := "part 0|part 1|part 2|"
	if got := t.parts(m.ID); got != want {
		t.Errorf("while it arrives, its parts are %q", got)
	}
	ok(t.store.AcceptManifest(t.ctx, By, m, signed("lin")))(t)
	if got := t.parts(m.ID); got != want {
		t.Errorf("its parts are %q", got)
	}
	if got := t.parts(m.ID + 1000); got != "" {
		t.Errorf("a manifest that is not there has the parts %q", got)
	}
	stop, calls := errors.New("enough"), 0
	err := t.store.ManifestParts(t.ctx, m.ID, func([]byte) error {
		// what is loaded while a file is read goes through the same store
		if _, err := t.store.CreateSite(t.ctx, By, &vetting.Site{Name: fmt.Sprintf("s%d", calls)}); err != nil {
			return err
		}
		if calls++; calls == 2 {
			return stop
		}
		return nil
	})
	if !errors.Is(err, stop) || calls != 2 {
		t.Errorf("%d parts were read: %v", calls, err)
	}
}

func manifestReceiving(t *trial) {
	w := t.world(1)
	before := t.leaves()
	m := w.begin(t, "file")
	t.done(t.store.AddManifestPart(t.ctx, m.ID, 0, []byte("a")))
	if t.leaves() != before {
		t.Error("bytes that arrive left a leaf")
	}
	t.refuses(vetting.NotFound)(t.store.Manifest(t.ctx, m.ID))
	t.refuses(vetting.NotFound)(t.store.ManifestByDigest(t.ctx, "po-1", m.SHA256))
	t.refuses(vetting.NotFound)(t.store.ManifestByDigest(t.ctx, "po-1", ""))
	t.refuses(vetting.NotFound)(t.store.LoadRecords(t.ctx, m.ID, 0, []vetting.Record{Unit(0)}))
	t.refuses(vetting.NotFound)(t.store.AddManifestSignature(t.ctx, By, m.ID, signed("lin")[0]))
	if list := ok(t.store.Manifests(t.ctx, vetting.ManifestFilter{}, vetting.Page{}))(t); len(list) != 0 {
		t.Errorf("listed: %+v", list[0])
	}
	if list := ok(t.store.ManifestsToLoad(t.ctx))(t); len(list) != 0 {
		t.Errorf("to be loaded: %+v", list[0])
	}
}

func manifestIsKept(t *trial) {
	w := t.world(1)
	begun := w.begin(t, "file")
	before := t.leaves()
	m := ok(t.store.AcceptManifest(t.ctx, By, begun, signed("lin", "chen")))(t)
	if n := t.leaves() - before; n != 1 {
		t.Errorf("accepting left %d leaves", n)
	}
	if m.Received.IsZero() || m.Updated.Before(m.Received) {
		t.Errorf("received %s, updated %s", m.Received, m.Updated)
	}
	want := &vetting.Manifest{ID: begun.ID, Order: "po-1", Site: "hsinchu", Format: vetting.FormatCSV, State: vetting.ManifestAccepted,
		SHA256: begun.SHA256, Size: 99, Records: 2, Signers: []string{"lin", "chen"}, Wanted: 1,
		Received: m.Received, Updated: m.Updated, OrderID: w.Order.ID, ProductID: w.Product.ID, SiteID: w.Site.ID}
	same(t, "accepted", m, want)
	same(t, "read", ok(t.store.Manifest(t.ctx, m.ID))(t), want)
	same(t, "by digest", ok(t.store.ManifestByDigest(t.ctx, "po-1", m.SHA256))(t), want)
	same(t, "to be loaded", ok(t.store.ManifestsToLoad(t.ctx))(t), []*vetting.Manifest{want})
	t.refuses(vetting.NotFound)(t.store.Manifest(t.ctx, m.ID+1000))
	t.refuses(vetting.NotFound)(t.store.ManifestByDigest(t.ctx, "po-1", Key("other", 0).String()))
	t.refuses(vetting.NotFound)(t.store.ManifestByDigest(t.ctx, "po-2", m.SHA256))
}

func manifestDrop(t *trial) {
	w := t.world(1)
	gone, kept := w.begin(t, "gone"), w.begin(t, "kept")
	for _, m := range []*vetting.Manifest{gone, kept} {
		t.done(t.store.AddManifestPart(t.ctx, m.ID, 0, []byte("a")))
	}
	want := ok(t.store.AcceptManifest(t.ctx, By, kept, signed("lin")))(t)
	before := t.leaves()
	for _, id := range []int64{gone.ID, gone.ID, kept.ID, kept.ID + 1000} {
		t.done(t.store.DropManifest(t.ctx, id))
	}
	if got := t.parts(gone.ID); got != "" {
		t.Errorf("of a dropped manifest remain %q", got)
	}
	same(t, "an accepted one", ok(t.store.Manifest(t.ctx, kept.ID))(t), want)
	if got := t.parts(kept.ID); got != "a|" {
		t.Errorf("of an accepted manifest remain %q", got)
	}
	if t.leaves() != before {
		t.Error("dropping left a leaf")
	}
}

func manifestTwin(t *trial) {
	w := t.world(1)
	one, two := w.begin(t, "file"), w.begin(t, "file")
	t.done(t.store.AddManifestPart(t.ctx, two.ID, 0, []byte("a")))
	want := ok(t.store.AcceptManifest(t.ctx, By, one, signed("lin")))(t)
	before := t.leaves()
	same(t, "the second", ok(t.store.AcceptManifest(t.ctx, By, two, signed("chen")))(t), want)
	if t.leaves() != before {
		t.Error("a file that was there already left a leaf")
	}
	t.refuses(vetting.NotFound)(t.store.Manifest(t.ctx, two.ID))
	if got := t.parts(two.ID); got != "" {
		t.Errorf("of the second remain %q", got)
	}
	same(t, "the first", ok(t.store.Manifest(t.ctx, one.ID))(t), want)
	// for another order the same file is another manifest
	other := w.with(t.order("po-2", "thermo", "hsinchu", vetting.OrderOpen)).accept(t, "file", "lin")
	if other.ID == one.ID || other.Order != "po-2" {
		t.Errorf("for another order it is %+v", other)
	}
	same(t, "by digest", ok(t.store.ManifestByDigest(t.ctx, "po-1", one.SHA256))(t), want)
}

func manifestAcceptedTwice(t *trial) {
	w := t.world(1)
	m := w.begin(t, "file")
	t.done(t.store.AddManifestPart(t.ctx, m.ID, 0, []byte("a")))
	want := ok(t.store.AcceptManifest(t.ctx, By, m, signed("lin")))(t)
	before := t.leaves()
	same(t, "again", ok(t.store.AcceptManifest(t.ctx, By, m, signed("lin")))(t), want)
	if got := t.parts(m.ID); got != "a|" {
		t.Errorf("its parts are %q", got)
	}
	if t.leaves() != before {
		t.Error("accepting again left a leaf")
	}
}

func manifestGone(t *trial) {
	w := t.world(1)
	m := w.begin(t, "file")
	t.done(t.store.DropManifest(t.ctx, m.ID))
	t.refuses(vetting.NotFound)(t.store.AcceptManifest(t.ctx, By, m, signed("lin")))
	if list := ok(t.store.Manifests(t.ctx, vetting.ManifestFilter{}, vetting.Page{}))(t); len(list) != 0 {
		t.Errorf("listed: %+v", list[0])
	}
}

// ordered wants an order whose manifests need two signatures.
func (w *World) ordered(t *trial, signatures int) *World {
	t.Helper()
	return w.with(ok(t.store.CreateOrder(t.ctx, By, &vetting.Order{Name: "po-2", Product: "thermo", Site: "hsinchu",
		State: vetting.OrderOpen, Quantity: 10, ManifestSignatures: signatures}))(t))
}

func manifestSignatures(t *trial) {
	w := t.world(1).ordered(t, 3)
	m := w.accept(t, "file", "lin")
	if m.State != vetting.ManifestUnsigned || m.Wanted != 3 || !slices.Equal(m.Signers, []string{"lin"}) {
		t.Errorf("with one signature of three it is %+v", m)
	}
	t.refuses(vetting.Conflict)(t.store.LoadRecords(t.ctx, m.ID, 0, []vetting.Record{Unit(0)}))
	m = ok(t.store.AddManifestSignature(t.ctx, By, m.ID, signed("wu")[0]))(t)
	if m.State != vetting.ManifestUnsigned || !slices.Equal(m.Signers, []string{"lin", "wu"}) {
		t.Errorf("with two signatures of three it is %+v", m)
	}
	if list := ok(t.store.ManifestsToLoad(t.ctx))(t); len(list) != 0 {
		t.Errorf("to be loaded: %+v", list[0])
	}
	same(t, "listed", ok(t.store.Manifests(t.ctx, vetting.ManifestFilter{}, vetting.Page{}))(t), []*vetting.Manifest{m})
	m = ok(t.store.AddManifestSignature(t.ctx, By, m.ID, signed("chen")[0]))(t)
	if m.State != vetting.ManifestAccepted || !slices.Equal(m.Signers, []string{"lin", "wu", "chen"}) {
		t.Errorf("with all signatures it is %+v", m)
	}
	same(t, "to be loaded", ok(t.store.ManifestsToLoad(t.ctx))(t), []*vetting.Manifest{m})
	t.refuses(vetting.NotFound)(t.store.AddManifestSignature(t.ctx, By, m.ID+1000, signed("lin")[0]))
}

func manifestSignedTwice(t *trial) {
	w := t.world(1).ordered(t, 2)
	m := w.accept(t, "file", "lin", "lin")
	if m.State != vetting.ManifestUnsigned || !slices.Equal(m.Signers, []string{"lin"}) {
		t.Fatalf("signed twice by one it is %+v", m)
	}
	before := t.leaves()
	same(t, "signed again", ok(t.store.AddManifestSignature(t.ctx, By, m.ID, signed("lin")[0]))(t), m)
	if t.leaves() != before {
		t.Error("an operator's second signature left a leaf")
	}
	if m = ok(t.store.AddManifestSignature(t.ctx, By, m.ID, signed("wu")[0]))(t); m.State != vetting.ManifestAccepted {
		t.Errorf("signed by another, too, it is %+v", m)
	}
}

func manifestSwept(t *trial) {
	s, set := t.clocked()
	t.store = s
	begin := time.Date(2027, 3, 1, 12, 0, 0, 0, time.UTC)
	set(begin)
	w := t.world(1)
	old, kept := w.begin(t, "old"), w.accept(t, "kept", "lin")
	t.done(s.AddManifestPart(t.ctx, old.ID, 0, []byte("a")))
	set(begin.Add(23 * time.Hour))
	recent := w.begin(t, "recent")
	t.done(s.AddManifestPart(t.ctx, recent.ID, 0, []byte("b")))
	if got := t.parts(old.ID); got != "a|" {
		t.Errorf("within a day remain %q", got)
	}
	set(begin.Add(25 * time.Hour))
	w.begin(t, "new")
	if got := t.parts(old.ID); got != "" {
		t.Errorf("after a day remain %q", got)
	}
	if got := t.parts(recent.ID); got != "b|" {
		t.Errorf("of a younger one remain %q", got)
	}
	same(t, "an accepted one", ok(s.Manifest(t.ctx, kept.ID))(t), kept)
	t.refuses(vetting.NotFound)(s.AcceptManifest(t.ctx, By, old, signed("lin")))
	ok(s.AcceptManifest(t.ctx, By, recent, signed("lin")))(t)
}

func manifestLists(t *trial) {
	w := t.world(1)
	t.site("gdansk")
	for _, o := range []*vetting.Order{w.Order, t.order("po-2", "thermo", "hsinchu", vetting.OrderOpen), t.order("po-3", "thermo", "gdansk", vetting.OrderOpen)} {
		w.with(o).accept(t, "one", "lin")
		w.with(o).accept(t, "two")
	}
	id := func(m *vetting.Manifest) int64 { return m.ID }
	for _, c := range []struct {
		filter vetting.ManifestFilter
		n      int
	}{
		{vetting.ManifestFilter{}, 6},
		{vetting.ManifestFilter{Site: "hsinchu"}, 4},
		{vetting.ManifestFilter{Order: "po-3"}, 2},
		{vetting.ManifestFilter{Site: "gdansk", Order: "po-3"}, 2},
	} {
		list := func(p vetting.Page) ([]*vetting.Manifest, error) { return t.store.Manifests(t.ctx, c.filter, p) }
		pages(t, c.n, false, list, id)
		for _, m := range ok(list(vetting.Page{}))(t) {
			if c.filter.Site != "" && m.Site != c.filter.Site || c.filter.Order != "" && m.Order != c.filter.Order {
				t.Errorf("%+v lists one of site %s, order %s", c.filter, m.Site, m.Order)
			}
		}
	}
	if list := ok(t.store.Manifests(t.ctx, vetting.ManifestFilter{Site: "gdansk", Order: "po-1"}, vetting.Page{}))(t); len(list) != 0 {
		t.Errorf("listed: %+v", list[0])
	}
	if list := ok(t.store.ManifestsToLoad(t.ctx))(t); len(list) != 3 {
		t.Errorf("%d manifests are to be loaded", len(list))
	}
}
