package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"time"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/ocsp/offline"
	"github.com/touchmark/touchmark/ocsp/offline/publish"
	"github.com/touchmark/touchmark/vetting"
)

var offlineCases = []conformance{
	{"offline files are kept, the newest of each kind", offlineKept},
	{"an offline file that follows another than the newest is not kept", offlineFollows},
	{"issued certificates come with what responders say of them", offlineUniverse},
	{"issued certificates are those of one CA that have not run out", offlineOfCA},
}

// OfflineFile is a file to be kept, with arbitrary bytes: the store does not
// look into it.
func OfflineFile(issuer int64, kind offline.Kind, number int64) (publish.Kept, []byte) {
	b := bytes.Repeat([]byte{byte(number), byte(kind)}, 3000)
	return publish.Kept{Issuer: issuer, Kind: kind, Number: number, Digest: sha256.Sum256(b)}, b
}

// KeepOffline keeps a file.
func KeepOffline(ctx context.Context, s *store.Store, issuer int64, kind offline.Kind, follows, number int64) (kept bool, err error) {
	f, b := OfflineFile(issuer, kind, number)
	return s.KeepOfflineFile(ctx, "operator:anna", "device-ca", follows, f, b)
}

// keepOffline checks whether a file is kept, with one leaf or none.
func (t *trial) keepOffline(want bool, issuer int64, kind offline.Kind, follows, number int64) {
	t.Helper()
	before := t.leaves()
	kept, err := KeepOffline(t.ctx, t.store, issuer, kind, follows, number)
	if t.done(err); kept != want || (t.leaves() == before+1) != want {
		t.Errorf("%s %d of %d: kept %v with %d leaves", kind, number, issuer, kept, t.leaves()-before)
	}
}

// holdsOffline checks all files that another server finds.
func (t *trial) holdsOffline(want ...publish.Kept) {
	t.Helper()
	other := t.second()
	have := map[publish.Kept]bool{}
	for _, k := range ok(other.OfflineFiles(t.ctx))(t) {
		have[k] = true
	}
	for _, k := range want {
		if !have[k] {
			t.Errorf("there is no %s %d of %d", k.Kind, k.Number, k.Issuer)
		}
		if sha256.Sum256(ok(other.OfflineFile(t.ctx, k.Issuer, k.Kind))(t)) != k.Digest {
			t.Errorf("the %s %d of %d has other bytes", k.Kind, k.Number, k.Issuer)
		}
	}
	if len(have) != len(want) {
		t.Errorf("there are %d files, want %d", len(have), len(want))
	}
}

func offlineKept(t *trial) {
	t.holdsOffline()
	if b := ok(t.store.OfflineFile(t.ctx, 0, offline.Base))(t); b != nil {
		t.Errorf("%d bytes of a file that there is not", len(b))
	}
	leaf := t.leaves()
	t.keepOffline(true, 0, offline.Base, 0, 7)
	if l := t.leaf(leaf); l.Act != "offline.make" || l.By != "operator:anna" || l.Note != "device-ca" || len(l.Objects) != 1 || l.Objects[0].Kind != audit.KindOfflineFile {
		t.Errorf("the leaf is %+v", l)
	}
	t.keepOffline(true, 0, offline.Delta, 7, 8)
	t.keepOffline(true, 9, offline.Base, 0, 1)
	base, _ := OfflineFile(0, offline.Base, 7)
	delta, _ := OfflineFile(0, offline.Delta, 8)
	other, _ := OfflineFile(9, offline.Base, 1)
	t.holdsOffline(base, delta, other)
	t.keepOffline(true, 0, offline.Delta, 8, 100)
	t.keepOffline(true, 0, offline.Base, 100, 104)
	base, _ = OfflineFile(0, offline.Base, 104)
	delta, _ = OfflineFile(0, offline.Delta, 100)
	t.holdsOffline(base, delta, other)
}

func offlineFollows(t *trial) {
	t.keepOffline(false, 0, offline.Base, 1, 2)
	t.keepOffline(true, 0, offline.Base, 0, 1)
	t.keepOffline(false, 0, offline.Base, 0, 2)
	t.keepOffline(false, 0, offline.Delta, 0, 2)
	t.keepOffline(true, 0, offline.Delta, 1, 2)
	t.keepOffline(false, 0, offline.Base, 1, 3) // the delta has taken the series further
	t.keepOffline(true, 0, offline.Base, 2, 3)
}

// universe is what is told of a CA's certificates, by serial number.
func (t *trial) universe(issuer int64, at time.Time) map[string]bool {
	t.Helper()
	out := map[string]bool{}
	t.done(t.store.IssuedCertificates(t.ctx, issuer, at, func(serial []byte, good bool) error {
		key := hex.EncodeToString(append(make([]byte, ocsp.SerialLength-len(serial)), serial...))
		if _, twice := out[key]; twice {
			t.Errorf("%s is told twice", key)
		}
		out[key] = good
		return nil
	}))
	return out
}

func offlineUniverse(t *trial) {
	f, told := t.fleet(), t.follow()
	renewed := f.renewed()
	for _, s := range []vetting.DeviceState{vetting.DeviceIssued, vetting.DeviceActive, vetting.DeviceSuspended, vetting.DeviceRetired, vetting.DeviceQuarantined} {
		f.unit(s)
	}
	t.revoke(f.unit(vetting.DeviceActive).ID, vetting.RevokedKeyCompromise)
	f.w.Product.Life.HoldUntilActive = true
	ok(t.store.UpdateProduct(t.ctx, By, f.w.Product))(t)
	f.unit(vetting.DeviceIssued)
	f.unit(vetting.DeviceActive)
	t.setState(renewed.ID, vetting.DeviceSuspended)
	t.setState(renewed.ID, vetting.DeviceActive)
	told.changes()
	have := t.universe(0, time.Now())
	for serial, good := range have {
		if reason, changed := told.now[serial]; good != (!changed || reason == ocsp.RemoveFromCRL) {
			t.Errorf("%s is good: %v, but responders were told %d", serial, good, reason)
		}
	}
	for serial := range told.now {
		if _, found := have[serial]; !found {
			t.Errorf("%s is not among the issued ones", serial)
		}
	}
	if len(have) < 11 || len(told.now) < 6 {
		t.Errorf("%d certificates and %d changes do not show much", len(have), len(told.now))
	}
	stop := errors.New("enough")
	if err := t.store.IssuedCertificates(t.ctx, 0, time.Now(), func([]byte, bool) error { return stop }); !errors.Is(err, stop) {
		t.Errorf("broken off: %v", err)
	}
}

func offlineOfCA(t *trial) {
	t.world(2, Unit(0), Unit(1))
	d := t.admit(0)
	c := t.propose(first(1))
	c.Issued.Issuer, c.Issued.NotAfter = 4711, time.Now().Add(time.Hour)
	ok(t.store.Commit(t.ctx, c))(t)
	of := func(issuer int64, at time.Time, want ...string) {
		t.Helper()
		have := t.universe(issuer, at)
		for _, serial := range want {
			if !have[serial] {
				t.Errorf("%s is not told to be good", serial)
			}
		}
		if len(have) != len(want) {
			t.Errorf("%d certificates are told, want %d", len(have), len(want))
		}
	}
	of(0, time.Now(), d.Certificate)
	of(4711, time.Now(), hex.EncodeToString(c.Issued.Serial))
	of(4711, c.Issued.NotAfter.Truncate(time.Microsecond), hex.EncodeToString(c.Issued.Serial))
	of(4711, c.Issued.NotAfter.Add(time.Second))
	of(1, time.Now())
}
