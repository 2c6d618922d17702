package ca

import (
	"crypto/x509"
	"slices"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// Listed is one CA certificate of a Touchmark.
type Listed struct {
	Name        string
	Certificate *x509.Certificate
	// SignedBy is "itself", or which root signed it.
	SignedBy string
	// Use is what it is for.
	Use string

	ofRollover bool
	issues     bool // to devices
	former     bool // another issues in its place, and it ends when it ends
	dead       bool // it is closed, and what it issued counts for nothing
	signerEnds time.Time
}

// RenewSoon is when a CA's end deserves a word: replacing one takes months.
const RenewSoon = 2 * 365 * 24 * time.Hour

// Warnings say what is amiss with a CA's times; longest is how long the
// certificates are valid that are issued to devices. A roll-over's
// certificates are about to go, and end when they end.
func (l *Listed) Warnings(now time.Time, longest time.Duration) []string {
	texts := []string{}
	switch end := l.Certificate.NotAfter; {
	case l.ofRollover || l.former:
	case now.After(end):
		texts = append(texts, "ran out at "+end.Format(time.RFC3339))
	case end.Sub(now) < RenewSoon:
		texts = append(texts, "runs out at "+end.Format(time.RFC3339)+": plan its renewal")
	}
	if l.issues && l.Certificate.NotAfter.Sub(now) < longest {
		texts = append(texts, "ends before the certificates of "+longest.String()+" that it issues to devices: they are cut short at its end")
	}
	if !l.ofRollover && l.Certificate.NotAfter.After(l.signerEnds) {
		texts = append(texts, "outlives the root that signed it, and is worth nothing from "+l.signerEnds.Format(time.RFC3339)+" on")
	}
	return texts
}

// List gives every CA certificate that there is: roots first, then the CAs
// that issue to others than devices, then those that issue to devices.
func (a *Authorities) List() []Listed {
	list := []Listed{{Name: RootName, Certificate: a.Root, Use: "signs the CAs below"}}
	if r := a.rollover; r != nil {
		for i, c := range [...]struct{ name, use string }{
			{"root-old", "the old root"}, {"root-new", "the new root"},
			{"root-old-with-new", "leads from the new root to what the old one signed"}, {"root-new-with-old", "leads from the old root to what the new one signed"},
		} {
			list = append(list, Listed{Name: c.name, Certificate: r.List()[i], Use: c.use, ofRollover: true})
		}
	}
	known := a.issuers.Load()
	for _, p := range slices.Concat(vetting.Purposes[1:], vetting.Purposes[:1]) {
		for _, i := range known.all {
			if i.purpose == p {
				list = append(list, Listed{Name: i.name, Certificate: i.Certificate, Use: i.use(known),
					issues: p == vetting.ForDevices && i.state != vetting.IssuingClosed, former: p != vetting.ForDevices && known.present(p) != i, dead: i.dead()})
			}
		}
	}
	for i := range list {
		list[i].SignedBy, list[i].signerEnds = a.signerOf(list[i].Certificate)
	}
	return list
}

func (i *issuer) use(known *issuers) string {
	switch {
	case i.state == vetting.IssuingClosed:
		return "closed"
	case known.present(i.purpose) == i:
		return uses[i.purpose]
	case i.purpose != vetting.ForDevices:
		return "issues nothing now; what it issued counts"
	}
	return "devices of the owners that name it"
}

// uses are what the CAs are for that issue at present.
var uses = map[vetting.Purpose]string{
	vetting.ForDevices: "devices, by default", vetting.ForSites: "operators and rigs of sites", vetting.ForOperators: "operators, the server itself", vetting.ForCodeSigning: "code signing",
}

// signerOf says which root signed a CA's certificate, and when that ends.
func (a *Authorities) signerOf(c *x509.Certificate) (string, time.Time) {
	switch r := a.rollover; {
	case c.CheckSignatureFrom(c) == nil:
		return "itself", c.NotAfter
	case r == nil:
		return RootName, a.Root.NotAfter
	case c.CheckSignatureFrom(r.NewWithNew) == nil:
		return "the new root", r.NewWithNew.NotAfter
	default:
		return "the old root", r.OldWithOld.NotAfter
	}
}

// BelowRoot names every CA below the root but for closed ones of which nothing
// counts.
func (a *Authorities) BelowRoot() (names []string) {
	for _, c := range a.List() {
		if c.Name != RootName && !c.ofRollover && !c.dead {
			names = append(names, c.Name)
		}
	}
	return names
}

// OfFiles says which certificates are in files: lines of a name and the
// SHA-256 of the certificate.
func (a *Authorities) OfFiles() (lines []string) {
	fixed := a.fixed()
	for _, c := range a.List() {
		if _, ok := fixed[c.Name]; ok || c.ofRollover || c.Name == RootName {
			lines = append(lines, c.Name+" "+nameOf(c.Certificate))
		}
	}
	return lines
}

// Soon is what ends within a time, or has ended, by name. A roll-over's
// certificates, and CAs in whose places others are, end when they end.
func (a *Authorities) Soon(now time.Time, within time.Duration) map[string]time.Time {
	ends := map[string]time.Time{}
	for _, c := range a.List() {
		if end := c.Certificate.NotAfter; !c.ofRollover && !c.former && end.Sub(now) < within {
			ends[c.Name] = end
		}
	}
	return ends
}
