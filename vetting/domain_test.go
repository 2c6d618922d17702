package vetting_test

import (
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/vetting"
)

// byName: a server proved its name over ACME, by an account for its order.
func byName(f *vetting.Facts) {
	f.Record.Identity, f.Record.BootstrapKey = vetting.Identity{Serial: "web1.lab.example"}, vetting.Fingerprint{}
	f.Device.Identity, f.Claim.Asserted = f.Record.Identity, f.Record.Identity
	f.Product.Proofs, f.Product.Domains = []vetting.Proof{vetting.ProofDomain}, vetting.Domains{Names: []string{".lab.example"}}
	f.Claim.Auth = vetting.Auth{Proof: vetting.ProofDomain, Account: 7, Order: f.Order.Name}
}

func inService(f *vetting.Facts) { f.Device.State = vetting.DeviceActive }

func anotherKey(f *vetting.Facts) { f.Claim.Key = newKey }

var domainJudgements = []judged{
	{name: "a server's name", given: with(byName), outcome: vetting.Admitted, codes: codes(vetting.ReasonVetted)},
	{name: "a server's name, one more than the order has", given: with(byName, func(f *vetting.Facts) { f.Order.Issued = f.Order.Quantity }),
		outcome: vetting.Refused, codes: codes(vetting.ReasonQuota), evidence: signs(vetting.EvidenceOverQuota, 11)},
	{name: "a server's name that is not the product's any more", given: with(byName, func(f *vetting.Facts) { f.Product.Domains.Names = []string{"lab.example"} }),
		outcome: vetting.Refused, codes: codes(vetting.ReasonMismatch)},
	{name: "a server's name for a product of devices", given: with(byName, func(f *vetting.Facts) { f.Product.Proofs = []vetting.Proof{vetting.ProofAttestation} }),
		outcome: vetting.Refused, codes: codes(vetting.ReasonProof)},
	{name: "a server's name by an account for another order", given: with(byName, func(f *vetting.Facts) { f.Claim.Auth.Order = "PO-9" }),
		outcome: vetting.Refused, codes: codes(vetting.ReasonWrongOrder), evidence: signs(vetting.EvidenceWrongSite, 11)},
	{name: "a server's name again, with the same key", given: with(byName, issued, func(f *vetting.Facts) { f.Current.Issued = now }),
		outcome: vetting.Admitted, codes: codes(vetting.ReasonRepeated), repeat: "21"},
	{name: "a server's name again, with another key", given: with(byName, issued, anotherKey), outcome: vetting.Admitted, codes: codes(vetting.ReasonRenewed)},
	{name: "a server's name again, in service, by another account", given: with(byName, issued, inService, anotherKey, func(f *vetting.Facts) { f.Claim.Auth.Account = 8 }),
		outcome: vetting.Admitted, codes: codes(vetting.ReasonRenewed)},
	{name: "a server's name again, with the same key, when it is time", given: with(byName, issued, inService, func(f *vetting.Facts) { f.Current.Issued = now.Add(-9 * time.Hour) }),
		outcome: vetting.Admitted, codes: codes(vetting.ReasonRenewed)},
	{name: "a server's name again, after its certificate ran out", given: with(byName, issued, inService, func(f *vetting.Facts) { f.Current.NotAfter = now.Add(-time.Hour) }),
		outcome: vetting.Admitted, codes: codes(vetting.ReasonRenewed)},
	{name: "a server's name again, revoked", given: with(byName, issued, anotherKey, func(f *vetting.Facts) { f.Current.State = vetting.CertificateRevoked }),
		outcome: vetting.Refused, codes: codes(vetting.ReasonCertificateEnded)},
	{name: "a server's name again, of a cancelled order", given: with(byName, issued, anotherKey, func(f *vetting.Facts) { f.Order.State = vetting.OrderCancelled }),
		outcome: vetting.Refused, codes: codes(vetting.ReasonOrderCancelled)},
	{name: "a server's name again, on hold", given: with(byName, issued, func(f *vetting.Facts) { f.Device.State = vetting.DeviceSuspended }),
		outcome: vetting.Refused, codes: codes(vetting.ReasonNotInService)},
	{name: "a server's name of no record", given: with(byName, func(f *vetting.Facts) { f.Record, f.Device, f.Order, f.Product = nil, nil, nil, nil }),
		outcome: vetting.Refused, codes: codes(vetting.ReasonUnknownDevice)},
	{name: "a server's name of several records", given: with(byName, func(f *vetting.Facts) {
		f.Named = []*vetting.Record{f.Record, f.Record}
		f.Record, f.Device, f.Order, f.Product = nil, nil, nil, nil
	}), outcome: vetting.Refused, codes: codes(vetting.ReasonWrongProduct)},
}

func TestServersAreChecked(t *testing.T) {
	good := func() *vetting.Product {
		return &vetting.Product{Name: "portal", Proofs: []vetting.Proof{vetting.ProofDomain}, Domains: vetting.Domains{Names: []string{"portal.example", ".lab.example", ".xn--bcher-kva.example"}}}
	}
	if err := good().Check(); err != nil {
		t.Errorf("a good product: %v", err)
	}
	for name, spoil := range map[string]func(*vetting.Product){
		"no names":            func(p *vetting.Product) { p.Domains.Names = nil },
		"names of devices":    func(p *vetting.Product) { p.Proofs = []vetting.Proof{vetting.ProofRig} },
		"servers and devices": func(p *vetting.Product) { p.Proofs = append(p.Proofs, vetting.ProofAttestation) },
		"wildcards of devices": func(p *vetting.Product) {
			p.Proofs, p.Domains = []vetting.Proof{vetting.ProofRig}, vetting.Domains{Wildcards: true}
		},
		"on hold until used": func(p *vetting.Product) { p.Life.HoldUntilActive = true },
		"an asterisk":        func(p *vetting.Product) { p.Domains.Names = []string{"*.lab.example"} },
		"upper case":         func(p *vetting.Product) { p.Domains.Names = []string{"Lab.example"} },
		"an address":         func(p *vetting.Product) { p.Domains.Names = []string{"10.0.0.1"} },
		"nothing":            func(p *vetting.Product) { p.Domains.Names = []string{""} },
		"a dot":              func(p *vetting.Product) { p.Domains.Names = []string{"."} },
		"too many":           func(p *vetting.Product) { p.Domains.Names = make([]string, 51) },
	} {
		p := good()
		spoil(p)
		if err := p.Check(); err == nil {
			t.Errorf("%s is taken", name)
		}
	}
}

func TestAllowedNames(t *testing.T) {
	d := vetting.Domains{Names: []string{"portal.example", ".lab.example"}}
	wild := vetting.Domains{Names: d.Names, Wildcards: true}
	for name, want := range map[string]string{
		"portal.example": "", "web.lab.example": "", "a.b.lab.example": "",
		"x.portal.example": "none that", "lab.example": "none that", "evil-lab.example": "none that", "evil.example": "none that",
		"web.lab.example.evil.example": "none that", "*.lab.example": "wildcard", "*.portal.example": "none that",
		"web.lab.example.": "no DNS name", "Web.lab.example": "no DNS name", "": "no DNS name", ".lab.example": "no DNS name", "a..lab.example": "no DNS name",
		"-a.lab.example": "no DNS name", "a_b.lab.example": "no DNS name", "a.*.lab.example": "no DNS name", "a b.lab.example": "no DNS name",
		"127.0.0.1": "address", "lab.1": "address", "::1": "no DNS name", strings.Repeat("a", 64) + ".lab.example": "at most 64",
	} {
		err := d.Allow(name)
		if want == "" && err != nil || want != "" && (err == nil || !strings.Contains(err.Error(), want)) {
			t.Errorf("%s: %v, want %q", name, err, want)
		}
	}
	for name, fine := range map[string]bool{"*.lab.example": true, "*.a.lab.example": true, "*.portal.example": false, "*.example": false, "*": false, "*.*.lab.example": false} {
		if err := wild.Allow(name); (err == nil) != fine {
			t.Errorf("%s: %v", name, err)
		}
	}
}

// FuzzDomains: a name that is allowed is a DNS name in lower case, and one of
// those listed or below one.
func FuzzDomains(f *testing.F) {
	f.Add("web.lab.example")
	f.Add("*.lab.example")
	f.Add("xlab.example")
	f.Add("a.b-c")
	d := vetting.Domains{Names: []string{".lab.example", "portal.example"}, Wildcards: true}
	allowed := func(t *testing.T, name string) {
		if d.Allow(name) != nil || name == "portal.example" {
			return
		}
		below, found := strings.CutSuffix(name, ".lab.example")
		if !found || strings.Trim(strings.TrimPrefix(below, "*"), "abcdefghijklmnopqrstuvwxyz0123456789-.") != "" || strings.Contains("."+below+".", "..") {
			t.Errorf("%q is allowed", name)
		}
		if id, err := (vetting.Identity{Serial: name}).Normalize(); err != nil || id.Serial != name {
			t.Errorf("%q is allowed, and no serial number: %v", name, err)
		}
	}
	f.Fuzz(func(t *testing.T, name string) {
		allowed(t, name)
		allowed(t, name+".lab.example") // which is not found by chance
	})
}
