// Package mcuboot signs and encrypts images for the MCUboot bootloader, to the
// byte as imgtool 2.4 does, and verifies them. Numbers are little-endian.
//
// An image is a header, the payload, protected TLVs, and TLVs with the digest
// and the signatures, which are over all that stands before them
// (docs/design.md of MCUboot, "Image format"; boot/bootutil's image.h).
package mcuboot

import (
	"fmt"
	"regexp"
	"strconv"
)

// Magic numbers and sizes of image.h.
const (
	magic          = 0x96f3b83d
	magicTLV       = 0x6907
	magicProtected = 0x6908
	headerLen      = 32
	tlvLen         = 4 // of a TLV's or a TLV area's own header
)

// Flags in the header.
const (
	flagAES128      = 0x4
	flagAES256      = 0x8
	flagNonBootable = 0x10
	flagRAMLoad     = 0x20
	flagROMFixed    = 0x100
)

// Types of TLVs.
const (
	tlvKeyHash      = 0x01
	tlvPublicKey    = 0x02
	tlvSHA256       = 0x10
	tlvSHA384       = 0x11
	tlvSHA512       = 0x12
	tlvRSA2048      = 0x20
	tlvECDSA        = 0x22
	tlvRSA3072      = 0x23
	tlvEd25519      = 0x24
	tlvPure         = 0x25
	tlvECIESP256    = 0x32
	tlvECIESX25519  = 0x33
	tlvX25519SHA512 = 0x34
	tlvDependency   = 0x40
	tlvCounter      = 0x50
	tlvVendorID     = 0x74
	tlvClassID      = 0x75
	tlvCustomFirst  = 0x00a0
	tlvCustomLast   = 0xfffe
)

// Version is an image's version. Bootloaders compare it without the build.
type Version struct {
	Major, Minor uint8
	Revision     uint16
	Build        uint32
}

var versionForm = regexp.MustCompile(`^(\d{1,3})(?:\.(\d{1,3})(?:\.(\d{1,5})(?:\+(\d{1,10}))?)?)?$`)

// ParseVersion reads major[.minor[.revision[+build]]], as imgtool takes it.
func ParseVersion(s string) (v Version, err error) {
	parts := versionForm.FindStringSubmatch(s)
	if parts == nil {
		return v, fmt.Errorf("%q is no version: write it as 1.2.3 or 1.2.3+4", s)
	}
	var n [4]uint64
	for i, bits := range []int{8, 8, 16, 32} {
		if parts[i+1] == "" {
			break
		}
		if n[i], err = strconv.ParseUint(parts[i+1], 10, bits); err != nil {
			return v, fmt.Errorf("version %q: %s does not fit into %d bits", s, parts[i+1], bits)
		}
	}
	return Version{uint8(n[0]), uint8(n[1]), uint16(n[2]), uint32(n[3])}, nil
}

func (v Version) String() string {
	return fmt.Sprintf("%d.%d.%d+%d", v.Major, v.Minor, v.Revision, v.Build)
}
