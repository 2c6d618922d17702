package server

import (
	"crypto/x509"
	"math/big"
	"net/http"
	"strconv"
	"strings"

	"github.com/touchmark/touchmark/internal/ca"
	"github.com/touchmark/touchmark/ocsp"
	"github.com/touchmark/touchmark/ocsp/crl"
)

// cacertsPrefix is where CAs' certificates are, by their names.
const cacertsPrefix = "/cacerts/"

// crossPath is where the certificates are by which the roots of a roll-over
// signed each other.
const crossPath = cacertsPrefix + "cross.pem"

// points are where a certificate says that its status can be learnt: nil if
// status.url is not set.
func (s Status) points() func(issuer string, serial *big.Int) ca.Points {
	if s.URL == "" {
		return nil
	}
	return func(issuer string, serial *big.Int) ca.Points {
		p := ca.Points{OCSP: s.URL + ocsp.Path, Issuer: s.URL + cacertsPrefix + issuer + ".crt"}
		if number, ok := ocsp.SerialOf(serial); ok && s.Partitions > 0 {
			p.CRL = crl.PartitionOf(number, s.Partitions).URL(s.URL, issuer)
		}
		return p
	}
}

// caCertificates serves the certificates of the CAs that issue to devices, in
// DER (RFC 5280 §4.2.2.1, RFC 2585 §4.1), and in a root roll-over those of the
// roots by each other, in PEM (RFC 8555 §9.1).
func caCertificates(issuing func() []ca.Issuing, cross []*x509.Certificate) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.URL.Path == crossPath && len(cross) > 0 {
			w.Header().Set("Content-Type", "application/pem-certificate-chain")
			for _, c := range cross {
				w.Write(ca.PEM(c.Raw))
			}
			return
		}
		name, named := strings.CutSuffix(strings.TrimPrefix(r.URL.Path, cacertsPrefix), ".crt")
		for _, i := range issuing() {
			if named && i.Name == name {
				w.Header().Set("Content-Type", "application/pkix-cert")
				w.Header().Set("Content-Length", strconv.Itoa(len(i.Certificate.Raw)))
				w.Header().Set("Cache-Control", "max-age=86400, public")
				w.Write(i.Certificate.Raw)
				return
			}
		}
		w.Header().Set("Cache-Control", "no-store")
		http.Error(w, "there is no CA of that name", http.StatusNotFound)
	})
}
