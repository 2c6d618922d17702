package est

import (
	"encoding/base64"
	"net/http"
	"strings"

	"github.com/touchmark/touchmark/enroll"
	"github.com/touchmark/touchmark/enroll/httperr"
	"github.com/touchmark/touchmark/vetting"
)

// credentials are what HTTP Basic carries (RFC 7030 §3.2.3): the device's
// serial number, or nothing, as user name, and an enrolment code as password.
type credentials struct {
	serial string
	code   vetting.CodeHash
}

// challenge is what a client without credentials that count is told.
const challenge = `Basic realm="enrolment code", charset="UTF-8"`

// credentialsOf reads the credentials of a request; nil if it has none.
func credentialsOf(r *http.Request) (*credentials, error) {
	list := r.Header.Values("Authorization")
	if len(list) == 0 || r.TLS == nil { // a code counts only where nobody overheard it
		return nil, nil
	}
	scheme, text, _ := strings.Cut(list[0], " ")
	if !strings.EqualFold(scheme, "Basic") || len(list) > 1 {
		return nil, httperr.New(http.StatusUnauthorized, "the Authorization header is not one of HTTP Basic: give the device's serial number as user name and its enrolment code as password (RFC 7617)")
	}
	return parseCredentials(strings.TrimSpace(text))
}

// parseCredentials reads the base64 of USER:CODE. A code has no colon and a
// serial number may have some, so it is the last one that counts.
func parseCredentials(text string) (*credentials, error) {
	plain, err := base64.StdEncoding.DecodeString(text)
	i := strings.LastIndexByte(string(plain), ':')
	if err != nil || i < 0 {
		return nil, httperr.New(http.StatusUnauthorized, "the Authorization header holds no base64 of USER:CODE (RFC 7617 §2)")
	}
	code, err := vetting.ParseOneTimeCode(string(plain[i+1:]))
	if err != nil {
		return nil, httperr.New(http.StatusUnauthorized, "%v", err)
	}
	id, err := vetting.Identity{Serial: string(plain[:i])}.Normalize()
	if err != nil {
		// It is not repeated: people mix the two fields up.
		return nil, enroll.BadRequest("the user name is the device's serial number, or empty: up to %d printable ASCII characters without spaces and / \\ \" ' < > & `", vetting.MaxSerialLength)
	}
	return &credentials{serial: id.Serial, code: code.Hash()}, nil
}

// authenticate tells who makes a request that may come with a code, or with a
// code alone. A device that presents its bootstrap certificate as well has
// proved that key, too; a rig vouches for a device, and says which. Where the
// label's product takes no codes, none is asked for and none is looked at.
func (h *Handler) authenticate(x *exchange) error {
	err := h.identify(x)
	official := x.client != nil && x.client.Auth.Proof == vetting.ProofOfficial
	if err != nil || official || x.product != nil && !x.product.Accepts(vetting.ProofCode) {
		return err
	}
	if x.credentials, err = credentialsOf(x.r); err != nil {
		return x.challenged(err)
	}
	switch {
	case x.credentials == nil && x.client == nil:
		return x.challenged(httperr.New(http.StatusUnauthorized, "no client certificate was presented in the TLS handshake, and no enrolment code: use the bootstrap certificate, a rig's, or HTTP Basic with the device's serial number and its code"))
	case x.credentials == nil:
		return nil
	case x.client == nil:
		x.client = new(enroll.Client)
	}
	x.client.Auth.CodeHash = x.credentials.code
	if x.client.Auth.Proof != vetting.ProofRig {
		x.client.Auth.Proof = vetting.ProofCode
		return x.name(&x.client.Asserted)
	}
	return nil
}

// name adds the user name to the identity that a certificate states.
func (x *exchange) name(id *vetting.Identity) error {
	if x.credentials == nil || x.credentials.serial == "" {
		return nil
	}
	if id.Serial != "" && id.Serial != x.credentials.serial {
		return enroll.BadRequest("the user name says serial number %q, the certificate or request says %q: make them agree, or leave the user name empty", x.credentials.serial, id.Serial)
	}
	id.Serial = x.credentials.serial
	return nil
}

// challenged asks for credentials, if that is what is missing.
func (x *exchange) challenged(err error) error {
	if p, ok := err.(*httperr.Error); ok && p.Status == http.StatusUnauthorized {
		x.w.Header().Set("WWW-Authenticate", challenge)
	}
	return err
}
