package store

import (
	"bytes"
	"encoding/binary"
	"encoding/hex"
	"errors"
	"slices"
	"strings"
	"time"

	"github.com/touchmark/touchmark/internal/audit"
)

// A leaf is hashed as JSON, but most of that are digests and keys in base64
// and hexadecimal, and names that repeat. In the table it stands packed, in
// less than half of the room. Where unpacking would not give the very same
// bytes, the JSON itself is stored, which begins with a brace, as in databases
// from before.

// packed is the first byte of a packed leaf: the version of this form.
const packed = 1

// kindNumbers are the numbers of kinds, which stay as they are for ever; 0 stands
// for one that is written out.
var kindNumbers = []audit.Kind{"", audit.KindProduct, audit.KindSite, audit.KindOrder, audit.KindManifest, audit.KindRecords, audit.KindDevice,
	audit.KindCertificate, audit.KindRegistration, audit.KindEvidence, audit.KindDispute, audit.KindOperator, audit.KindAuthority, audit.KindCode, audit.KindTestResult, audit.KindJob, audit.KindRules, audit.KindRaise,
	audit.KindChallenge, audit.KindOwner, audit.KindTransfer, audit.KindIssuingCA, audit.KindCRL, audit.KindOfflineFile, audit.KindAccountKey, audit.KindAccount, audit.KindProposal,
	audit.KindLicenceKey, audit.KindLicences, audit.KindLicenceGrant, audit.KindProgrammed}

// packLeaf gives what is stored of a leaf whose JSON is body.
func packLeaf(l audit.Leaf, body []byte) []byte {
	b := binary.AppendVarint([]byte{packed}, l.Time.UnixMicro())
	for _, text := range [...]string{l.Act, l.By, l.Note} {
		b = packText(b, text)
	}
	b = binary.AppendUvarint(b, uint64(len(l.Objects)))
	for _, o := range l.Objects {
		n := max(0, slices.Index(kindNumbers, o.Kind))
		if b = append(b, byte(n)); n == 0 {
			b = packText(b, string(o.Kind))
		}
		b = append(binary.AppendVarint(b, o.ID), o.Digest[:]...)
	}
	if again, err := unpackLeaf(b); err != nil || !bytes.Equal(again, body) {
		return body
	}
	return b
}

// packText writes the text, and apart from it what it ends with in
// hexadecimal: a key's fingerprint, a certificate's serial number.
func packText(b []byte, text string) []byte {
	from := len(text)
	for from > 0 && strings.IndexByte("0123456789abcdef", text[from-1]) >= 0 {
		from--
	}
	from += (len(text) - from) & 1
	if len(text)-from < 16 {
		from = len(text)
	}
	tail, _ := hex.DecodeString(text[from:]) // it was looked at
	b = append(binary.AppendUvarint(b, uint64(from)), text[:from]...)
	return append(binary.AppendUvarint(b, uint64(len(tail))), tail...)
}

// unpackLeaf gives a leaf's JSON from what is stored.
func unpackLeaf(stored []byte) ([]byte, error) {
	if len(stored) == 0 || stored[0] != packed {
		return stored, nil
	}
	u := &unpacking{rest: stored[1:]}
	l := audit.Leaf{Time: time.UnixMicro(u.number()).UTC(), Act: u.text(), By: u.text(), Note: u.text()}
	n := int(u.length())
	for range n {
		var o audit.Object
		if k := int(u.take(1)[0]); k > 0 && k < len(kindNumbers) {
			o.Kind = kindNumbers[k]
		} else {
			o.Kind = audit.Kind(u.text())
		}
		o.ID = u.number()
		copy(o.Digest[:], u.take(len(o.Digest)))
		l.Objects = append(l.Objects, o)
	}
	if u.bad || len(u.rest) > 0 {
		return nil, errors.New("a packed leaf is not in the form that this version writes")
	}
	return l.Encode(), nil
}

// unpacking reads on until something is missing, and then gives zeros.
type unpacking struct {
	rest []byte
	bad  bool
}

func (u *unpacking) take(n int) []byte {
	if n < 0 || n > len(u.rest) {
		u.bad, u.rest = true, nil
		return make([]byte, min(max(n, 1), 64))
	}
	b := u.rest[:n]
	u.rest = u.rest[n:]
	return b
}

func (u *unpacking) number() int64 {
	v, n := binary.Varint(u.rest)
	if n <= 0 {
		u.bad, u.rest = true, nil
		return 0
	}
	u.rest = u.rest[n:]
	return v
}

// length is a number of things that must still be there.
func (u *unpacking) length() uint64 {
	v, n := binary.Uvarint(u.rest)
	if n <= 0 || v > uint64(len(u.rest)) {
		u.bad, u.rest = true, nil
		return 0
	}
	u.rest = u.rest[n:]
	return v
}

func (u *unpacking) text() string {
	head := string(u.take(int(u.length())))
	return head + hex.EncodeToString(u.take(int(u.length())))
}
