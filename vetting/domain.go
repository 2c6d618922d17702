package vetting

import (
	"errors"
	"fmt"
	"slices"
	"strings"
)

// Domains are the DNS names that a product's servers may have
// (ProofDomain). A server's name is its serial number.
type Domains struct {
	// Names are names ("portal.example.com"), or with a leading dot all names
	// below one (".lab.example.com"). In lower case, without a dot at the end.
	Names []string `json:"names,omitempty"`
	// Wildcards lets certificates be for all names directly below one
	// ("*.lab.example.com"), if Names has those.
	Wildcards bool `json:"wildcards,omitempty"`
}

// maxDomains bounds a product's names.
const maxDomains = 50

// Allow says why a product's servers may not have a name, if they may not.
func (d Domains) Allow(name string) error {
	if err := CheckDomainName(name); err != nil {
		return err
	}
	wild := strings.HasPrefix(name, "*.")
	fits := func(n string) bool { return n == name || n[0] == '.' && strings.HasSuffix(name, n) }
	switch {
	case !slices.ContainsFunc(d.Names, fits):
		return fmt.Errorf("the name %q is none that the product's servers may have", name)
	case wild && !d.Wildcards:
		return fmt.Errorf("the name %q is a wildcard, which the product does not allow: order the servers' own names", name)
	}
	return nil
}

// CheckDomainName says what is wrong with a server's name: letters, digits and
// hyphens in labels (RFC 5890 §2.3.1), in lower case, of which the first may
// be "*", no longer than a record's serial number. An address is none.
func CheckDomainName(name string) error {
	if len(name) > MaxSerialLength {
		return fmt.Errorf("the name %.80q has %d characters: at most %d are served", name, len(name), MaxSerialLength)
	}
	labels := strings.Split(strings.TrimPrefix(name, "*."), ".")
	for _, l := range labels {
		if l == "" || len(l) > 63 || l[0] == '-' || l[len(l)-1] == '-' || strings.ContainsFunc(l, notInLabel) {
			return fmt.Errorf("%q is no DNS name: want lower-case letters, digits and hyphens between dots, other letters as A-labels (xn--)", name)
		}
	}
	if last := labels[len(labels)-1]; last[0] >= '0' && last[0] <= '9' {
		return fmt.Errorf("%q is an address and no DNS name", name)
	}
	return nil
}

func notInLabel(r rune) bool { return r != '-' && (r < '0' || r > '9') && (r < 'a' || r > 'z') }

func (d Domains) check() error {
	if len(d.Names) > maxDomains {
		return fmt.Errorf("%d names are given: at most %d are kept", len(d.Names), maxDomains)
	}
	for _, n := range d.Names {
		if err := CheckDomainName(strings.TrimPrefix(n, ".")); err != nil || strings.Contains(n, "*") {
			return fmt.Errorf("%q: want a DNS name, as portal.example.com, or .example.com for all below it", n)
		}
	}
	return nil
}

// checkServers checks what a product has to say of its servers. Such a product
// has no devices of other kinds: a name is proved anew for each certificate,
// and a device is let in once.
func (p *Product) checkServers() error {
	if err := p.Domains.check(); err != nil {
		return fmt.Errorf("domains: %w", err)
	}
	named := len(p.Domains.Names) > 0
	switch {
	case !p.Accepts(ProofDomain) && (named || p.Domains.Wildcards):
		return errors.New("domains are given, but the proof domain-control is not accepted")
	case !p.Accepts(ProofDomain):
		return nil
	case len(p.Proofs) > 1:
		return errors.New("the proof domain-control stands alone: servers are a product of their own")
	case !named:
		return errors.New("the proof domain-control needs domains: the names that its servers may have")
	case p.Life.HoldUntilActive:
		return errors.New("its certificates cannot be on hold until they were used: servers do not show theirs here")
	}
	return nil
}

// proved says that a server's certificate can be had again: whoever controls
// the name gets one, as often as asked, on the unit that the name took.
func (j *judgement) proved() Verdict {
	if j.Order.State == OrderCancelled {
		return j.refuse(ReasonOrderCancelled, "Order %s was cancelled.", j.Order.Name)
	}
	switch c := j.Current; {
	case c != nil && (c.State == CertificateRevoked || c.State == CertificateOnHold):
		return j.refuse(ReasonCertificateEnded, "The server's certificate %s is %s: it gets another when an administrator readmits it.", c.Serial, c.State)
	case c != nil && c.Key == j.Claim.Key && j.Now.Before(j.Product.Life.Suggests(c).Start):
		v := j.admit(ReasonRepeated, "The server asked again with the same key and gets the same certificate.")
		v.admission.repeat = c
		return v
	}
	return j.admit(ReasonRenewed, "The name was proved again.")
}
