package crl_test

import (
	"context"
	"crypto/x509"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/ocsp/crl"
)

// naive is what a status list says, kept in the simplest way.
type naive map[ocsp.Serial]ocsp.Change

func (n naive) apply(c ocsp.Change) {
	if delete(n, c.Serial); c.Reason != ocsp.RemoveFromCRL {
		n[c.Serial] = c
	}
}

// texts are the entries as text, by serial number.
func (n naive) texts(s crl.Scope) map[string]string {
	out := map[string]string{}
	for serial, c := range n {
		if s.Partitions == 0 || crl.PartitionOf(serial, s.Partitions) == s {
			out[fmt.Sprint(serial.Int())] = fmt.Sprint(c.Reason, c.Revoked.Truncate(time.Second).UTC())
		}
	}
	return out
}

func (w *world) texts(s crl.Scope) map[string]string {
	w.t.Helper()
	out := map[string]string{}
	for _, e := range w.read(s).RevokedCertificateEntries {
		out[fmt.Sprint(e.SerialNumber)] = fmt.Sprint(e.ReasonCode, e.RevocationTime.UTC())
	}
	return out
}

// check holds every list to the model: each partition, and the full one with
// its delta.
func (w *world) check(model naive) {
	w.t.Helper()
	for i := range 4 {
		s := crl.Scope{Partitions: 4, Partition: i}
		if got, want := w.texts(s), model.texts(s); !maps.Equal(got, want) {
			w.t.Fatalf("partition %s has %v, want %v", s, got, want)
		}
	}
	got := w.texts(crl.Full)
	for serial, text := range w.texts(crl.Delta) {
		if delete(got, serial); text[0] != fmt.Sprint(ocsp.RemoveFromCRL)[0] {
			got[serial] = text
		}
	}
	if want := model.texts(crl.Full); !maps.Equal(got, want) {
		w.t.Fatalf("full list and delta have %v, want %v", got, want)
	}
}

func TestListsSayWhatHappened(t *testing.T) {
	reasons := []ocsp.Reason{ocsp.Unspecified, ocsp.KeyCompromise, ocsp.Superseded, ocsp.CertificateHold, ocsp.RemoveFromCRL, ocsp.RemoveFromCRL, ocsp.PrivilegeWithdrawn}
	for seed := range uint64(20) {
		t.Run(fmt.Sprint(seed), func(t *testing.T) {
			r := rand.New(rand.NewPCG(seed, 5))
			w, model := newWorld(t, schedule), naive{}
			numbers := map[crl.Scope]int64{}
			for range 40 {
				for range r.IntN(30) {
					c := ocsp.Change{Serial: serial(r.IntN(300)), Reason: reasons[r.IntN(len(reasons))], Revoked: w.now, NotAfter: w.now.AddDate(9, 0, 0)}
					if r.IntN(20) == 0 {
						c.Issuer, c.NotAfter = 3, c.NotAfter.AddDate(7991, 0, 0)
					} else {
						model.apply(c)
					}
					w.change(c)
				}
				w.now = w.now.Add(time.Duration(r.IntN(int(6 * time.Hour))))
				w.round()
				w.check(model)
				for _, k := range w.maker.Directory.Of(0) {
					if numbers[k.Scope] > k.Number {
						t.Fatalf("the number of list %s went from %d to %d", k.Scope, numbers[k.Scope], k.Number)
					}
					numbers[k.Scope] = k.Number
				}
			}
		})
	}
}

func TestOnlyWhatIsDueIsMade(t *testing.T) {
	s := schedule
	s.Delay = time.Minute
	w := newWorld(t, s)
	w.revoke(serial(1), ocsp.KeyCompromise)
	w.round()
	first := w.maker.Directory.Of(0)
	if len(first) != 6 {
		t.Fatalf("there are %d lists, want the full one, the delta and four partitions", len(first))
	}
	w.now = w.now.Add(time.Minute - time.Second)
	w.round()
	if again := w.maker.Directory.Of(0); !slices.Equal(first, again) {
		t.Error("lists were made anew although nothing happened")
	}
	w.revoke(serial(2), ocsp.Superseded)
	w.round()
	if again := w.maker.Directory.Of(0); !slices.Equal(first, again) {
		t.Error("lists were made anew before the delay was over")
	}
	w.now = w.now.Add(time.Second)
	w.round()
	var anew []crl.Scope
	for i, k := range w.maker.Directory.Of(0) {
		if k != first[i] {
			anew = append(anew, k.Scope)
		}
	}
	if want := []crl.Scope{crl.Delta, crl.PartitionOf(serial(2), 4)}; !slices.Equal(anew, want) {
		t.Errorf("one more revocation made %v anew, want %v", anew, want)
	}
	w.now = w.now.Add(24 * time.Hour)
	w.round()
	for i, k := range w.maker.Directory.Of(0) {
		if k.ThisUpdate != w.now || k.Number <= first[i].Number {
			t.Errorf("a day later list %s is number %d of %s", k.Scope, k.Number, k.ThisUpdate)
		}
	}
}

func TestFullListAndItsDeltaShareNumbers(t *testing.T) {
	w := newWorld(t, schedule)
	w.round()
	full, delta := w.maker.Directory.Find(0, crl.Full), w.maker.Directory.Find(0, crl.Delta)
	if full.Number != delta.Number || delta.Base != full.Number || delta.Entries != 0 {
		t.Errorf("made together, they are %+v and %+v", full, delta)
	}
	last := full.Number
	for n := range 5 {
		w.revoke(serial(n), ocsp.Superseded)
		w.now = w.now.Add(time.Second)
		w.round()
		delta = w.maker.Directory.Find(0, crl.Delta)
		if delta.Number <= last || delta.Base != full.Number || delta.Entries != n+1 {
			t.Errorf("delta after %d: number %d, base %d, %d entries, want base %d, %d entries", last, delta.Number, delta.Base, delta.Entries, full.Number, n+1)
		}
		last = delta.Number
	}
	if err := w.maker.Make(t.Context(), "operator:anna", w.issuer); err != nil {
		t.Fatal(err)
	}
	if again := w.maker.Directory.Find(0, crl.Full); again.Number <= last {
		t.Errorf("the next full list has number %d, after a delta's %d", again.Number, last)
	}
	if note := w.memory.notes[len(w.memory.notes)-1]; note != "operator:anna device-ca: 0/4 to 3/4" {
		t.Errorf("the log was told %q", note)
	}
}

// TestEndedCertificatesAreForgotten: memory holds what the next lists may
// hold, whichever lists are made.
func TestEndedCertificatesAreForgotten(t *testing.T) {
	partitions, no := schedule, schedule
	partitions.Full = false
	no.Full, no.URLs = false, nil
	for name, s := range map[string]crl.Schedule{"full and partitions": schedule, "partitions": partitions, "none": no} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, s)
			for n := range 10 {
				w.change(ocsp.Change{Serial: serial(n), Reason: ocsp.KeyCompromise, Revoked: epoch, NotAfter: epoch.Add(time.Hour)})
			}
			w.change(ocsp.Change{Serial: serial(10), Reason: ocsp.KeyCompromise, Revoked: epoch, NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)})
			w.round()
			if n := w.maker.Revoked.Entries(); n != 11 {
				t.Errorf("%d are in memory at the beginning", n)
			}
			for range 4 {
				w.now = w.now.Add(ocsp.Retention / 3)
				w.round()
			}
			if n := w.maker.Revoked.Entries(); n != 1 {
				t.Errorf("%d are in memory long after their end, want the one without an end", n)
			}
		})
	}
}

// TestEndedCertificatesLeave checks RFC 5280 §3.3: not before a list was made
// after their end, and an interval has passed.
func TestEndedCertificatesLeave(t *testing.T) {
	for name, c := range map[string]struct{ at, on []int }{ // hours after the first list
		"lists by the interval":          {at: []int{0, 24, 48, 72, 96}, on: []int{0, 24, 48}},
		"lists after many changes":       {at: []int{0, 29, 31, 32, 40, 53, 55, 79}, on: []int{0, 29, 31, 32, 40, 53}},
		"no lists were made for a while": {at: []int{0, 100, 101}, on: []int{0, 100}},
	} {
		t.Run(name, func(t *testing.T) {
			w := newWorld(t, schedule)
			w.change(ocsp.Change{Serial: serial(1), Reason: ocsp.KeyCompromise, Revoked: epoch, NotAfter: epoch.Add(30 * time.Hour)})
			w.change(ocsp.Change{Serial: serial(2), Reason: ocsp.KeyCompromise, Revoked: epoch, NotAfter: time.Date(9999, 12, 31, 23, 59, 59, 0, time.UTC)})
			var on []int
			for _, at := range c.at {
				w.now = epoch.Add(time.Duration(at) * time.Hour)
				if err := w.maker.Make(t.Context(), "server", w.issuer); err != nil {
					t.Fatal(err)
				}
				full, part := w.texts(crl.Full), w.texts(crl.PartitionOf(serial(1), 4))
				one, two := fmt.Sprint(serial(1).Int()), fmt.Sprint(serial(2).Int())
				if full[one] != part[one] {
					t.Errorf("after %d hours the full list has %q, the partition %q", at, full[one], part[one])
				}
				if full[one] != "" {
					on = append(on, at)
				}
				if full[two] == "" {
					t.Error("a certificate without an end left the list")
				}
			}
			if !slices.Equal(on, c.on) {
				t.Errorf("it was on the lists after %v hours, want %v", on, c.on)
			}
		})
	}
}

// TestChangesWhileAListIsWritten: a list says what it said when it was signed.
func TestChangesWhileAListIsWritten(t *testing.T) {
	w := newWorld(t, schedule)
	neighbour := func(n int) ocsp.Serial { return serial(n << 16) }
	for n := range 100 {
		w.revoke(neighbour(n), ocsp.KeyCompromise)
	}
	w.memory.writing = func() {
		for n := range 200 {
			w.revoke(neighbour(n), []ocsp.Reason{ocsp.RemoveFromCRL, ocsp.Superseded}[n%2])
		}
	}
	w.round()
	w.memory.writing = nil
	if n := len(w.texts(crl.Full)); n != 100 {
		t.Errorf("the full list has %d entries, want 100", n)
	}
}

func TestFormerPartitionsGoOn(t *testing.T) {
	w := newWorld(t, schedule)
	w.revoke(serial(1), ocsp.KeyCompromise)
	w.round()
	finer := schedule
	finer.Partitions = 8
	directory := w.maker.Directory
	w.maker = w.server(finer)
	w.maker.Directory = directory
	_, err := w.memory.Changes(t.Context(), 0, func(c []ocsp.Change) error { w.maker.Revoked.Apply(c); return nil })
	if err != nil {
		t.Fatal(err)
	}
	w.revoke(serial(2), ocsp.Superseded)
	w.now = w.now.Add(time.Second)
	w.round()
	for _, n := range []int{4, 8} {
		for i := range 2 {
			s := crl.PartitionOf(serial(i+1), n)
			if w.texts(s)[fmt.Sprint(serial(i+1).Int())] == "" {
				t.Errorf("partition %s lacks certificate %d", s, i+1)
			}
		}
	}
}

// TestTwoServersMakeOneSeries has two servers make the same lists, one of
// which lags behind.
func TestTwoServersMakeOneSeries(t *testing.T) {
	w := newWorld(t, schedule)
	behind := w.server(schedule)
	w.revoke(serial(1), ocsp.KeyCompromise)
	w.round()
	first := w.memory.all()
	w.now = w.now.Add(24 * time.Hour)
	behind.Round(t.Context())
	if w.failed != 0 {
		t.Error("the server that lags behind failed")
	}
	for _, k := range first {
		if now := w.memory.kept[k.Scope]; now.Entries < k.Entries {
			t.Errorf("a server that did not know of a revocation took it off list %s", k.Scope)
		}
	}
}

// TestNumbersGrowAfterARestore sets the store back to what it was a day ago:
// clients that have later lists take the next one.
func TestNumbersGrowAfterARestore(t *testing.T) {
	w := newWorld(t, schedule)
	w.round()
	backup := maps.Clone(w.memory.kept)
	for n := range 100 {
		w.revoke(serial(n), ocsp.Superseded)
		w.now = w.now.Add(time.Second)
		w.round()
	}
	later := maps.Clone(w.memory.kept)
	w.memory.kept = backup
	w.now = w.now.Add(24 * time.Hour)
	w.maker = w.server(schedule)
	w.round()
	for s, k := range later {
		if now := w.maker.Directory.Find(0, s); now.Number <= k.Number {
			t.Errorf("list %s had number %d, and has %d after the restore", s, k.Number, now.Number)
		}
	}
}

func TestMakeWithoutAKey(t *testing.T) {
	w := newWorld(t, schedule)
	cert := *w.issuer.Certificate
	cert.KeyUsage = x509.KeyUsageCertSign
	mute := *w.issuer.Certificate
	mute.NotAfter = w.now.Add(-time.Hour)
	for want, issuer := range map[string]crl.Issuer{
		"key is not at hand": {Name: "device-ca", Certificate: w.issuer.Certificate},
		"lacks cRLSign":      {Name: "device-ca", Certificate: &cert, Signer: w.issuer.Signer},
		"ran out":            {Name: "device-ca", Certificate: &mute, Signer: w.issuer.Signer},
	} {
		var unable *crl.UnableError
		if err := w.maker.Make(t.Context(), "operator:anna", issuer); !errors.As(err, &unable) || !strings.Contains(err.Error(), want) {
			t.Errorf("error %v, want %q", err, want)
		}
		w.issuer = issuer
		w.maker.Round(t.Context())
	}
	if len(w.memory.kept) > 0 || w.failed != 1 { // the one that cannot by mistake
		t.Errorf("%d lists, %d failures were told of", len(w.memory.kept), w.failed)
	}
}

func TestFaultsOfTheStore(t *testing.T) {
	for _, late := range []bool{false, true} {
		t.Run(fmt.Sprintf("kept %v", late), func(t *testing.T) {
			w, model := newWorld(t, schedule), naive{}
			for n := range 50 {
				w.memory.fail, w.memory.late = errFault, late
				w.revoke(serial(n), ocsp.KeyCompromise)
				model.apply(w.memory.changes[n])
				w.now = w.now.Add(time.Hour)
				w.maker.Round(t.Context())
				if w.failed != n+1 {
					t.Fatalf("%d failures were told of, want %d", w.failed, n+1)
				}
				w.maker.Round(t.Context())
				w.check(model)
			}
		})
	}
}

func TestMakerThatKnowsNothingYet(t *testing.T) {
	w := newWorld(t, schedule)
	w.maker.Known = func() (time.Time, bool) { return time.Time{}, false }
	if err := w.maker.Make(t.Context(), "operator:anna", w.issuer); err != crl.ErrNotReady {
		t.Errorf("Make before the changes were read: %v", err)
	}
	w.round()
	if len(w.memory.kept) > 0 {
		t.Error("lists were made of what is not known yet")
	}
}

func TestMakeWaitsForItsTurnOnlyAsLongAsItsContext(t *testing.T) {
	w := newWorld(t, schedule)
	ctx, cancel := context.WithCancel(t.Context())
	w.maker.Issuers = func() []crl.Issuer { // in the midst of a round
		cancel()
		if err := w.maker.Make(ctx, "operator:anna", w.issuer); err != context.Canceled {
			t.Errorf("Make: %v", err)
		}
		return nil
	}
	w.round()
}
