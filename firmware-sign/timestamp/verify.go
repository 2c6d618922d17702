package timestamp

import (
	"bytes"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/asn1"
	"errors"
	"fmt"
	"math/big"
	"slices"
	"strings"
	"time"

	"github.com/touchmark/touchmark/internal/cms"
)

// MaxToken is the longest token that is read, in bytes.
const MaxToken = 32 << 10

// Token is what a verified token says.
type Token struct {
	Hash     crypto.Hash
	Digest   []byte
	Time     time.Time
	Accuracy time.Duration
	Serial   *big.Int
	Policy   asn1.ObjectIdentifier
	Nonce    *big.Int // nil if there is none
	By       *x509.Certificate
}

type tstInfo struct {
	Version int
	Policy  asn1.ObjectIdentifier
	Imprint struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}
	Serial   *big.Int
	Time     time.Time `asn1:"generalized"`
	Accuracy struct {
		Seconds int `asn1:"optional"`
		Millis  int `asn1:"optional,tag:0"`
		Micros  int `asn1:"optional,tag:1"`
	} `asn1:"optional"`
	Ordering   bool          `asn1:"optional"`
	Nonce      *big.Int      `asn1:"optional"`
	TSA        asn1.RawValue `asn1:"optional,explicit,tag:0"`
	Extensions asn1.RawValue `asn1:"optional,tag:1"`
}

// Verify checks a token that has its signer's certificate inside: the
// signature, that the certificate is for time stamps alone and led to one of the
// roots when it was used, and that the signature names it. Whether the token is
// over the right bytes tells [Token.Covers].
func Verify(token []byte, roots *x509.CertPool) (*Token, error) {
	content, by, err := cms.OpenContent(token, MaxToken, oidTSTInfo)
	if err != nil {
		return nil, fmt.Errorf("the time stamp is no good: %w", err)
	}
	t, err := readInfo(content)
	if err != nil {
		return nil, fmt.Errorf("the time stamp is no good: %w", err)
	}
	t.By = by.Certificate
	if err := errors.Join(checkPurpose(by.Certificate), checkChain(by, roots, t.Time), checkNamed(by)); err != nil {
		return nil, fmt.Errorf("the time stamp's certificate of %q is no good: %w", by.Certificate.Subject, err)
	}
	return t, nil
}

func readInfo(content []byte) (*Token, error) {
	var info tstInfo
	rest, err := asn1.Unmarshal(content, &info)
	switch {
	case err != nil:
		return nil, fmt.Errorf("its TSTInfo is malformed: %w", err)
	case len(rest) > 0:
		return nil, errors.New("something follows its TSTInfo")
	case info.Version != 1:
		return nil, fmt.Errorf("its TSTInfo is of version %d", info.Version)
	}
	t := &Token{Digest: info.Imprint.Digest, Time: info.Time, Serial: info.Serial, Policy: info.Policy, Nonce: info.Nonce,
		Accuracy: time.Duration(info.Accuracy.Seconds)*time.Second + time.Duration(info.Accuracy.Millis)*time.Millisecond + time.Duration(info.Accuracy.Micros)*time.Microsecond}
	switch oid := info.Imprint.Algorithm.Algorithm.String(); oid {
	case "2.16.840.1.101.3.4.2.1":
		t.Hash = crypto.SHA256
	case "2.16.840.1.101.3.4.2.2":
		t.Hash = crypto.SHA384
	case "2.16.840.1.101.3.4.2.3":
		t.Hash = crypto.SHA512
	default:
		return nil, fmt.Errorf("it is over a digest by %s: accepted are SHA-256, SHA-384 and SHA-512", oid)
	}
	if len(t.Digest) != t.Hash.Size() {
		return nil, fmt.Errorf("its digest has %d bytes", len(t.Digest))
	}
	return t, nil
}

// checkPurpose: timeStamping, critical, and nothing else (RFC 3161 §2.3).
func checkPurpose(cert *x509.Certificate) error {
	critical := slices.ContainsFunc(cert.Extensions, func(e pkix.Extension) bool { return e.Critical && e.Id.Equal(oidExtKeyUsage) })
	if !critical || len(cert.UnknownExtKeyUsage) > 0 || !slices.Equal(cert.ExtKeyUsage, []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}) {
		return errors.New("it is not for time stamps alone (critical extended key usage timeStamping)")
	}
	return nil
}

var oidExtKeyUsage = asn1.ObjectIdentifier{2, 5, 29, 37}

func checkChain(by cms.Signer, roots *x509.CertPool, at time.Time) error {
	between := x509.NewCertPool()
	for _, c := range by.Others {
		between.AddCert(c)
	}
	_, err := by.Certificate.Verify(x509.VerifyOptions{Roots: roots, Intermediates: between, CurrentTime: at, KeyUsages: []x509.ExtKeyUsage{x509.ExtKeyUsageTimeStamping}})
	return err
}

// checkNamed finds the certificate's SHA-256 in the attribute
// SigningCertificateV2 (RFC 5816), which keeps another certificate of the same
// key from taking its place.
func checkNamed(by cms.Signer) error {
	sum := sha256.Sum256(by.Certificate.Raw)
	for _, a := range by.Signed {
		if !a.Type.Equal(oidSigningCertificateV2) {
			continue
		}
		var named struct{ Certificates []asn1.RawValue }
		if rest, err := asn1.Unmarshal(a.Value, &named); err != nil || len(rest) > 0 || len(named.Certificates) == 0 {
			return errors.New("the attribute SigningCertificateV2 is malformed")
		}
		// The first one names the signer; its hash is SHA-256 unless it says more.
		var id []asn1.RawValue
		if _, err := asn1.Unmarshal(named.Certificates[0].FullBytes, &id); err != nil || len(id) == 0 || !bytes.Equal(id[0].Bytes, sum[:]) {
			return errors.New("the signature names another certificate")
		}
		return nil
	}
	return errors.New("the signature does not name it (SigningCertificateV2)")
}

// Covers reports a token that is not over these bytes.
func (t *Token) Covers(content []byte) error {
	h := t.Hash.New()
	h.Write(content)
	if !bytes.Equal(h.Sum(nil), t.Digest) {
		return errors.New("the time stamp is over other bytes")
	}
	return nil
}

// ReadResponse takes the token out of a TimeStampResp. If the authority did
// not grant it, the error is a [*Refusal].
func ReadResponse(der []byte) (token []byte, err error) {
	var response struct {
		Status struct {
			Status int
			Text   []string       `asn1:"optional,utf8"`
			Fail   asn1.BitString `asn1:"optional"`
		}
		Token asn1.RawValue `asn1:"optional"`
	}
	rest, err := asn1.Unmarshal(der, &response)
	switch {
	case err != nil || len(rest) > 0:
		return nil, errors.New("the answer is no TimeStampResp (RFC 3161, section 2.4.2)")
	case response.Status.Status > 1: // granted, or granted with modifications
		refusal := &Refusal{Failure: SystemFailure, Reason: strings.Join(response.Status.Text, "; ")}
		for n := range response.Status.Fail.BitLength {
			if response.Status.Fail.At(n) == 1 {
				refusal.Failure = Failure(n)
			}
		}
		return nil, refusal
	case len(response.Token.FullBytes) == 0:
		return nil, errors.New("the answer has no token")
	}
	return response.Token.FullBytes, nil
}
