package ca

import (
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"fmt"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/vetting"
)

// RequestForm says what a request for a product's certificate may name: what
// the profile gives every device is filled in, what differs from device to
// device is left open. To tell, it renders the profile for two devices that
// have nothing in common.
func (i *DeviceIssuer) RequestForm(p *vetting.Product) (enroll.RequestForm, error) {
	compiled, err := i.productProfile(p)
	if err != nil {
		return enroll.RequestForm{}, err
	}
	one, err := compiled.render(sample)
	if err != nil {
		return enroll.RequestForm{}, fmt.Errorf("product %s: %w", p.Name, err)
	}
	two, err := compiled.render(otherSample)
	if err != nil { // a template that reads its variables closely: then all is open
		two = new(x509.Certificate)
	}
	form := enroll.RequestForm{Key: compiled.keys[0]}
	if form.Subject, err = subjectForm(one.Subject, two.Subject); err != nil {
		return enroll.RequestForm{}, err
	}
	if x := extension(one.ExtraExtensions, oidSubjectAltName); x != nil {
		open := enroll.ExtensionForm{ID: x.Id, Critical: x.Critical}
		if other := extension(two.ExtraExtensions, oidSubjectAltName); other != nil && string(other.Value) == string(x.Value) {
			open.Value = x.Value
		}
		form.Extensions = append(form.Extensions, open)
	}
	return form, nil
}

// subjectForm lists the attributes of one subject, with the values that the
// other has, too.
func subjectForm(one, two pkix.Name) (form [][]enroll.NameForm, err error) {
	type key struct{ oid, value string }
	shared := map[key]bool{}
	for _, set := range two.ToRDNSequence() {
		for _, a := range set {
			shared[key{a.Type.String(), fmt.Sprint(a.Value)}] = true
		}
	}
	for _, set := range one.ToRDNSequence() {
		var names []enroll.NameForm
		for _, a := range set {
			name := enroll.NameForm{ID: a.Type}
			if shared[key{a.Type.String(), fmt.Sprint(a.Value)}] {
				if name.Value, err = asn1.Marshal(a.Value); err != nil {
					return nil, fmt.Errorf("the subject's attribute %s: %w", a.Type, err)
				}
			}
			names = append(names, name)
		}
		form = append(form, names)
	}
	return form, nil
}

func extension(list []pkix.Extension, oid asn1.ObjectIdentifier) *pkix.Extension {
	for i := range list {
		if list[i].Id.Equal(oid) {
			return &list[i]
		}
	}
	return nil
}
