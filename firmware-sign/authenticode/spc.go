package authenticode

import (
	"crypto"
	"crypto/x509/pkix"
	"encoding/asn1"
	"encoding/binary"
	"fmt"
	"unicode/utf16"
)

// WIN_CERTIFICATE: revision 2.0, PKCS #7 SignedData.
const (
	certificateHeader   = 8
	certificateRevision = 0x0200
	certificatePKCS7    = 0x0002
)

var (
	oidIndirectData = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 4}
	oidPEImageData  = asn1.ObjectIdentifier{1, 3, 6, 1, 4, 1, 311, 2, 1, 15}
	oidHashes       = map[crypto.Hash]asn1.ObjectIdentifier{
		crypto.SHA256: {2, 16, 840, 1, 101, 3, 4, 2, 1},
		crypto.SHA384: {2, 16, 840, 1, 101, 3, 4, 2, 2},
	}
)

// spcIndirectData is SpcIndirectDataContent, and what it is made of.
type spcIndirectData struct {
	Data struct {
		Type  asn1.ObjectIdentifier
		Value peImageData
	}
	Digest struct {
		Algorithm pkix.AlgorithmIdentifier
		Digest    []byte
	}
}

type peImageData struct {
	Flags asn1.BitString
	File  asn1.RawValue // [0] EXPLICIT, a CHOICE of [2] EXPLICIT, a CHOICE of [0] IMPLICIT BMPString
}

// obsolete must stand where once a file name stood.
const obsolete = "<<<Obsolete>>>"

// indirectData says what image is signed, by its digest.
func indirectData(hash crypto.Hash, digest []byte) ([]byte, error) {
	oid, ok := oidHashes[hash]
	if !ok {
		return nil, fmt.Errorf("images are not digested with %v", hash)
	}
	var name []byte
	for _, c := range utf16.Encode([]rune(obsolete)) {
		name = binary.BigEndian.AppendUint16(name, c)
	}
	var spc spcIndirectData
	spc.Data.Type = oidPEImageData
	spc.Data.Value.File = tagged(0, tagged(2, asn1.RawValue{Class: asn1.ClassContextSpecific, Bytes: name}))
	spc.Digest.Algorithm = pkix.AlgorithmIdentifier{Algorithm: oid, Parameters: asn1.NullRawValue}
	spc.Digest.Digest = digest
	return asn1.Marshal(spc)
}

// tagged puts a value, which is context-specific itself, into an explicit tag.
func tagged(tag int, value asn1.RawValue) asn1.RawValue {
	der, err := asn1.Marshal(value)
	if err != nil {
		panic(err) // a RawValue without FullBytes has nothing that could fail
	}
	return asn1.RawValue{Class: asn1.ClassContextSpecific, Tag: tag, IsCompound: true, Bytes: der}
}

// appendSignature adds an entry to a certificate table. The zeros after the
// message count as its own, as signtool does it and osslsigncode 2.5 wants it.
func appendSignature(table, message []byte) []byte {
	padding := -len(message) & (alignment - 1)
	table = binary.LittleEndian.AppendUint32(table, uint32(certificateHeader+len(message)+padding))
	table = binary.LittleEndian.AppendUint16(table, certificateRevision)
	table = binary.LittleEndian.AppendUint16(table, certificatePKCS7)
	return append(append(table, message...), make([]byte, padding)...)
}
