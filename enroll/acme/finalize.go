package acme

import (
	"bytes"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/base64"
	"errors"
	"net"
	"net/http"
	"slices"

	"go.step.sm/crypto/keyutil"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/certorder"
	"github.com/touchmark/touchmark/vetting"
	"github.com/touchmark/touchmark/vetting/vendorid"
)

// transport is the door's name in claims.
const transport = "acme"

// finalize asks for the certificate of an order (RFC 8555 §7.4). The request
// is kept with the order before it is judged, so of several at the same time
// one counts, and after a crash the same is judged again.
func (h *Handler) finalize(x *exchange, args []int64) error {
	o, _, err := h.recallOrder(x, args[0], func(o *certorder.Order) bool { return o.At(h.Now()) == certorder.Ready })
	if err != nil {
		return err
	}
	var in struct {
		CSR string `json:"csr"`
	}
	if err := decode(x.payload, &in); err != nil {
		return err
	}
	der, err := base64.RawURLEncoding.DecodeString(in.CSR)
	if err != nil {
		return problem(400, malformed, "csr is not the DER of a PKCS#10 request in base64url without padding: %v", err)
	}
	switch o.At(h.Now()) {
	case certorder.Processing, certorder.Valid:
		if !bytes.Equal(der, o.Request) {
			return problem(http.StatusForbidden, orderNotReady, "the order was finalized already, with another request")
		}
		return h.showOrder(x, args)
	case certorder.Ready:
	default:
		return problem(http.StatusForbidden, orderNotReady, "the order is %s: it can be finalized when its authorization is valid", o.At(h.Now()))
	}
	csr, err := checkRequest(der, o)
	if err != nil {
		return err
	}
	next := *o
	next.Status, next.Request, next.Again = certorder.Processing, der, h.Now()
	if err := h.change(x, x.account, &next, nil); err != nil {
		if errors.Is(err, certorder.ErrStale) { // another request was first
			return h.finalize(x, args)
		}
		return err
	}
	if o, err = h.judge(x, &next, csr); err != nil {
		return err
	}
	if o.Status == certorder.Ready { // the request cannot be granted, another may
		return o.Problem
	}
	return h.answerOrder(x, http.StatusOK, o)
}

// checkRequest holds a PKCS#10 request to its order (RFC 8555 §7.4): it names
// the order's identifier, or nothing if that is a device's, and is for the key
// that a device attested. The request that is returned asks for no names: what the certificate says of the device
// comes from its record and product.
func checkRequest(der []byte, o *certorder.Order) (*x509.CertificateRequest, error) {
	csr, err := enroll.ParseCSR(der)
	if err != nil {
		return nil, problem(400, badCSR, "%v", err)
	}
	id := o.Identifier
	if key, err := keyutil.Fingerprint(csr.PublicKey); id.Type != certorder.DNS && (err != nil || key != o.Authorization.Key) {
		return nil, problem(400, badCSR, "the request's key is not the one that was attested")
	}
	for _, a := range csr.Subject.Names {
		if v, ok := a.Value.(string); !ok || v != id.Value {
			return nil, problem(400, badCSR, "the request's subject has %s=%v, and the order is for %q: leave the subject empty or name that", a.Type, a.Value, id.Value)
		}
	}
	if err := checkNames(csr, id); err != nil {
		return nil, err
	}
	bare := *csr
	bare.Subject, bare.RawSubject = pkix.Name{}, nil
	bare.Extensions = slices.DeleteFunc(slices.Clone(csr.Extensions), func(e pkix.Extension) bool { return e.Id.Equal(oidSubjectAltName) })
	return &bare, nil
}

var oidSubjectAltName = asn1.ObjectIdentifier{2, 5, 29, 17}

// checkNames takes no subjectAltName but the order's identifier.
func checkNames(csr *x509.CertificateRequest, id certorder.Identifier) error {
	all := 0
	for _, e := range csr.Extensions {
		var names []asn1.RawValue
		if !e.Id.Equal(oidSubjectAltName) {
			continue
		}
		if rest, err := asn1.Unmarshal(e.Value, &names); err != nil || len(rest) > 0 {
			return problem(400, badCSR, "the request's subjectAltName cannot be read")
		}
		all += len(names)
	}
	cert := &x509.Certificate{Extensions: csr.Extensions}
	known := slices.Clone(csr.DNSNames)
	if id.Type == certorder.DNS && len(known) == 0 && csr.Subject.CommonName != id.Value {
		return problem(400, badCSR, "the request does not ask for the order's name %q: put it into the subjectAltName", id.Value)
	}
	switch id.Type {
	case certorder.PermanentIdentifier:
		known = append(known, vendorid.PermanentIdentifiers(cert)...)
	case certorder.HardwareModule:
		known = append(known, vendorid.HardwareSerials(cert)...)
	}
	other := func(n string) bool {
		return n != id.Value
	}
	if all > len(known) || slices.ContainsFunc(known, other) {
		return problem(400, badCSR, "the request asks for a subjectAltName other than the order's identifier %q: leave it out", id.Value)
	}
	return nil
}

// judge has the pipeline decide on an order that is processing, by its request
// as checkRequest returns it, and keeps what it came to. The pipeline answers the same request with the same certificate:
// whoever does this a second time, because two clients asked or a server was
// killed in the middle, comes to the same.
func (h *Handler) judge(x *exchange, have *certorder.Order, csr *x509.CertificateRequest) (*certorder.Order, error) {
	ctx, o := x.r.Context(), *have
	claim, err := h.claim(x, &o, csr)
	if order := x.account.Scope.Order; err == nil && claim.Auth.Proof == vetting.ProofDomain && order != "" {
		err = h.Servers.EnlistServer(ctx, x.account.ID, order, o.Identifier.Value)
	}
	if err != nil {
		return nil, err
	}
	out, err := h.Enroller.Enroll(ctx, enroll.Request{Claim: claim, CSR: csr})
	bad := new(enroll.RequestError)
	switch {
	case errors.As(err, &bad):
		o.Status, o.Problem = certorder.Ready, &certorder.Problem{Type: badCSR, Detail: bad.Error()}
	case err != nil:
		return nil, err
	case out.Verdict == vetting.Admitted:
		err = h.issued(&o, out.Certificate)
	case out.Verdict == vetting.Held:
		o.Again, o.Problem = h.Now().Add(max(out.RetryAfter, pollAfter)), &certorder.Problem{Type: userActionRequired, Detail: out.Text(), Status: http.StatusForbidden}
	case out.RetryAfter > 0: // a renewal that comes too early
		o.Status, o.Problem = certorder.Ready, &certorder.Problem{Type: rateLimited, Detail: out.Text(), Status: http.StatusTooManyRequests}
	default:
		o.Status, o.Problem = certorder.Invalid, refusal(out)
	}
	if err != nil {
		return nil, err
	}
	if o.Problem != nil {
		h.Refused(o.Problem.Type)
	}
	err = h.change(x, nil, &o, out.Certificate)
	if errors.Is(err, certorder.ErrStale) { // somebody else judged it, too
		return h.order(x, o.ID)
	}
	return &o, err
}

// issued notes the certificate of an order.
func (h *Handler) issued(o *certorder.Order, der []byte) error {
	cert, err := x509.ParseCertificate(der)
	if err != nil {
		return err
	}
	o.Status, o.Problem, o.Certificate = certorder.Valid, nil, enroll.SerialHex(cert)
	return nil
}

// claim is what the wire proved: that the account's client may speak for the
// identifier. If the account holds the device's certificate already, it asks
// to renew that.
func (h *Handler) claim(x *exchange, o *certorder.Order, csr *x509.CertificateRequest) (vetting.Claim, error) {
	id, err := o.Identifier.Identity()
	if err != nil {
		return vetting.Claim{}, err
	}
	scope := x.account.Scope
	key := vetting.KeyFingerprint(csr.RawSubjectPublicKeyInfo)
	c := vetting.Claim{
		At: h.Now(), Key: key, Asserted: id, Vendors: o.Authorization.Matches, Label: scope.Product, Transport: transport, Remote: remote(x.r),
		Auth: vetting.Auth{Proof: vetting.ProofAttestation, Key: key, Account: x.account.ID, Order: scope.Order, Site: scope.Site},
	}
	if o.Identifier.Type == certorder.DNS { // proved anew for each certificate
		c.Auth.Proof, c.Auth.Key = vetting.ProofDomain, vetting.Fingerprint{}
		return c, nil
	}
	serial, err := h.renews(x, o)
	if err != nil {
		return c, err
	}
	if serial != "" {
		c.Auth.Proof, c.Auth.Certificate, c.Label, c.Asserted, c.Vendors = vetting.ProofOfficial, serial, "", vetting.Identity{}, nil
	}
	return c, nil
}

// renews finds the certificate that an order renews: the one that the account
// was given last for the identifier, if the order says that it replaces it, or
// the device has used it, or its time to renew has come. Otherwise the order
// is for the first certificate once more.
func (h *Handler) renews(x *exchange, o *certorder.Order) (serial string, err error) {
	ctx := x.r.Context()
	serial, err = h.Keeper.LastCertificate(ctx, o.Account, o.Identifier)
	if vetting.ProblemOf(err) == vetting.NotFound {
		return "", nil
	}
	if err != nil {
		return "", err
	}
	s, err := h.Lives.Standing(ctx, serial)
	switch {
	case err != nil:
		return "", err
	case s.Device.Readmitted():
		return "", nil
	case o.Replaces == serial, s.Device.State != vetting.DeviceIssued, !h.Now().Before(s.Renew().Start):
		return serial, nil
	}
	return "", nil
}

func remote(r *http.Request) string {
	host, _, err := net.SplitHostPort(r.RemoteAddr)
	if err != nil {
		return r.RemoteAddr
	}
	return host
}
