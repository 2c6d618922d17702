package api

import (
	"context"
	"fmt"
	"net/http"
	"net/netip"
	"strings"
	"time"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// ObservationsInput is what a broker or gateway saw.
type ObservationsInput struct {
	Source       string             `json:"source,omitempty" maxLength:"63" doc:"Which broker or gateway it was; absent for the name of the operator who reports"`
	Observations []ObservationInput `json:"observations" minItems:"1" maxItems:"1000" nullable:"false" doc:"What it saw, in any order"`
}

// ObservationInput is one thing that was seen.
type ObservationInput struct {
	Certificate string                `json:"certificate" minLength:"1" maxLength:"16384" doc:"The device's certificate: its serial number in hexadecimal, or itself, as PEM or base64 of DER"`
	Event       vetting.ObservedEvent `json:"event" doc:"connect or disconnect"`
	At          time.Time             `json:"at" doc:"When: at most 30 days ago"`
	Address     string                `json:"address" maxLength:"64" doc:"From where: an IP address, with or without a port"`
	Place       *vetting.Place        `json:"place,omitempty" doc:"Where that is, if it is known"`
}

// maxObservations bounds the body of a batch, in bytes.
const maxObservations = 4 << 20

func (a *API) observations() {
	register(a, access.ReportObservations, operation{
		id: "reportObservations", method: http.MethodPost, path: "/observations", tag: tagAuthenticity, maxBody: maxObservations,
		summary: "Report which devices came and went",
		description: "Of each device the last few sightings are kept, and judged: one certificate in use at two places at once, travel faster than possible, certificates that were revoked, superseded or never issued. What they show is kept as evidence. " +
			"A batch is taken as a whole, or not at all: if something is wrong with it, the answer is 422 and names each bad entry by its index. Handing a batch in again is safe: what is known already changes nothing.",
	}, a.observe)
}

func (a *API) observe(ctx context.Context, c *call, in *bodyOf[ObservationsInput]) (*bodyOutput[vetting.Observed], error) {
	source := in.Body.Source
	if source == "" {
		source = c.Operator().Name
	}
	var list []vetting.Observation
	var wrong []FieldError
	now := a.config.Now()
	for i, one := range in.Body.Observations {
		o, err := a.observation(one, source)
		if err == nil {
			err = o.Check(now)
		}
		if err != nil {
			wrong = append(wrong, FieldError{fmt.Sprintf("body.observations[%d]", i), err.Error()})
		}
		list = append(list, o)
	}
	if len(wrong) > 0 {
		p := problem(http.StatusUnprocessableEntity, "%d of %d observations make no sense, the first at index %s: %s; none was taken: mend them, or leave them out, and hand the batch in again",
			len(wrong), len(list), strings.TrimSuffix(strings.TrimPrefix(wrong[0].Location, "body.observations["), "]"), wrong[0].Message)
		p.Errors = wrong
		return nil, p
	}
	return answer(c.Observe(ctx, c.act, a.config.Observing, list))
}

// observation reads one entry.
func (a *API) observation(in ObservationInput, source string) (vetting.Observation, error) {
	o := vetting.Observation{Certificate: serialHex(in.Certificate), Event: in.Event, At: in.At.UTC(), Place: in.Place, Source: source}
	if len(in.Certificate) > 64 { // no serial number is as long
		cert, err := parseCertificate(in.Certificate)
		if err != nil {
			return o, fmt.Errorf("the certificate: %w", err)
		}
		o.Certificate, o.Origin = enroll.SerialHex(cert), a.config.Examiner.Examine(cert).Origin
	}
	var err error
	if o.Address, err = parseAddress(in.Address); err != nil {
		return o, err
	}
	return o, nil
}

// parseAddress reads an IP address with or without a port.
func parseAddress(s string) (netip.Addr, error) {
	if port, err := netip.ParseAddrPort(s); err == nil {
		return port.Addr().Unmap().WithZone(""), nil
	}
	addr, err := netip.ParseAddr(s)
	if err != nil {
		return addr, fmt.Errorf("%q is no IP address", s)
	}
	return addr.Unmap().WithZone(""), nil
}
