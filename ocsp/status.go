// Package ocsp tells whether a device certificate still counts: to anybody
// who asks, over OCSP (RFC 6960, 9654, 9919), from memory.
//
// What became of certificates is a sequence of changes. A [Source] holds it, a
// [Follower] reads it and feeds everyone who must know: the responder's [Set],
// the makers of revocation lists. Nobody here asks a database while a client
// waits.
package ocsp

import (
	"context"
	"fmt"
	"math/big"
	"time"
)

// SerialLength is the length of a serial number that this PKI issues, in
// bytes.
const SerialLength = 17

// Serial is a certificate's serial number, big-endian. All those that were
// issued have exactly this length, with a first byte from 1 to 127.
type Serial [SerialLength]byte

// SerialOf gives a certificate's serial number; ok is false for one that no CA
// of this PKI can have issued, because it has another length.
func SerialOf(n *big.Int) (s Serial, ok bool) {
	if n == nil || n.Sign() <= 0 || n.BitLen() <= 8*(SerialLength-1) || n.BitLen() >= 8*SerialLength {
		return s, false
	}
	n.FillBytes(s[:])
	return s, true
}

// Int gives the serial number as crypto/x509 has it.
func (s Serial) Int() *big.Int { return new(big.Int).SetBytes(s[:]) }

// String gives the serial number in hexadecimal.
func (s Serial) String() string { return fmt.Sprintf("%x", s[:]) }

// Reason is why a certificate was revoked: a CRLReason of RFC 5280 §5.3.1.
type Reason uint8

// The reasons of RFC 5280. There is no 7.
const (
	Unspecified          Reason = 0
	KeyCompromise        Reason = 1
	CACompromise         Reason = 2
	AffiliationChanged   Reason = 3
	Superseded           Reason = 4
	CessationOfOperation Reason = 5
	CertificateHold      Reason = 6 // reversible
	RemoveFromCRL        Reason = 8 // no longer on hold: it is good again
	PrivilegeWithdrawn   Reason = 9
	AACompromise         Reason = 10
)

// Change is what became of one certificate. Of several changes of a
// certificate the last one counts.
type Change struct {
	// Seq grows from change to change, in the order of their commits. It has
	// gaps.
	Seq    int64
	Serial Serial
	// Issuer is the CA that issued the certificate, by its number in the
	// database; 0 is the device CA that was made first.
	Issuer int64
	Reason Reason
	// Revoked is when the change happened; NotAfter is when the certificate
	// ends, whatever became of it.
	Revoked, NotAfter time.Time
}

// Retention is how long after a certificate's end it is still told that it was
// revoked. After that nobody accepts it, whatever is said of it: RFC 6960 §2.2
// speaks of certificates within their validity only, and RFC 5280 §3.3 has
// lists tell of a certificate once after its end.
const Retention = 90 * 24 * time.Hour

// Source holds the changes of all certificates.
type Source interface {
	// Changes hands over all committed changes whose Seq is greater than
	// after, in the order of Seq, in portions of at least one that each must
	// not keep. Those of certificates that ended longer than Retention ago are
	// left out, but for the newest change of all. It returns the Seq of the last one that it handed over, or
	// after if there was none. An error of each ends it and is returned. It
	// streams: what is handed over is not all in memory at a time.
	Changes(ctx context.Context, after int64, each func([]Change) error) (last int64, err error)
}

// Sink is told of every change, in order, once in the life of the process. It
// must be quick, and must not keep the slice. It is called by one goroutine at
// a time.
type Sink interface{ Apply([]Change) }

// Forgetter is a Sink that is told, now and then, to drop the certificates
// that had ended before a time.
type Forgetter interface{ Forget(before time.Time) }
