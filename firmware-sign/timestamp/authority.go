// Package timestamp is a time-stamp authority (RFC 3161): it signs that a
// digest was there at a time. It reads and makes the messages, puts tokens into
// CMS signatures, and verifies both.
package timestamp

import (
	"context"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/asn1"
	"encoding/hex"
	"fmt"
	"math/big"
	"time"

	"golang.org/x/crypto/cryptobyte"
	tag "golang.org/x/crypto/cryptobyte/asn1"

	"github.com/touchmark/touchmark/firmware-sign/internal/cmsdraft"
	"github.com/touchmark/touchmark/internal/cms"
)

// Log writes down what is stamped before anybody gets it.
type Log interface {
	// NoteTimeStamp appends an entry and returns its time, which is never before
	// that of an earlier one, over all servers and restarts. If that time is
	// after latest, the entry was not written. What was written is durable. A
	// failure is the log's, and who asked may ask again.
	NoteTimeStamp(ctx context.Context, note string, latest time.Time) (at time.Time, err error)
}

// Authority stamps. Its fields do not change once it is used.
type Authority struct {
	// Signatory gives the key and its certificate, which has the one extended
	// key usage timeStamping, critical (RFC 3161 §2.3). The key is RSA or ECDSA.
	Signatory func(context.Context) (cms.Signatory, error)
	Log       Log
	// Policy is what tokens are issued under.
	Policy asn1.ObjectIdentifier
	// Accuracy is how far the clock may be off. A time that the log has already
	// is given as long as it is no further ahead of the clock than that.
	Accuracy time.Duration
	Now      func() time.Time
}

// Stamp makes a token (a CMS ContentInfo in DER). What cannot be granted is a
// [*Refusal]; other errors are faults of the authority.
func (a *Authority) Stamp(ctx context.Context, r *Request) ([]byte, error) {
	if r.Policy != nil && !r.Policy.Equal(a.Policy) {
		return nil, refuse(UnacceptedPolicy, "the policy %s is not this authority's, which is %s", r.Policy, a.Policy)
	}
	// Without a key nothing is to be in the log.
	by, err := a.Signatory(ctx)
	if err != nil {
		return nil, err
	}
	serial := newSerial()
	at, err := a.time(ctx, r, serial)
	if err != nil {
		return nil, err
	}
	if at.Before(by.Certificate.NotBefore) || at.After(by.Certificate.NotAfter) {
		return nil, refuse(TimeNotAvailable, "the authority's certificate is not for this time")
	}
	info, err := a.info(r, serial, at)
	if err != nil {
		return nil, err
	}
	return sign(info, by, at, r.Certificates)
}

// newSerial makes a serial number that no other token has: 127 random bits,
// on whichever server.
func newSerial() *big.Int {
	b := make([]byte, 16)
	rand.Read(b)
	b[0] = b[0]&0x7f | 0x40 // positive, and always as long
	return new(big.Int).SetBytes(b)
}

// time writes the token into the log and takes the entry's time, to the second.
func (a *Authority) time(ctx context.Context, r *Request, serial *big.Int) (time.Time, error) {
	latest := a.Now().Add(a.Accuracy)
	at, err := a.Log.NoteTimeStamp(ctx, fmt.Sprintf("%x of %v %s", serial, r.Hash, hex.EncodeToString(r.Digest)), latest)
	switch {
	case err != nil:
		return at, err
	case at.After(latest):
		return at, refuse(TimeNotAvailable, "the clock is %s behind the last time that was given: it jumped back, and has to be set right",
			at.Sub(latest.Add(-a.Accuracy)).Round(time.Second))
	}
	return at.UTC().Truncate(time.Second), nil
}

// info is the TSTInfo (RFC 3161 §2.4.2).
func (a *Authority) info(r *Request, serial *big.Int, at time.Time) ([]byte, error) {
	var b cryptobyte.Builder
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1Int64(1)
		b.AddASN1ObjectIdentifier(a.Policy)
		r.addImprint(b)
		b.AddASN1BigInt(serial)
		b.AddASN1GeneralizedTime(at)
		addAccuracy(b, a.Accuracy)
		b.AddBytes(r.Nonce)
	})
	return b.Bytes()
}

// addAccuracy adds an Accuracy: seconds, milliseconds, microseconds.
func addAccuracy(b *cryptobyte.Builder, d time.Duration) {
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		if s := int64(d / time.Second); s > 0 {
			b.AddASN1Int64(s)
		}
		for n, part := range []time.Duration{d / time.Millisecond % 1000, d / time.Microsecond % 1000} {
			if part > 0 {
				b.AddASN1Int64WithTag(int64(part), tag.Tag(n).ContextSpecific())
			}
		}
	})
}

var (
	oidTSTInfo              = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 1, 4}
	oidSigningCertificateV2 = asn1.ObjectIdentifier{1, 2, 840, 113549, 1, 9, 16, 2, 47}
)

// sign makes the token: a SignedData by which one signer, whose certificate it
// names by its SHA-256 (RFC 5816), signs the TSTInfo.
func sign(info []byte, by cms.Signatory, at time.Time, certificates bool) ([]byte, error) {
	named, err := signingCertificate(by.Certificate)
	if err != nil {
		return nil, err
	}
	draft, want, err := cmsdraft.New(cms.Detached{Certificate: by.Certificate, Chain: by.Chain, At: at, Type: oidTSTInfo, Signed: []cms.Attribute{named}}, cms.DigestOf(info))
	if err != nil {
		return nil, err
	}
	signature, err := want.Sign(by.Key)
	if err != nil {
		return nil, err
	}
	if !certificates {
		draft = draft.WithoutCertificates()
	}
	return draft.FinishAround(info, signature)
}

// signingCertificate is the attribute SigningCertificateV2 (RFC 5035 §3),
// whose hash is SHA-256 when it names none.
func signingCertificate(cert *x509.Certificate) (cms.Attribute, error) {
	sum := sha256.Sum256(cert.Raw)
	var b cryptobyte.Builder
	b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
		b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) {
			b.AddASN1(tag.SEQUENCE, func(b *cryptobyte.Builder) { b.AddASN1OctetString(sum[:]) })
		})
	})
	value, err := b.Bytes()
	return cms.Attribute{Type: oidSigningCertificateV2, Value: value}, err
}
