package scan

import (
	"errors"
	"net/url"
	"strings"

	"github.com/touchmark/touchmark/vetting"
)

// Enrolment is what the label of a one-time enrolment code says.
type Enrolment struct {
	Code    vetting.OneTimeCode
	Serial  string // "" if the code is good for any device of its order
	Product string // "" if only the code was read
}

// ParseEnrolment reads what [Parse] refuses with [ErrEnrolmentCode], for who
// hands the code on: the QR code of an enrolment label
// (touchmark://HOST:PORT/PRODUCT?code=CODE, with serial=SERIAL if it is for
// one device), or the code alone. Its errors do not repeat the code.
func ParseEnrolment(text string) (Enrolment, error) {
	text = strings.TrimSpace(text)
	if scheme, _, found := strings.Cut(text, ":"); !found || !strings.EqualFold(scheme, "touchmark") {
		c, err := vetting.ParseOneTimeCode(text)
		return Enrolment{Code: c}, err
	}
	u, err := url.Parse(text)
	if err != nil || len(text) > MaxLength {
		return Enrolment{}, errLabelForm
	}
	q, err := url.ParseQuery(u.RawQuery)
	if err != nil || len(q["code"]) != 1 || len(q["serial"]) > 1 {
		return Enrolment{}, errLabelForm
	}
	id, err := vetting.Identity{Serial: q.Get("serial")}.Normalize()
	if err != nil {
		return Enrolment{}, errLabelForm
	}
	e := Enrolment{Serial: id.Serial, Product: strings.TrimPrefix(u.Path, "/")}
	if e.Product != "" && vetting.CheckName("product", e.Product) != nil {
		return Enrolment{}, errLabelForm
	}
	if e.Code, err = vetting.ParseOneTimeCode(q.Get("code")); err != nil {
		return Enrolment{}, err
	}
	return e, nil
}

var errLabelForm = errors.New("the enrolment label is damaged: want touchmark://HOST:PORT/PRODUCT?code=CODE; scan it again, or type the code that is printed under it")
