package firmware

import (
	"encoding/binary"
	"fmt"
	"io"
)

// Numbers of MCUboot's image.h.
const (
	headerLen      = 32
	magicImage     = 0x96f3b83d
	magicTLV       = 0x6907
	magicProtected = 0x6908
	flagsEncrypted = 0x4 | 0x8
	tlvKeyHash     = 0x01
	tlvPublicKey   = 0x02
	tlvSHA256      = 0x10
	tlvSHA384      = 0x11
	tlvSHA512      = 0x12
	tlvRSA2048     = 0x20
	tlvECDSA       = 0x22
	tlvRSA3072     = 0x23
	tlvEd25519     = 0x24
	tlvPure        = 0x25
	tlvCounter     = 0x50
	tlvVendorID    = 0x74
	tlvClassID     = 0x75
)

// Version is an image's version. It is for people: whether an image may
// follow another is decided by the security counter.
type Version struct {
	Major    uint8  `json:"major"`
	Minor    uint8  `json:"minor"`
	Revision uint16 `json:"revision"`
	Build    uint32 `json:"build"`
}

func (v Version) String() string {
	return fmt.Sprintf("%d.%d.%d+%d", v.Major, v.Minor, v.Revision, v.Build)
}

// Image is what a verified image says of itself.
type Image struct {
	Version Version
	// Counter is the security counter; an image without one counts as 0.
	Counter uint32
	// Vendor and Class are UUIDs; all zeros if the image names none.
	Vendor, Class [16]byte
	Size          int64 // bytes, with the signatures
}

// parsed is an image taken apart. Nothing in it is trusted yet.
type parsed struct {
	Image
	header, payload int64 // bytes
	signed          int64 // bytes from the beginning that signatures are over
	open            []tlv // what follows them
	keyLength       int   // of the content key, in bytes; 0 if the payload is plain
}

type tlv struct {
	kind  uint16
	value []byte
}

// parse takes an image apart. It must fill the file: what stands behind it,
// nobody signed.
func parse(file io.ReaderAt, size int64) (*parsed, error) {
	var head [headerLen]byte
	if _, err := file.ReadAt(head[:], 0); err != nil || binary.LittleEndian.Uint32(head[:]) != magicImage {
		return nil, refuse(Damaged, "the file of %d bytes begins with %x: it is no MCUboot image", size, head[:4])
	}
	u16, u32 := binary.LittleEndian.Uint16, binary.LittleEndian.Uint32
	p := &parsed{Image: Image{Version: Version{head[20], head[21], u16(head[22:]), u32(head[24:])}}}
	if flags := u32(head[16:]) & flagsEncrypted; flags == flagAES256 {
		p.keyLength = 32
	} else if flags != 0 {
		p.keyLength = 16
	}
	p.header, p.payload = int64(u16(head[8:])), int64(u32(head[12:]))
	p.signed = p.header + p.payload
	if n := u16(head[10:]); n > 0 {
		if err := p.readProtected(file, n); err != nil {
			return nil, err
		}
	}
	open, n, err := readArea(file, p.signed, magicTLV)
	if err != nil {
		return nil, err
	}
	p.open, p.Size = open, p.signed+n
	if p.Size != size {
		return nil, refuse(Damaged, "the image ends at byte %d of %d: something was added to it", p.Size, size)
	}
	return p, nil
}

// readProtected reads what is signed beside the payload.
func (p *parsed) readProtected(file io.ReaderAt, stated uint16) error {
	area, n, err := readArea(file, p.signed, magicProtected)
	if err != nil {
		return err
	}
	if n != int64(stated) {
		return refuse(Damaged, "the protected TLVs take %d bytes, but the header says %d", n, stated)
	}
	p.signed += n
	seen := map[uint16]bool{}
	for _, t := range area {
		want, ours := map[uint16]int{tlvCounter: 4, tlvVendorID: 16, tlvClassID: 16}[t.kind]
		if !ours {
			continue
		}
		if len(t.value) != want || seen[t.kind] {
			return refuse(Damaged, "the TLV 0x%02x is there twice, or is %d bytes long instead of %d", t.kind, len(t.value), want)
		}
		seen[t.kind] = true
		p.take(t)
	}
	return nil
}

func (p *parsed) take(t tlv) {
	switch t.kind {
	case tlvCounter:
		p.Counter = binary.LittleEndian.Uint32(t.value)
	case tlvVendorID:
		copy(p.Vendor[:], t.value)
	case tlvClassID:
		copy(p.Class[:], t.value)
	}
}

// readArea reads an area of TLVs; its length has 16 bits.
func readArea(file io.ReaderAt, at int64, magic uint16) (area []tlv, size int64, err error) {
	var head [4]byte
	if _, err := file.ReadAt(head[:], at); err != nil {
		return nil, 0, refuse(Damaged, "TLVs should begin at byte %d, where the file has ended: it was cut off", at)
	}
	size = int64(binary.LittleEndian.Uint16(head[2:]))
	if binary.LittleEndian.Uint16(head[:]) != magic || size < 4 {
		return nil, 0, refuse(Damaged, "no TLVs begin at byte %d: the image is not signed, or was changed", at)
	}
	body := make([]byte, size-4)
	if _, err := file.ReadAt(body, at+4); err != nil && len(body) > 0 {
		return nil, 0, refuse(Damaged, "the TLVs at byte %d are %d bytes long, but the file ends before that: it was cut off", at, size)
	}
	for len(body) > 0 {
		n := len(body) + 1
		if len(body) >= 4 {
			n = 4 + int(binary.LittleEndian.Uint16(body[2:]))
		}
		if n > len(body) {
			return nil, 0, refuse(Damaged, "a TLV is longer than the area at byte %d", at)
		}
		area = append(area, tlv{binary.LittleEndian.Uint16(body), body[4:n]})
		body = body[n:]
	}
	return area, size, nil
}
