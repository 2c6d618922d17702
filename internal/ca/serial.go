package ca

import (
	"crypto/hmac"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"math/big"
)

// SerialLength is the length of a serial number in bytes: within the 20
// octets of RFC 5280 §4.1.2.2.
const SerialLength = 17

const serialRandom = 9

// Serials makes and recognizes serial numbers that authenticate themselves:
// 9 random bytes, the top bit clear, and the first 8 bytes of
// HMAC-SHA-256(key, random bytes). Who knows the key can tell without any
// database that a serial number was never issued.
type Serials struct{ key []byte }

// NewSerials uses a secret of at least 16 bytes.
func NewSerials(key []byte) Serials { return Serials{key} }

// New makes a serial number.
func (s Serials) New() *big.Int {
	b := make([]byte, serialRandom, SerialLength)
	rand.Read(b) // never fails (crypto/rand)
	b[0] &= 0x7f
	// The first byte must not be zero: DER would drop it, and every encoding
	// of the number had to be filled up again to 17 bytes.
	if b[0] == 0 {
		b[0] = 1
	}
	return new(big.Int).SetBytes(append(b, s.mac(b)...))
}

// Genuine reports whether the number was made with this key.
func (s Serials) Genuine(serial *big.Int) bool {
	if serial.Sign() <= 0 || serial.BitLen() > 8*SerialLength {
		return false
	}
	return s.Made([SerialLength]byte(serial.FillBytes(make([]byte, SerialLength))))
}

// Made is Genuine of a serial number as it stands in certificates, big-endian.
func (s Serials) Made(serial [SerialLength]byte) bool {
	return hmac.Equal(serial[serialRandom:], s.mac(serial[:serialRandom]))
}

func (s Serials) mac(random []byte) []byte {
	m := hmac.New(sha256.New, s.key)
	m.Write(random)
	return m.Sum(nil)[:SerialLength-serialRandom]
}

// Of gives the serial numbers of an issuing CA beside the device CA, by a key
// of its own: so a serial number tells also which CA can have issued it.
func (s Serials) Of(ca *x509.Certificate) Serials {
	return NewSerials(s.Derive("serial numbers of " + hex.EncodeToString(ca.SubjectKeyId)))
}

// Derive gives a key for another purpose: 32 bytes that tell nothing of the
// serial key or of those for other purposes. What it authenticates is longer
// than any serial number's random part.
func (s Serials) Derive(purpose string) []byte {
	m := hmac.New(sha256.New, s.key)
	m.Write([]byte("touchmark key for " + purpose))
	return m.Sum(nil)
}
