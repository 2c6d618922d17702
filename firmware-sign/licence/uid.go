package licence

import (
	"encoding/hex"
	"fmt"
	"strings"
)

// UIDType is where on the chip a UID is read from, and so how long it is and
// what it looks like.
type UIDType uint8

// The types. Others may be written as opaque.
const (
	Opaque    UIDType = 1 // 4 to 32 bytes, as the chip gives them
	STM32     UIDType = 2 // 96-bit unique device ID: coordinates, wafer, lot
	NRF       UIDType = 3 // FICR DEVICEID, 64 bit
	ESP32     UIDType = 4 // base MAC address in the eFuses
	EUI64     UIDType = 5 // IEEE extended unique identifier (Silicon Labs, TI)
	UID64     UIDType = 6 // 64 bit (i.MX RT, RP2350, flash of an RP2040)
	UID128    UIDType = 7 // 128 bit (Kinetis, LPC, SAM, Renesas RA)
	firstType         = Opaque
	lastType          = UID128
)

// uidTypes are names and lengths.
var uidTypes = [...]struct {
	name           string
	shortest, most int
}{
	Opaque: {"opaque", 4, 32},
	STM32:  {"stm32", 12, 12},
	NRF:    {"nrf", 8, 8},
	ESP32:  {"esp32", 6, 6},
	EUI64:  {"eui64", 8, 8},
	UID64:  {"uid64", 8, 8},
	UID128: {"uid128", 16, 16},
}

func (t UIDType) known() bool { return t >= firstType && t <= lastType }

func (t UIDType) fits(length int) bool {
	return t.known() && length >= uidTypes[t].shortest && length <= uidTypes[t].most
}

func (t UIDType) String() string {
	if !t.known() {
		return fmt.Sprintf("unknown (%d)", uint8(t))
	}
	return uidTypes[t].name
}

// ParseUIDType reads a type's name.
func ParseUIDType(name string) (UIDType, error) {
	var names []string
	for t := firstType; t <= lastType; t++ {
		if uidTypes[t].name == name {
			return t, nil
		}
		names = append(names, uidTypes[t].name)
	}
	return 0, fmt.Errorf("%q is no type of UID: known are %s", name, strings.Join(names, ", "))
}

// ParseUID reads a UID in hexadecimal, with or without separators, and checks
// that it can be one.
func (t UIDType) ParseUID(s string) ([]byte, error) {
	uid, err := hex.DecodeString(strings.NewReplacer(":", "", "-", "", " ", "").Replace(s))
	if err != nil {
		return nil, fmt.Errorf("the UID %q is not hexadecimal", s)
	}
	return uid, t.CheckUID(uid)
}

// UIDError says why bytes are no UID of their type.
type UIDError struct{ Reason string }

func (e *UIDError) Error() string { return e.Reason }

// CheckUID refuses what no chip has: a wrong length, memory that was never
// written, addresses that no maker gives out.
func (t UIDType) CheckUID(uid []byte) error {
	switch {
	case !t.known():
		return &UIDError{fmt.Sprintf("the type of UID %d is not known", uint8(t))}
	case !t.fits(len(uid)):
		return &UIDError{fmt.Sprintf("the UID %x has %d bytes: of type %s it has %s", uid, len(uid), t, t.lengths())}
	case blank(uid):
		return &UIDError{fmt.Sprintf("the UID %x is what blank memory reads: no chip has it", uid)}
	case (t == ESP32 || t == EUI64) && uid[0]&3 != 0:
		return &UIDError{fmt.Sprintf("the UID %x is a multicast or a locally given address: no maker gives it out", uid)}
	case t == STM32 && !printable(uid[5:]):
		return &UIDError{fmt.Sprintf("the UID %x has no lot number in its last 7 bytes, which are ASCII", uid)}
	}
	return nil
}

func (t UIDType) lengths() string {
	if l := uidTypes[t]; l.shortest != l.most {
		return fmt.Sprintf("%d to %d", l.shortest, l.most)
	}
	return fmt.Sprint(uidTypes[t].most)
}

func printable(b []byte) bool {
	for _, x := range b {
		if x < 0x20 || x > 0x7e {
			return false
		}
	}
	return true
}
