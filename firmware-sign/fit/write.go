package fit

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"io"
	"slices"
	"strings"
)

// piece is a part of the signed file: one of the source, some bytes, or the
// value of a signature.
type piece struct {
	span
	bytes     []byte
	signature int // -1 is none
}

// layout says what the signed file consists of.
func (d *draft) layout() ([]piece, error) {
	t, names := d.tree, newNames(d.tree.names)
	pieces := []piece{{signature: -1}} // the header
	at, grown := int64(headerLen), 0
	take := func(end int64) {
		pieces = append(pieces, piece{span: span{at, end}, signature: -1})
		at = end
	}
	put := func(b []byte, signature int) {
		pieces, grown = append(pieces, piece{bytes: b, signature: signature}), grown+len(b)
	}
	order := make([]int, len(d.wanted)) // as the nodes stand in the file
	for i := range order {
		order[i] = i
	}
	slices.SortFunc(order, func(a, b int) int { return int(d.wanted[a].node.begin.at - d.wanted[b].node.begin.at) })
	for _, i := range order {
		w := d.wanted[i]
		take(w.node.begin.end)
		put(propertyHead(names.offset("value"), d.key.size), -1)
		put(make([]byte, (d.key.size+3)&^3), i)
		put(w.properties(names, t.nameLen), -1)
	}
	take(int64(t.structure) + int64(t.structureLen))
	take(int64(t.header.names) + int64(t.nameLen))
	structure := grown
	put(names.added, -1)
	total := int64(t.header.names) + int64(t.nameLen) + int64(grown)
	filled := (total + 3) &^ 3
	put(make([]byte, filled-total), -1)
	if end := t.dataEnd(); t.fileSize > end {
		return nil, fmt.Errorf("%d bytes follow what belongs to the FIT image: something was added to it", t.fileSize-end)
	}
	if t.fileSize > t.external() {
		at = t.external()
		take(t.fileSize)
	}
	pieces[0].bytes = t.grownHeader(uint32(structure), uint32(len(names.added)), uint32(filled))
	return pieces, nil
}

// dataEnd is where the image's last byte may be: behind the tree, or behind
// the data that follows it, filled up as mkimage -B does.
func (t *tree) dataEnd() int64 {
	end, block := t.external(), int64(4)
	if images := t.at("/images"); images != nil {
		for _, i := range images.children {
			if s, err := t.data(i); err == nil && s.at >= t.external() {
				end, block = max(end, s.end), 1<<16
			}
		}
	}
	return (end + block - 1) / block * block
}

// grownHeader is that of the tree with a longer structure and more names.
func (t *tree) grownHeader(structure, names, total uint32) (b []byte) {
	for _, w := range []uint32{magic, total, t.structure, t.header.names + structure, t.reserved, 17, t.last, t.cpu, t.nameLen + names, t.structureLen + structure} {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b
}

// properties are what stands in a signature's node behind its value.
func (w *wanted) properties(names *names, signedNames uint32) (b []byte) {
	b = appendProperty(b, names.offset("signer-name"), []byte("touchmark\x00"))
	b = appendProperty(b, names.offset("hashed-nodes"), []byte(strings.Join(w.nodes, "\x00")+"\x00"))
	return appendProperty(b, names.offset("hashed-strings"), binary.BigEndian.AppendUint32(make([]byte, 4), signedNames))
}

func propertyHead(name uint32, size int) (b []byte) {
	for _, w := range []uint32{tokenProp, uint32(size), name} {
		b = binary.BigEndian.AppendUint32(b, w)
	}
	return b
}

func appendProperty(b []byte, name uint32, value []byte) []byte {
	b = append(b, propertyHead(name, len(value))...)
	b = append(b, value...)
	return append(b, make([]byte, -len(value)&3)...)
}

// names are those of properties, with some that are added behind them.
type names struct{ there, added []byte }

func newNames(there []byte) *names { return &names{there: there} }

// offset is where a name is, after it was added if it had to be.
func (n *names) offset(name string) uint32 {
	all := append(slices.Clone(n.there), n.added...)
	if i := bytes.Index(append([]byte{0}, all...), []byte("\x00"+name+"\x00")); i >= 0 {
		return uint32(i)
	}
	n.added = append(append(n.added, name...), 0)
	return uint32(len(all))
}

// write writes pieces, with the signatures in their places.
func (d *draft) write(out io.Writer, pieces []piece, signatures [][]byte) error {
	for _, p := range pieces {
		var err error
		switch {
		case p.signature >= 0:
			var value []byte
			if value, err = d.key.value(signatures[p.signature]); err == nil {
				_, err = out.Write(append(value, make([]byte, len(p.bytes)-len(value))...))
			}
		case p.bytes != nil:
			_, err = out.Write(p.bytes)
		default:
			_, err = io.CopyBuffer(struct{ io.Writer }{out}, io.NewSectionReader(d.file, p.at, p.end-p.at), make([]byte, 256<<10))
		}
		if err != nil {
			return fmt.Errorf("write the FIT image: %w", err)
		}
	}
	return nil
}
