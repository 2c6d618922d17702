package offline

import (
	"bytes"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"fmt"
	"time"
)

// Kind says what a file is.
type Kind uint8

const (
	Base  Kind = 1 // stands by itself
	Delta Kind = 2 // says what has changed since a base
)

func (k Kind) String() string {
	switch k {
	case Base:
		return "base"
	case Delta:
		return "delta"
	}
	return fmt.Sprintf("kind %d", uint8(k))
}

// MediaType is a file's type in HTTP.
const MediaType = "application/vnd.touchmark.offline-status"

const (
	magic      = "touchmark status" // no DER begins so: what is signed here cannot be taken for a certificate
	format     = 1
	headerSize = 152
	// maxSignature is more than any signature is long: of RSA with 16,384 bits.
	maxSignature = 2048
)

// Header is what a file says of itself. Times are whole seconds.
type Header struct {
	Kind   Kind
	Number uint64 // grows from file to file of an issuing CA, bases and deltas alike
	// ThisUpdate is when the standings were read. NextUpdate is when the file
	// must not be used any more.
	ThisUpdate, NextUpdate time.Time
	// Certificates whose notBefore is later than CoversUntil may have been
	// issued after the file was made.
	CoversUntil time.Time
	// Issued is how many certificates were looked at, NotGood how many of them
	// are revoked or on hold.
	Issued, NotGood uint64
	Issuer          [sha256.Size]byte // SHA-256 of the issuing CA's subjectPublicKeyInfo
	Base            [sha256.Size]byte // in a delta: SHA-256 of the base, the whole file

	salt     [saltSize]byte
	inverted bool   // the filter's keys are the good certificates (in a delta: those that did not change)
	signed   uint32 // how many bytes of the file are signed
}

// Errors of files.
var (
	// ErrFile wraps all that is wrong with a file itself.
	ErrFile = errors.New("not an offline status file that can be used")
	// ErrForeign is a file of another issuing CA, or a delta of another base.
	ErrForeign = errors.New("the file belongs to another")
	// ErrOlder is a delta that is older than what it was given to.
	ErrOlder = errors.New("the file is older")
)

func fileErrorf(format string, args ...any) error {
	return fmt.Errorf("%w: %s", ErrFile, fmt.Sprintf(format, args...))
}

// ReadHeader reads what a file says of itself. It does not verify the
// signature: only [Open] and [Filter.With] do.
func ReadHeader(file []byte) (*Header, error) {
	switch {
	case !bytes.HasPrefix(file, []byte(magic)):
		return nil, fileErrorf("it does not begin with %q", magic)
	case len(file) < headerSize:
		return nil, fileErrorf("it ends within its header, after %d bytes", len(file))
	}
	le := binary.LittleEndian
	if v := le.Uint16(file[16:]); v != format {
		return nil, fileErrorf("its format is %d, and this reader knows format %d: get a newer reader", v, format)
	}
	h := &Header{Kind: Kind(file[18]), inverted: file[19] == 1, signed: le.Uint32(file[20:]), Number: le.Uint64(file[24:]),
		ThisUpdate: unix(file[32:]), NextUpdate: unix(file[40:]), CoversUntil: unix(file[48:]),
		Issued: le.Uint64(file[56:]), NotGood: le.Uint64(file[64:])}
	copy(h.Issuer[:], file[72:])
	copy(h.Base[:], file[104:])
	copy(h.salt[:], file[136:])
	switch {
	case h.Kind != Base && h.Kind != Delta || file[19] > 1:
		return nil, fileErrorf("its kind is %d/%d", file[18], file[19])
	case uint64(h.signed) >= uint64(len(file)) || h.signed < headerSize:
		return nil, fileErrorf("it has %d bytes, and its signature begins after %d: it was cut off", len(file), h.signed)
	case len(file)-int(h.signed) > maxSignature:
		return nil, fileErrorf("%d bytes follow what is signed", len(file)-int(h.signed))
	}
	return h, nil
}

func unix(b []byte) time.Time { return time.Unix(int64(binary.LittleEndian.Uint64(b)), 0).UTC() }

func (h *Header) append(b []byte) []byte {
	le := binary.LittleEndian
	b = append(b, magic...)
	b = le.AppendUint16(b, format)
	b = append(b, byte(h.Kind), flag(h.inverted))
	b = le.AppendUint32(b, h.signed)
	b = le.AppendUint64(b, h.Number)
	for _, t := range []time.Time{h.ThisUpdate, h.NextUpdate, h.CoversUntil} {
		b = le.AppendUint64(b, uint64(t.Unix()))
	}
	b = le.AppendUint64(b, h.Issued)
	b = le.AppendUint64(b, h.NotGood)
	b = append(b, h.Issuer[:]...)
	b = append(b, h.Base[:]...)
	return append(b, h.salt[:]...)
}

func flag(on bool) byte {
	if on {
		return 1
	}
	return 0
}

// IssuerKey is what stands for an issuing CA in a header.
func IssuerKey(issuer *x509.Certificate) [sha256.Size]byte {
	return sha256.Sum256(issuer.RawSubjectPublicKeyInfo)
}

func short(sum [sha256.Size]byte) string { return hex.EncodeToString(sum[:8]) }
