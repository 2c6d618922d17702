// Package authenticode signs PE/COFF images: UEFI applications, drivers and
// unified kernel images, and Windows programs. Numbers are little-endian.
//
// A signature is a PKCS #7 message around the image's digest, in the attribute
// certificate table at the end of the file ("Windows Authenticode Portable
// Executable Signature Format"; UEFI 2.10, section 32.2.4). The digest leaves
// out the table, the directory entry that points to it, and the image's
// checksum, so a second signature does not disturb the first.
package authenticode

import (
	"cmp"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"math"
	"slices"
)

// Bounds of what is read of an image into memory.
const (
	maxHeaders  = 1 << 20 // where the section table ends at last
	maxSections = 96      // as Windows has it
	maxTable    = 1 << 20 // of certificates
)

// alignment is that of the certificate table and its entries, in bytes.
const alignment = 8

// layout is where in an image the things stand that a signature changes.
type layout struct {
	checksum int64 // its 4 bytes
	entry    int64 // the certificate table's entry in the data directory, 8 bytes
	content  int64 // how long the image is without the table
	table    []byte
}

// padding is what has to follow the content so that the table is aligned.
func (l layout) padding() int64 { return -l.content & (alignment - 1) }

// readLayout reads an image's headers, and refuses what firmware and tools
// would not all digest alike.
func readLayout(file *io.SectionReader) (l layout, err error) {
	if file.Size() > math.MaxUint32-maxTable {
		return l, fmt.Errorf("the file is %d bytes long: a PE image has less than 4 GiB", file.Size())
	}
	pe, err := findHeader(file)
	if err != nil {
		return l, err
	}
	head := make([]byte, 24+2)
	if _, err := file.ReadAt(head, pe); err != nil || string(head[:4]) != "PE\x00\x00" {
		return l, errors.New("the file has a DOS header, but no PE header: it is no PE image, or cut off")
	}
	directory := int64(0)
	switch magic := binary.LittleEndian.Uint16(head[24:]); magic {
	case 0x10b:
		directory = 96 // PE32
	case 0x20b:
		directory = 112 // PE32+
	default:
		return l, fmt.Errorf("the optional header has the magic number 0x%x: 0x10b and 0x20b are known", magic)
	}
	sizeOptional := int64(binary.LittleEndian.Uint16(head[20:]))
	if sizeOptional < directory+5*8 {
		return l, fmt.Errorf("the optional header has %d bytes, and no room for a signature's place: link it with a data directory", sizeOptional)
	}
	optional := make([]byte, sizeOptional)
	if _, err := file.ReadAt(optional, pe+24); err != nil {
		return l, fmt.Errorf("read the optional header: %w", err)
	}
	if n := binary.LittleEndian.Uint32(optional[directory-4:]); n < 5 {
		return l, fmt.Errorf("the data directory has %d entries: the fifth is for signatures", n)
	}
	l.checksum, l.entry = pe+24+64, pe+24+directory+4*8
	if err := l.readTable(file, optional[directory+4*8:]); err != nil {
		return l, err
	}
	headers := int64(binary.LittleEndian.Uint32(optional[60:]))
	sections := int(binary.LittleEndian.Uint16(head[6:]))
	return l, l.checkSections(file, pe+24+sizeOptional, sections, headers)
}

// findHeader gives the place of the PE header.
func findHeader(file *io.SectionReader) (int64, error) {
	dos := make([]byte, 64)
	if _, err := file.ReadAt(dos, 0); err != nil || string(dos[:2]) != "MZ" {
		return 0, fmt.Errorf("the file does not begin with a DOS header (MZ): it is no PE image; it has %d bytes", file.Size())
	}
	at := int64(binary.LittleEndian.Uint32(dos[60:]))
	if at < 64 || at%4 != 0 || at > maxHeaders {
		return 0, fmt.Errorf("the DOS header says that the PE header is at byte %d: it is aligned to 4, and within the first %d", at, maxHeaders)
	}
	return at, nil
}

// readTable reads the certificate table that the directory's entry points to.
func (l *layout) readTable(file *io.SectionReader, entry []byte) error {
	at, size := int64(binary.LittleEndian.Uint32(entry)), int64(binary.LittleEndian.Uint32(entry[4:]))
	l.content = file.Size()
	switch {
	case at == 0 && size == 0:
		return nil
	case size == 0 || size > maxTable || at%alignment != 0 || at+size != file.Size():
		return fmt.Errorf("the image says that its signatures are %d bytes from byte %d on, but it has %d: it was cut off, or something was added; they are at the end, and at most %d bytes", size, at, file.Size(), maxTable)
	}
	l.content = at
	l.table = make([]byte, size)
	if _, err := file.ReadAt(l.table, at); err != nil {
		return fmt.Errorf("read the signatures: %w", err)
	}
	return nil
}

// checkSections wants headers and sections to follow one another. What stands
// between two sections, some digest and others leave out.
func (l *layout) checkSections(file *io.SectionReader, table int64, n int, headers int64) error {
	if n == 0 || n > maxSections {
		return fmt.Errorf("the image has %d sections: it has 1 to %d", n, maxSections)
	}
	if headers < table+int64(n)*40 || headers > min(maxHeaders, l.content) {
		return fmt.Errorf("the headers are said to take %d bytes: it is cut off, or they do not fit", headers)
	}
	raw := make([]byte, n*40)
	if _, err := file.ReadAt(raw, table); err != nil {
		return fmt.Errorf("read the section table: %w", err)
	}
	type section struct{ at, size int64 }
	var all []section
	for ; len(raw) > 0; raw = raw[40:] {
		s := section{int64(binary.LittleEndian.Uint32(raw[20:])), int64(binary.LittleEndian.Uint32(raw[16:]))}
		if s.size > 0 {
			all = append(all, s)
		}
	}
	slices.SortFunc(all, func(a, b section) int { return cmp.Compare(a.at, b.at) })
	end := headers
	for _, s := range all {
		if s.at != end {
			return fmt.Errorf("a section begins at byte %d, but what stands before it ends at %d: firmware would digest the image in different ways; link it without gaps", s.at, end)
		}
		end += s.size
	}
	if end > l.content {
		return fmt.Errorf("the sections end at byte %d, but the image at %d: it was cut off", end, l.content)
	}
	return nil
}
