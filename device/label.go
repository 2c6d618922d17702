package device

import (
	"errors"
	"fmt"
	"net/url"
	"strings"
)

// Login is what a device without a certificate that counts shows at its first
// enrolment: HTTP Basic (RFC 7617, RFC 7030 §3.2.3).
type Login struct {
	// User is the serial number; it may be empty if the code is for one
	// device.
	User string
	// Code is the one-time enrolment code.
	Code string
}

// Label is what the QR code of an enrolment label says.
type Label struct {
	Server  string // https://HOST:PORT
	Product string // the EST label
	Serial  string // "" if the label is good for any device of the order
	Order   string
	Code    string
}

// ParseLabel reads touchmark://HOST:PORT/PRODUCT?code=CODE, with order=ORDER
// and serial=SERIAL where the label has them. Parameters that it does not know
// are for others.
func ParseLabel(text string) (Label, error) {
	u, err := url.Parse(strings.TrimSpace(text))
	if err != nil {
		return Label{}, errors.New("the label is no URI") // err repeats it, with the code
	}
	q, err := url.ParseQuery(u.RawQuery)
	product, more, _ := strings.Cut(strings.TrimPrefix(u.Path, "/"), "/")
	switch {
	case u.Scheme != "touchmark":
		return Label{}, fmt.Errorf("the label is a %q URI: want touchmark://HOST:PORT/PRODUCT?code=CODE", u.Scheme)
	case err != nil || u.Host == "" || u.User != nil || u.Fragment != "" || product == "" || more != "" || len(q["code"]) != 1 || q.Get("code") == "" || len(q["serial"]) > 1:
		return Label{}, errors.New("the label is not of the form touchmark://HOST:PORT/PRODUCT?code=CODE")
	}
	return Label{Server: "https://" + u.Host, Product: product, Serial: q.Get("serial"), Order: q.Get("order"), Code: q.Get("code")}, nil
}
