package manifest

import (
	"crypto/x509"
	"encoding/hex"
	"strings"

	"github.com/touchmark/touchmark/vetting"
)

var espressifColumns = []vendorColumn{{"MAC", true, nil}, {"cn", true, nil}, {"cert", true, nil}}

// espressif takes a line of the CSV of pre-provisioned ESP32 modules. The
// common name is the serial number.
func espressif(v map[string]string, w *row) error {
	cert, err := parsePEM(v["cert"])
	if err != nil {
		return bad("cert: %v", err)
	}
	if got := cert.Subject.CommonName; got != v["cn"] {
		return bad("cn is %q, but the certificate's common name is %q", v["cn"], got)
	}
	return w.setAll([2]string{"serial", v["cn"]}, [2]string{"mac", v["MAC"]}, [2]string{"bootstrapKey", keyOf(cert)})
}

var tpmColumns = []vendorColumn{
	{"serial", true, []string{"device serial number", "serial number", "registrationid", "deviceid"}},
	{"ekCertificate", false, []string{"ekcert", "ek certificate", "endorsement key certificate"}},
	{"ekPublicKey", false, []string{"ekpub", "ek public key", "endorsement key"}},
	{"ekHash", false, []string{"ek hash", "ek public hash", "ekpubhash", "ekpublichash", "endorsement key hash"}},
	{"mac", false, []string{"mac address"}},
	{"uid", false, nil},
}

// tpm takes a line of a list of endorsement keys. The hash is the SHA-256 of
// the key's SubjectPublicKeyInfo; where several are given, they must agree.
func tpm(v map[string]string, w *row) error {
	hash := ""
	for _, f := range [...]struct {
		column string
		read   func(string) (vetting.Fingerprint, error)
	}{{"ekCertificate", certificateKey}, {"ekPublicKey", publicKeyText}, {"ekHash", vetting.ParseFingerprint}} {
		if v[f.column] == "" {
			continue
		}
		key, err := f.read(v[f.column])
		switch {
		case err != nil:
			return bad("%s: %v", f.column, err)
		case hash != "" && hash != key.String():
			return bad("%s is of another key than the columns before it (%s, not %s)", f.column, key, hash)
		}
		hash = key.String()
	}
	if hash == "" {
		return bad("the line has no endorsement key: give ekCertificate, ekPublicKey or ekHash")
	}
	return w.setAll([2]string{"serial", v["serial"]}, [2]string{"mac", v["mac"]}, [2]string{"uid", v["uid"]}, [2]string{"ekHash", hash})
}

// publicKeyText reads a SubjectPublicKeyInfo, PEM or base64 of DER.
func publicKeyText(text string) (vetting.Fingerprint, error) {
	if strings.Contains(text, "-----BEGIN") {
		return publicKey(text)
	}
	spki, err := certificateDER(text)
	if err != nil {
		return vetting.Fingerprint{}, err
	}
	if _, err := x509.ParsePKIXPublicKey(spki); err != nil {
		return vetting.Fingerprint{}, err
	}
	return vetting.KeyFingerprint(spki), nil
}

// parsePEM reads one certificate, PEM or base64 of DER.
func parsePEM(text string) (*x509.Certificate, error) {
	der, err := certificateDER(text)
	if err != nil {
		return nil, err
	}
	return x509.ParseCertificate(der)
}

// keyOf is the fingerprint of a certificate's key.
func keyOf(cert *x509.Certificate) string {
	f := vetting.KeyFingerprint(cert.RawSubjectPublicKeyInfo)
	return hex.EncodeToString(f[:])
}
