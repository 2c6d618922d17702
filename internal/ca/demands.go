package ca

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"
	"slices"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/vetting"
)

// demands holds a request against the certificate that the profile gives.
// Nothing of the request but its key reaches the certificate; a request for
// something else is refused rather than ignored, so that nobody believes to
// have what they have not.
func demands(csr *x509.CertificateRequest, t *x509.Certificate, id vetting.Identity, names bool) error {
	if names {
		if err := subjectDemands(csr, t, id); err != nil {
			return err
		}
	}
	for _, x := range csr.Extensions {
		var err error
		switch {
		case x.Id.Equal(oidSubjectAltName):
			if names {
				err = nameDemands(x.Value, t)
			}
		case x.Id.Equal(oidBasicConstraints):
			err = constraintDemands(x.Value)
		case x.Id.Equal(oidKeyUsage):
			err = usageDemands(x.Value, t)
		case x.Id.Equal(oidExtKeyUsage):
			err = extUsageDemands(x.Value, t)
		case x.Id.Equal(oidSubjectKeyID): // the CA computes it
		default:
			err = enroll.BadRequest("the request asks for the extension %s, which no device certificate gets: leave it out", x.Id)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// subjectDemands lets a subject name only what the device is called, or what
// the certificate will say.
func subjectDemands(csr *x509.CertificateRequest, t *x509.Certificate, id vetting.Identity) error {
	given := func(a pkix.AttributeTypeAndValue) bool {
		value := fmt.Sprint(a.Value)
		if value == id.Serial || value != "" && (value == id.MAC || value == id.UID) {
			return true
		}
		return slices.ContainsFunc(t.Subject.ToRDNSequence(), func(set pkix.RelativeDistinguishedNameSET) bool {
			return slices.ContainsFunc(set, func(b pkix.AttributeTypeAndValue) bool {
				return a.Type.Equal(b.Type) && value == fmt.Sprint(b.Value)
			})
		})
	}
	for _, a := range csr.Subject.Names {
		if !given(a) {
			return enroll.BadRequest("the request's subject has %s=%q, which is neither the device's serial, MAC or UID nor in its certificate: leave the subject empty or use the serial number", a.Type, a.Value)
		}
	}
	return nil
}

// nameDemands compares subjectAltNames name by name, as DER.
func nameDemands(value []byte, t *x509.Certificate) error {
	asked, err := generalNames(value)
	if err != nil {
		return enroll.BadRequest("the request's subjectAltName is malformed: %v", err)
	}
	given, err := namesOf(t)
	if err != nil {
		return err
	}
	for _, name := range asked {
		if !slices.ContainsFunc(given, func(g []byte) bool { return bytes.Equal(g, name) }) {
			return enroll.BadRequest("the request asks for a subjectAltName that the product's profile does not give (%x): leave it out", name)
		}
	}
	return nil
}

// generalNames splits a GeneralNames into the DER of each name.
func generalNames(value []byte) (names [][]byte, err error) {
	var seq asn1.RawValue
	if rest, err := asn1.Unmarshal(value, &seq); err != nil || len(rest) > 0 || seq.Tag != asn1.TagSequence || !seq.IsCompound {
		return nil, fmt.Errorf("not a sequence of names")
	}
	for rest := seq.Bytes; len(rest) > 0; {
		var name asn1.RawValue
		if rest, err = asn1.Unmarshal(rest, &name); err != nil {
			return nil, err
		}
		names = append(names, name.FullBytes)
	}
	return names, nil
}

// namesOf gives the names that a template will put into subjectAltName.
func namesOf(t *x509.Certificate) ([][]byte, error) {
	for _, x := range t.ExtraExtensions {
		if x.Id.Equal(oidSubjectAltName) {
			return generalNames(x.Value)
		}
	}
	var names [][]byte
	add := func(tag int, value []byte) {
		der, err := asn1.Marshal(asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, Bytes: value})
		if err == nil {
			names = append(names, der)
		}
	}
	for _, s := range t.EmailAddresses {
		add(1, []byte(s))
	}
	for _, s := range t.DNSNames {
		add(2, []byte(s))
	}
	for _, u := range t.URIs {
		add(6, []byte(u.String()))
	}
	for _, ip := range t.IPAddresses {
		if v4 := ip.To4(); v4 != nil {
			ip = v4
		}
		add(7, ip)
	}
	return names, nil
}

func constraintDemands(value []byte) error {
	var c struct {
		IsCA    bool `asn1:"optional"`
		PathLen int  `asn1:"optional,default:-1"`
	}
	if rest, err := asn1.Unmarshal(value, &c); err != nil || len(rest) > 0 {
		return enroll.BadRequest("the request's basicConstraints are malformed")
	}
	if c.IsCA {
		return enroll.BadRequest("the request asks for a CA certificate (basicConstraints CA:TRUE): a device gets none")
	}
	return nil
}

func usageDemands(value []byte, t *x509.Certificate) error {
	var bits asn1.BitString
	if rest, err := asn1.Unmarshal(value, &bits); err != nil || len(rest) > 0 {
		return enroll.BadRequest("the request's keyUsage is malformed")
	}
	for i := range bits.BitLength {
		if bits.At(i) == 1 && (i > 8 || t.KeyUsage&(1<<i) == 0) {
			return enroll.BadRequest("the request asks for bit %d of keyUsage (RFC 5280 §4.2.1.3), which the product's profile does not give: leave keyUsage out", i)
		}
	}
	return nil
}

func extUsageDemands(value []byte, t *x509.Certificate) error {
	var asked []asn1.ObjectIdentifier
	if rest, err := asn1.Unmarshal(value, &asked); err != nil || len(rest) > 0 {
		return enroll.BadRequest("the request's extKeyUsage is malformed")
	}
	for _, oid := range asked {
		if !slices.ContainsFunc(extUsages(t), oid.Equal) {
			return enroll.BadRequest("the request asks for extKeyUsage %s, which the product's profile does not give: leave extKeyUsage out", oid)
		}
	}
	return nil
}

// extUsages gives a template's extended key usages as OIDs.
func extUsages(t *x509.Certificate) []asn1.ObjectIdentifier {
	oids := slices.Clone(t.UnknownExtKeyUsage)
	for _, u := range t.ExtKeyUsage {
		if oid, ok := knownExtUsages[u]; ok {
			oids = append(oids, oid)
		}
	}
	return oids
}

var knownExtUsages = map[x509.ExtKeyUsage]asn1.ObjectIdentifier{
	x509.ExtKeyUsageServerAuth:      {1, 3, 6, 1, 5, 5, 7, 3, 1},
	x509.ExtKeyUsageClientAuth:      {1, 3, 6, 1, 5, 5, 7, 3, 2},
	x509.ExtKeyUsageEmailProtection: {1, 3, 6, 1, 5, 5, 7, 3, 4},
	x509.ExtKeyUsageIPSECEndSystem:  {1, 3, 6, 1, 5, 5, 7, 3, 5},
	x509.ExtKeyUsageIPSECTunnel:     {1, 3, 6, 1, 5, 5, 7, 3, 6},
	x509.ExtKeyUsageIPSECUser:       {1, 3, 6, 1, 5, 5, 7, 3, 7},
}
