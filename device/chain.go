package device

import (
	"context"
	"crypto/x509"
	"encoding/asn1"
	"fmt"
	"slices"
	"time"
)

// chain completes a certificate with the CA certificates up to the root. It
// tries those that the device has, and then those that the server publishes
// now: the issuing CA may be newer than the device.
func (d *Device) chain(ctx context.Context, cert *x509.Certificate) ([]*x509.Certificate, error) {
	now := d.now()
	if len(d.CAs) > 0 {
		if chain, err := verify(cert, d.CAs, d.roots(), now); err == nil {
			return chain, nil
		}
	}
	cas := d.CAs
	if d.MQTT == nil {
		var err error
		if cas, err = d.Client.CACerts(ctx, nil); err != nil {
			return nil, err
		}
	}
	chain, err := verify(cert, cas, d.roots(), now)
	if err != nil {
		return nil, &ReplyError{"simpleenroll", fmt.Errorf("the certificate %x does not lead to the root that this device was given: %w", cert.SerialNumber, err)}
	}
	return chain, nil
}

func (d *Device) now() time.Time {
	if d.MQTT != nil {
		return d.MQTT.now()
	}
	return d.Client.now()
}

// verify returns the certificate and the CAs between it and a root, which is
// left out. A critical subjectAltName with only names that crypto/x509
// does not know (hardwareModuleName, permanentIdentifier) counts as handled:
// the server names its devices, and this device is the one who asked.
func verify(cert *x509.Certificate, cas, roots []*x509.Certificate, now time.Time) ([]*x509.Certificate, error) {
	leaf := *cert
	leaf.UnhandledCriticalExtensions = slices.DeleteFunc(slices.Clone(cert.UnhandledCriticalExtensions),
		func(id asn1.ObjectIdentifier) bool { return id.Equal(oidSubjectAltName) })
	opts := x509.VerifyOptions{
		Roots: x509.NewCertPool(), Intermediates: x509.NewCertPool(),
		CurrentTime: now, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageAny},
	}
	for _, root := range roots {
		opts.Roots.AddCert(root)
	}
	for _, ca := range cas {
		opts.Intermediates.AddCert(ca)
	}
	chains, err := leaf.Verify(opts)
	if err != nil {
		return nil, err
	}
	chain := chains[0]
	chain[0] = cert
	return chain[:len(chain)-1], nil
}
