package mcuboot

import (
	"bytes"
	"fmt"
	"io"
)

// erased is what flash reads after it was erased.
const erased = 0xff

// bootMagic ends a slot whose image waits to be installed
// (boot/bootutil's BOOT_MAGIC, for an alignment of 8).
var bootMagic = []byte{0x77, 0xc2, 0x95, 0xf3, 0x60, 0xd2, 0xef, 0x7f, 0x35, 0x52, 0x50, 0x0f, 0x2c, 0xb6, 0x79, 0x80}

// Slot is an image's place in flash. The bootloader keeps its own state at
// the end of it.
type Slot struct {
	Size int64
	// Align is the size of the smallest write, in bytes: 1, 2, 4, 8, 16 or 32;
	// 0 is 1.
	Align int
	// MaxSectors is how many sectors the bootloader is built for; 0 is 128.
	MaxSectors int
	// OverwriteOnly says that the bootloader does not swap images.
	OverwriteOnly bool
	// Pad fills the slot and marks the image for installation. Confirm marks
	// it as good already, so that the bootloader does not swap it back.
	Pad, Confirm bool
}

// fits refuses an image of which slot and bootloader's state overlap.
func (s *Slot) fits(size int64, contentKey []byte) error {
	if s == nil {
		return nil
	}
	state, err := s.state(contentKey)
	if err != nil {
		return err
	}
	if size+state > s.Size {
		return fmt.Errorf("the image takes %d bytes and the bootloader %d at the end: that is %d more than the slot has", size, state, size+state-s.Size)
	}
	return nil
}

// alignment is the one of the fields at a slot's end.
func (s *Slot) alignment() int64 { return max(8, int64(s.Align)) }

// state is how much the bootloader takes at the slot's end.
func (s *Slot) state(contentKey []byte) (int64, error) {
	write := int64(max(1, s.Align))
	if write > 32 || write&(write-1) != 0 {
		return 0, fmt.Errorf("the slot's alignment is %d: it is 1, 2, 4, 8, 16 or 32", write)
	}
	to := s.alignment()
	size := (int64(len(bootMagic)) + to - 1) / to * to
	if s.OverwriteOnly {
		return size + 2*to, nil
	}
	sectors := int64(s.MaxSectors)
	if sectors == 0 {
		sectors = 128
	}
	if contentKey != nil { // two keys, of 16 bytes as imgtool counts
		size += 2 * ((16 + to - 1) / to * to)
	}
	return size + 4*to + 3*write*sectors, nil
}

// fill writes what follows an image in a slot that is to be filled.
func (s *Slot) fill(out io.Writer, size int64, contentKey []byte) error {
	if s == nil || !s.Pad && !s.Confirm {
		return nil
	}
	if err := s.fits(size, contentKey); err != nil {
		return err
	}
	end := s.end()
	blank := bytes.Repeat([]byte{erased}, 4096)
	for left := s.Size - size - int64(len(end)); left > 0; left -= int64(len(blank)) {
		if _, err := out.Write(blank[:min(left, int64(len(blank)))]); err != nil {
			return err
		}
	}
	_, err := out.Write(end)
	return err
}

// end is the last bytes of a filled slot: whether the image is good, and the
// magic number.
func (s *Slot) end() []byte {
	to := s.alignment()
	mark := bootMagic
	if to != 8 { // BOOT_MAGIC_ALIGN
		mark = append([]byte{byte(to), 0}, 0x2d, 0xe1, 0x5d, 0x29, 0x41, 0x0b, 0x8d, 0x77, 0x67, 0x9c, 0x11, 0x0f, 0x1f, 0x8a)
	}
	room := (int64(len(mark)) + to - 1) / to * to
	end := bytes.Repeat([]byte{erased}, int(to+room))
	copy(end[len(end)-len(mark):], mark)
	if s.Confirm && !s.OverwriteOnly {
		end[0] = 1
	}
	return end
}
