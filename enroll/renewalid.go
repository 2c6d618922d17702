package enroll

import (
	"encoding/base64"
	"encoding/hex"
	"fmt"
	"strings"
)

// maxRenewalID is longer than any name of a certificate: 20 bytes of key
// identifier and 20 of serial number, in base64url.
const maxRenewalID = 128

// ParseRenewalID reads the name that RFC 9773 §4.1 gives a certificate: its
// authority key identifier and the bytes of its serial number's DER, each as
// unpadded base64url, with a dot between. It returns the serial number as the
// store knows it.
func ParseRenewalID(id string) (aki []byte, serial string, err error) {
	if len(id) > maxRenewalID {
		return nil, "", fmt.Errorf("the certificate's name is %d characters long: at most %d are accepted", len(id), maxRenewalID)
	}
	if strings.ContainsAny(id, "\r\n") { // which the decoder would pass over
		return nil, "", badRenewalID(id)
	}
	issuer, number, ok := strings.Cut(id, ".")
	aki, err = base64.RawURLEncoding.Strict().DecodeString(issuer)
	if !ok || err != nil || len(aki) == 0 {
		return nil, "", badRenewalID(id)
	}
	n, err := base64.RawURLEncoding.Strict().DecodeString(number)
	if err != nil || len(n) == 0 || n[0] >= 0x80 {
		return nil, "", badRenewalID(id)
	}
	if len(n) > 1 && n[0] == 0 { // the sign of the DER INTEGER
		if n = n[1:]; n[0] < 0x80 {
			return nil, "", badRenewalID(id)
		}
	}
	return aki, hex.EncodeToString(n), nil
}

func badRenewalID(id string) error {
	return fmt.Errorf("%q does not name a certificate: want its authority key identifier and the DER of its serial number, each in base64url without padding, with a dot between (RFC 9773 §4.1)", id)
}
