package mcuboot

import (
	"encoding/binary"
	"fmt"
	"math"
)

// area is a run of TLVs behind a header of its own, as it is written.
type area struct {
	magic uint16
	tlvs  []byte
}

func (a *area) add(kind uint16, value []byte) {
	a.tlvs = binary.LittleEndian.AppendUint16(a.tlvs, kind)
	a.tlvs = binary.LittleEndian.AppendUint16(a.tlvs, uint16(len(value)))
	a.tlvs = append(a.tlvs, value...)
}

// bytes is the area with its header; an area without TLVs is not there at all.
func (a *area) bytes() ([]byte, error) {
	n := tlvLen + len(a.tlvs)
	switch {
	case len(a.tlvs) == 0:
		return nil, nil
	case n > math.MaxUint16:
		return nil, fmt.Errorf("the TLVs take %d bytes: the format has room for %d", n, math.MaxUint16)
	}
	out := binary.LittleEndian.AppendUint16(nil, a.magic)
	out = binary.LittleEndian.AppendUint16(out, uint16(n))
	return append(out, a.tlvs...), nil
}

// protected are the TLVs that the signature covers, in imgtool's order.
func (im *Image) protected() ([]byte, error) {
	a := area{magic: magicProtected}
	if im.SecurityCounter != nil {
		a.add(tlvCounter, binary.LittleEndian.AppendUint32(nil, *im.SecurityCounter))
	}
	for _, d := range im.Dependencies {
		a.add(tlvDependency, d.Version.append([]byte{d.Image, 0, 0, 0}))
	}
	if im.VendorID != nil {
		a.add(tlvVendorID, im.VendorID[:])
	}
	if im.ClassID != nil {
		a.add(tlvClassID, im.ClassID[:])
	}
	for _, c := range im.Custom {
		if c.Type < tlvCustomFirst || c.Type > tlvCustomLast {
			return nil, fmt.Errorf("a TLV of type 0x%04x: own ones have 0x%04x to 0x%04x", c.Type, tlvCustomFirst, tlvCustomLast)
		}
		if len(c.Value) > math.MaxUint16 {
			return nil, fmt.Errorf("the TLV of type 0x%04x is %d bytes long: at most %d fit", c.Type, len(c.Value), math.MaxUint16)
		}
		a.add(c.Type, c.Value)
	}
	return a.bytes()
}

// append writes a version as the header and dependencies have it.
func (v Version) append(b []byte) []byte {
	b = append(b, v.Major, v.Minor)
	b = binary.LittleEndian.AppendUint16(b, v.Revision)
	return binary.LittleEndian.AppendUint32(b, v.Build)
}
