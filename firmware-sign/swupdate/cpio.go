package swupdate

import (
	"errors"
	"fmt"
	"io"
	"strconv"
)

// An SWU file is a cpio archive in the new ASCII format, with checksums or
// without (cpio(5)): each member is a header of 110 bytes, its name, its data,
// the latter two filled up to multiples of 4.
const (
	cpioHeader  = 110
	maxName     = 256
	maxMembers  = 1024
	cpioTrailer = "TRAILER!!!"
)

// member is a file in the archive.
type member struct {
	name       string
	data, size int64 // where its data begins, and how long it is
}

func (m member) next() int64 { return align(m.data + m.size) }

func (m member) reader(file io.ReaderAt) *io.SectionReader {
	return io.NewSectionReader(file, m.data, m.size)
}

func align(n int64) int64 { return (n + 3) &^ 3 }

// members reads the archive's directory.
func members(file *io.SectionReader) (all []member, err error) {
	for at := int64(0); ; {
		m, err := readMember(file, at)
		switch {
		case err != nil:
			return nil, fmt.Errorf("at byte %d: %w", at, err)
		case m.name == cpioTrailer:
			return all, nil
		case m.next() > file.Size():
			return nil, fmt.Errorf("%q is %d bytes long, but the file ends before that: it was cut off", m.name, m.size)
		case len(all) == maxMembers:
			return nil, fmt.Errorf("there are more than %d members", maxMembers)
		}
		all, at = append(all, m), m.next()
	}
}

func readMember(file *io.SectionReader, at int64) (m member, err error) {
	head := make([]byte, cpioHeader)
	if _, err := file.ReadAt(head, at); err != nil {
		return m, errors.New("the archive ends without its trailer: it was cut off, or is no SWU file")
	}
	if magic := string(head[:6]); magic != "070701" && magic != "070702" {
		return m, fmt.Errorf("%q begins no member of a cpio archive (cpio -H crc): this is no SWU file", magic)
	}
	size, err1 := strconv.ParseUint(string(head[54:62]), 16, 32)
	length, err2 := strconv.ParseUint(string(head[94:102]), 16, 32)
	if err1 != nil || err2 != nil || length < 2 || length > maxName {
		return m, errors.New("a member's header cannot be read")
	}
	name := make([]byte, length)
	if _, err := file.ReadAt(name, at+cpioHeader); err != nil || name[length-1] != 0 {
		return m, errors.New("a member's name cannot be read")
	}
	return member{string(name[:length-1]), align(at + cpioHeader + int64(length)), int64(size)}, nil
}

// appendMember appends a file with its checksum to an archive that begins at
// a multiple of 4.
func appendMember(out []byte, name string, data []byte) []byte {
	sum := uint32(0)
	for _, b := range data {
		sum += uint32(b)
	}
	out = append(out, "070702"...)
	for _, field := range []uint32{0, 0o100644, 0, 0, 1, 0, uint32(len(data)), 0, 0, 0, 0, uint32(len(name) + 1), sum} {
		out = fmt.Appendf(out, "%08X", field)
	}
	out = fill(append(append(out, name...), 0))
	return fill(append(out, data...))
}

func fill(b []byte) []byte {
	return append(b, make([]byte, align(int64(len(b)))-int64(len(b)))...)
}
