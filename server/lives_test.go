package server

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/x509"
	"fmt"
	mathrand "math/rand/v2"
	"os"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/touchmark/touchmark/enroll/attest/attesttest"
	"github.com/touchmark/touchmark/internal/store/storetest"
	"github.com/touchmark/touchmark/vetting"
)

// Devices live through random events: they enrol, renew, are copied and come
// with whatever they ever held, while operators move them about. Whatever the
// order, and through whichever door, nobody finds a way back to a certificate
// that is barred, whoever is entitled gets one, and the log accounts for every
// state.
func TestLives(t *testing.T) {
	seen := map[string]int{}
	for _, seed := range lifeSeeds(t) {
		t.Run(fmt.Sprint("seed=", seed), func(t *testing.T) {
			w := opened(t, func(c *Config) { c.Enrol.DeviceRate = 0 }) // years go by in a second
			l := &lives{works: w, rand: mathrand.New(mathrand.NewPCG(seed, 3)), seen: seen}
			l.doors = []entry{l.estDoor(), l.rigDoor(), l.mqttDoor(), l.provisioningDoor(), l.acmeDoor(), l.tpmDoor()}
			l.openMarket()
			for range 6 {
				l.born()
			}
			for range 400 {
				l.step()
				if t.Failed() {
					return
				}
			}
			l.owned()
			if err := w.server.Stop(t.Context()); err != nil {
				t.Fatal(err)
			}
			verifyLog(t, w.config)
		})
	}
	for _, door := range []string{"est", "rig", "mqtt", "provisioning", "acme", "tpm"} {
		for _, what := range []string{"enrolled", "repeated", "barred", "renewed"} {
			never := what == "renewed" && slices.Contains([]string{"rig", "tpm"}, door)
			if want := door + ": " + what; seen[want] == 0 && !never {
				t.Errorf("no run met %q: %v", want, seen)
			}
		}
	}
	for _, want := range []string{"cloned", "readmitted", "revoked", "quarantined", "released", "retired", "slept", "sold", "given back", "withdrawn", "declined", "ran out of time", "came to its owner", "cloned after it was sold", "barred after it came to its owner"} {
		if seen[want] == 0 {
			t.Errorf("no run met %q: %v", want, seen)
		}
	}
}

func lifeSeeds(t *testing.T) []uint64 {
	list := []uint64{1, 2, 3}
	if s := os.Getenv("TOUCHMARK_SEED"); s != "" {
		n, err := strconv.ParseUint(s, 10, 64)
		if err != nil {
			t.Fatalf("TOUCHMARK_SEED: %v", err)
		}
		list = append(list, n)
	}
	return list
}

// entry is a way for devices to come in. A new protocol is a new entry in
// TestLives, in a file of its own.
type entry struct {
	name string
	// open is to whom it is; nil is to all.
	open func(d *lived) bool
	// enrol asks for a first certificate on a key, by the device's first
	// proof or in its name.
	enrol func(d *lived, key crypto.Signer) answered
	// renew asks for another by an official one; nil if the door has no such
	// thing, as use.
	renew func(by *grant, key crypto.Signer) answered
	// renews reports whether a certificate is renewed here; nil is all.
	renews func(by *grant) bool
	use    func(by *grant)
}

// answered is what a door said: a certificate or a text.
type answered struct {
	cert *x509.Certificate
	text string
	key  crypto.Signer // if not the one that was asked for
}

// grant is what was answered when a key was asked for.
func (a answered) grant(asked crypto.Signer) *grant {
	if a.key != nil {
		asked = a.key
	}
	return &grant{pair: pair{asked, a.cert}}
}

// lives is a server with its devices.
type lives struct {
	*works
	rand  *mathrand.Rand
	doors []entry
	all   []*lived
	seen  map[string]int
}

// lived is a device as the world knows it, from outside: nothing here is read
// from the server but what an operator would.
type lived struct {
	serial string
	id     int64
	boot   pair
	tpm    *attesttest.Device // nil if it has none
	out    bool               // of service
	spent  bool               // its official key was used
	grants []*grant
	owner  string // "" is the manufacturer
	deal   *deal  // the latest transfer that it was part of
	// handover is the certificate that it had when it changed hands last; nil
	// if none counted. former are all that ended so.
	handover *grant
	former   []*grant
}

// grant is a certificate that the device was given.
type grant struct {
	pair
	used, ended bool
}

func (d *lived) current() *grant {
	if len(d.grants) == 0 {
		return nil
	}
	return d.grants[len(d.grants)-1]
}

func (l *lives) born() {
	serial := fmt.Sprintf("L-%d", len(l.all))
	d := &lived{serial: serial, boot: l.issued(serial, pair{}, l.now().Add(time.Hour))}
	r := vetting.Record{Row: 1, Identity: vetting.Identity{Serial: serial}, BootstrapKey: vetting.KeyFingerprint(d.boot.cert.RawSubjectPublicKeyInfo)}
	if len(l.all) == 0 {
		d.tpm = l.newTPM()
		r.Made.EKHash = d.tpm.EK().String()
	}
	l.world.Load(l.t, r)
	d.id = l.device(serial).ID
	l.all = append(l.all, d)
}

func (l *lives) step() {
	d := l.all[l.rand.IntN(len(l.all))]
	if l.rand.IntN(4) == 0 {
		d = l.all[0] // which has a TPM
	}
	door := l.entrance(d)
	switch n := l.rand.IntN(100); {
	case n < 25:
		l.enrol(door, d, l.key(d))
	case n < 55:
		l.renew(d)
	case n < 68:
		l.use(d)
	case n < 80:
		l.act(d)
	case n < 95:
		l.trade(d)
	case n < 98:
		l.born()
	default:
		l.sleep()
	}
}

// key is a new one, or one that the device has or has held before.
func (l *lives) key(d *lived) crypto.Signer {
	if len(d.grants) > 0 {
		switch l.rand.IntN(5) {
		case 0:
			return d.current().key
		case 1:
			return d.grants[l.rand.IntN(len(d.grants))].key
		}
	}
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		l.t.Fatal(err)
	}
	return key
}

func (l *lives) enrol(door entry, d *lived, key crypto.Signer) {
	c := d.current()
	barred := d.out || d.spent || c != nil && c.ended
	a := door.enrol(d, key)
	switch {
	case a.cert != nil && barred:
		l.t.Errorf("%s: %s got a certificate, though it is out: %v, its key spent: %v, its certificate revoked: %v", door.name, d.serial, d.out, d.spent, c != nil && c.ended)
	case a.cert == nil && !barred:
		l.t.Errorf("%s: %s was turned away: %s", door.name, d.serial, a.text)
	case barred:
		l.seen[door.name+": barred"]++
	case c != nil && bytes.Equal(a.cert.Raw, c.cert.Raw):
		l.seen[door.name+": repeated"]++
	default:
		l.seen[door.name+": enrolled"]++
		if c != nil {
			c.ended = true // replaced
		}
		d.grants = append(d.grants, a.grant(key))
		key = d.current().key
		if l.rand.IntN(2) == 0 { // its answer was lost, and it takes another door
			l.enrol(l.entrance(d), d, key)
		}
	}
}

// entrance is a door for a first enrolment; those that are not open to all are
// taken as often as the others together.
func (l *lives) entrance(d *lived) entry {
	own := d.tpm != nil && l.rand.IntN(2) == 0
	return l.door(func(e entry) bool { return own == (e.open != nil) && (!own || e.open(d)) })
}

// door is one of those that can do something.
func (l *lives) door(can func(entry) bool) entry {
	for {
		if e := l.doors[l.rand.IntN(len(l.doors))]; can(e) {
			return e
		}
	}
}

// renewing is a door where a certificate is renewed; one that is not for all is
// taken as often as the others together.
func (l *lives) renewing(by *grant) entry {
	for _, e := range l.doors {
		if e.renews != nil && e.renews(by) && l.rand.IntN(2) == 0 {
			return e
		}
	}
	return l.door(func(e entry) bool { return e.renew != nil && e.renews == nil })
}

// renew comes with the newest certificate, or with any it ever had, as a copy
// does.
func (l *lives) renew(d *lived) {
	by := d.current()
	if len(d.former) > 0 && (by == nil || l.rand.IntN(2) == 0) {
		l.comeBack(d)
		return
	}
	if by == nil {
		return
	}
	if l.rand.IntN(4) == 0 {
		by = d.grants[l.rand.IntN(len(d.grants))]
	}
	c, key, door := d.current(), l.key(d), l.renewing(by)
	expired := l.now().After(by.cert.NotAfter)
	ended := d.out || by.ended || c.ended
	barred := ended || expired
	a := door.renew(by, key)
	switch {
	case a.cert == nil:
		l.refused(door, d, by, barred, a.text)
	case !ended && bytes.Equal(a.cert.Raw, c.cert.Raw) && l.now().Before(c.cert.NotAfter):
		l.seen[door.name+": repeated"]++ // nothing new, for who holds its key
	case barred:
		l.t.Errorf("%s: %s renewed by a certificate of %s, though it is out: %v, revoked: %v, run out: %v", door.name, d.serial, by.cert.NotBefore, d.out, by.ended || c.ended, expired)
	case by != c:
		l.t.Errorf("%s: %s renewed by a superseded certificate", door.name, d.serial)
	default:
		l.seen[door.name+": renewed"]++
		by.used, d.spent = true, true
		d.grants = append(d.grants, a.grant(key))
	}
}

// refused: a renewal was. It may have been a copy's.
func (l *lives) refused(door entry, d *lived, by *grant, barred bool, text string) {
	c := d.current()
	quarantined := l.device(d.serial).State == vetting.DeviceQuarantined
	switch {
	case barred && !d.out && quarantined && !by.ended && !c.ended && by != c:
		// It ran out, and is a copy none the less.
	case barred:
		l.seen[door.name+": barred"]++
	case by == c:
		l.t.Errorf("%s: %s could not renew: %s", door.name, d.serial, text)
	}
	if !d.out && quarantined {
		at := slices.Index(d.grants, by)
		if by == c || !slices.ContainsFunc(d.grants[at+1:], func(g *grant) bool { return g.used }) {
			l.t.Errorf("%s was quarantined, though its successor was never used: %s", d.serial, text)
		}
		l.seen["cloned"]++
		d.out = true
	}
}

func (l *lives) use(d *lived) {
	c := d.current()
	if c == nil {
		return
	}
	l.door(func(e entry) bool { return e.use != nil }).use(c)
	if !d.out && !c.ended && l.now().Before(c.cert.NotAfter) {
		c.used, d.spent = true, true
	}
}

// act is an operator's.
func (l *lives) act(d *lived) {
	s, ctx, by := l.server.store, l.t.Context(), storetest.By
	before := l.device(d.serial)
	end := func() {
		for _, g := range d.grants {
			g.ended = true
		}
	}
	switch n := l.rand.IntN(7); {
	case n == 0:
		if _, err := s.SetDeviceState(ctx, by, d.id, vetting.DeviceSuspended, "test"); err == nil {
			d.out = true
		}
	case n == 1:
		if _, err := s.SetDeviceState(ctx, by, d.id, vetting.DeviceQuarantined, "test"); err == nil {
			l.seen["quarantined"]++
			d.out = true
		}
	case n < 4 && before.State == vetting.DeviceQuarantined:
		if _, err := s.SetDeviceState(ctx, by, d.id, before.Before, "test"); err == nil {
			l.seen["released"]++
			d.out = !before.Before.InService()
		}
	case n < 4 && before.State == vetting.DeviceSuspended:
		if _, err := s.SetDeviceState(ctx, by, d.id, vetting.DeviceActive, "test"); err == nil {
			d.out = false
		}
	case n == 4:
		if _, err := s.RevokeDevice(ctx, by, d.id, vetting.RevokedUnspecified, "test"); err == nil {
			l.seen["revoked"]++
			d.handover = nil
			end()
		}
	case n == 5:
		if _, err := s.ReadmitDevice(ctx, by, d.id, "test"); err == nil {
			l.seen["readmitted"]++
			d.spent, d.grants, d.handover = false, nil, nil
		}
	case n == 6 && l.rand.IntN(4) == 0:
		if _, err := s.SetDeviceState(ctx, by, d.id, vetting.DeviceRetired, "test"); err == nil {
			l.seen["retired"]++
			d.out = true
			end()
		}
	}
}

// sleep lets half a certificate's life go by.
func (l *lives) sleep() {
	l.seen["slept"]++
	l.ahead.Add(int64(412 * 24 * time.Hour)) // the profile gives 825 days
}

// csr asks for a certificate on a key, in a subject's name.
func (l *lives) csr(key crypto.Signer, template x509.CertificateRequest) []byte {
	der, err := x509.CreateCertificateRequest(rand.Reader, &template, key)
	if err != nil {
		l.t.Fatal(err)
	}
	return der
}

// renewal asks for a certificate in the name of one that is there.
func (l *lives) renewal(by *grant, key crypto.Signer) []byte {
	return l.csr(key, x509.CertificateRequest{RawSubject: by.cert.RawSubject})
}
