package fit

import (
	"bufio"
	"bytes"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"strings"
)

// Tokens and bounds of a flattened device tree (Devicetree Specification
// v0.4, chapter 5).
const (
	magic        = 0xd00dfeed
	headerLen    = 40
	tokenBegin   = 1
	tokenEnd     = 2
	tokenProp    = 3
	tokenNop     = 4
	tokenFinish  = 9
	maxDepth     = 16
	maxNodes     = 4096
	maxValue     = 16 << 10 // of a property that is kept in memory
	maxStrings   = 1 << 20
	maxStructure = 4 << 20 // without the values that are not kept
)

// span is a part of the file.
type span struct{ at, end int64 }

// header is the part of a device tree's header that is of interest.
type header struct {
	total, structure, names, reserved uint32
	last                              uint32
	cpu                               uint32
	nameLen, structureLen             uint32
}

// node is one of a tree's nodes.
type node struct {
	path     string
	name     string
	begin    span // its first token, with the name
	finish   span // its last token
	props    []property
	nops     []span
	children []*node
}

type property struct {
	name  string
	token span // all of it
	value []byte
	data  span // where a value is, too long for memory or not
}

func (n *node) child(name string) *node {
	for _, c := range n.children {
		if c.name == name {
			return c
		}
	}
	return nil
}

func (n *node) get(name string) ([]byte, bool) {
	for _, p := range n.props {
		if p.name == name {
			return p.value, true
		}
	}
	return nil, false
}

// text is a property that is one string.
func (n *node) text(name string) string {
	v, _ := n.get(name)
	return strings.TrimSuffix(string(v), "\x00")
}

// list is a property that is several strings.
func (n *node) list(name string) []string {
	v, ok := n.get(name)
	if !ok || len(v) == 0 {
		return nil
	}
	return strings.Split(strings.TrimSuffix(string(v), "\x00"), "\x00")
}

// tree is a device tree in a file. Long values are left there.
type tree struct {
	header
	root     *node
	names    []byte
	finish   span // the last token
	fileSize int64
}

// parse reads a tree whose parts stand in the order in which dtc and mkimage
// write them.
func parse(file *io.SectionReader) (*tree, error) {
	var raw [headerLen]byte
	if _, err := file.ReadAt(raw[:], 0); err != nil {
		return nil, fmt.Errorf("the file is %d bytes long: a FIT image has a header of %d", file.Size(), headerLen)
	}
	w := func(i int) uint32 { return binary.BigEndian.Uint32(raw[4*i:]) }
	if w(0) != magic {
		return nil, fmt.Errorf("the file begins with %x: it is no FIT image (mkimage -f makes one)", raw[:4])
	}
	t := &tree{header: header{total: w(1), structure: w(2), names: w(3), reserved: w(4), last: w(6), cpu: w(7), nameLen: w(8), structureLen: w(9)}, fileSize: file.Size()}
	if err := t.checkLayout(w(5)); err != nil {
		return nil, err
	}
	t.names = make([]byte, t.nameLen)
	if _, err := file.ReadAt(t.names, int64(t.header.names)); err != nil {
		return nil, fmt.Errorf("read the names of properties: %w", err)
	}
	p := &parser{tree: t, at: int64(t.structure), in: bufio.NewReaderSize(io.NewSectionReader(file, int64(t.structure), int64(t.structureLen)), 64<<10)}
	if err := p.all(); err != nil {
		return nil, fmt.Errorf("the FIT image's structure, at byte %d: %w", p.at, err)
	}
	return t, nil
}

func (t *tree) checkLayout(version uint32) error {
	structureEnd, namesEnd := int64(t.structure)+int64(t.structureLen), int64(t.header.names)+int64(t.nameLen)
	switch {
	case version != 17:
		return fmt.Errorf("the FIT image's tree is of version %d: only 17 is known", version)
	case int64(t.total) > t.fileSize:
		return fmt.Errorf("the FIT image says that its tree is %d bytes long, but the file has %d: it was cut off", t.total, t.fileSize)
	case t.reserved < headerLen || t.structure < t.reserved || int64(t.header.names) < structureEnd || namesEnd > int64(t.total) || t.structure%4 != 0:
		return errors.New("the parts of the FIT image's tree are not in the order in which mkimage writes them, or overlap")
	case t.nameLen > maxStrings:
		return fmt.Errorf("the names of properties take %d bytes: at most %d are read", t.nameLen, maxStrings)
	}
	return nil
}

// parser walks the structure once, from its beginning to its end.
type parser struct {
	*tree
	at    int64 // in the file
	in    *bufio.Reader
	kept  int
	nodes int
}

func (p *parser) all() error {
	begin, token, err := p.token()
	if err != nil || token != tokenBegin {
		return fmt.Errorf("it begins with token %d: %w", token, orBad(err))
	}
	if p.root, err = p.node(begin, nil); err != nil {
		return err
	}
	at, token, err := p.token()
	if err != nil || token != tokenFinish || p.at != int64(p.structure)+int64(p.structureLen) {
		return fmt.Errorf("token %d stands where the tree should end: %w", token, orBad(err))
	}
	p.finish = span{at, p.at}
	return nil
}

var errBad = errors.New("it is damaged")

func orBad(err error) error {
	if err == nil {
		return errBad
	}
	return err
}

func (p *parser) token() (at int64, token uint32, err error) {
	at = p.at
	token, err = p.word()
	return at, token, err
}

func (p *parser) word() (uint32, error) {
	b, err := p.bytes(4)
	if err != nil {
		return 0, err
	}
	return binary.BigEndian.Uint32(b), nil
}

// bytes reads a few bytes.
func (p *parser) bytes(n int) ([]byte, error) {
	if p.kept += n; p.kept > maxStructure {
		return nil, fmt.Errorf("the structure takes more than %d bytes", maxStructure)
	}
	b := make([]byte, n)
	if _, err := io.ReadFull(p.in, b); err != nil {
		return nil, fmt.Errorf("it was cut off: %w", err)
	}
	p.at += int64(n)
	return b, nil
}

// align goes to the next multiple of 4. The bytes in between are signed, but
// libfdt leaves in them what was there.
func (p *parser) align() error {
	_, err := p.bytes(int(-p.at & 3))
	return err
}

// node reads a node after its first token.
func (p *parser) node(begin int64, parent *node) (*node, error) {
	name, err := p.name()
	if err != nil {
		return nil, err
	}
	n := &node{name: name, path: "/", begin: span{begin, p.at}}
	depth := 0
	if parent != nil {
		n.path = strings.TrimSuffix(parent.path, "/") + "/" + name
		depth = strings.Count(n.path, "/")
	}
	if p.nodes++; depth > maxDepth || p.nodes > maxNodes {
		return nil, fmt.Errorf("node %s: a FIT image has at most %d nodes, %d deep", n.path, maxNodes, maxDepth)
	}
	for {
		at, token, err := p.token()
		if err != nil {
			return nil, err
		}
		switch token {
		case tokenNop:
			n.nops = append(n.nops, span{at, p.at})
		case tokenProp:
			err = p.property(n, at)
		case tokenBegin:
			var c *node
			if c, err = p.node(at, n); err == nil {
				if n.child(c.name) != nil {
					err = fmt.Errorf("node %s is there twice", c.path)
				}
				n.children = append(n.children, c)
			}
		case tokenEnd:
			n.finish = span{at, p.at}
			return n, nil
		default:
			err = fmt.Errorf("token %d in node %s is unknown", token, n.path)
		}
		if err != nil {
			return nil, err
		}
	}
}

func (p *parser) name() (string, error) {
	var b []byte
	for {
		c, err := p.bytes(4)
		if err != nil {
			return "", err
		}
		b = append(b, c...)
		if i := bytes.IndexByte(b, 0); i >= 0 {
			if name := string(b[:i]); !strings.ContainsAny(name, "/@") {
				return name, nil
			}
			return "", fmt.Errorf("the node name %q has a / or an @, which U-Boot refuses since 2021.04", b[:i])
		}
		if len(b) > 256 {
			return "", errors.New("a node's name is longer than 256 bytes")
		}
	}
}

func (p *parser) property(n *node, at int64) error {
	size, err := p.word()
	if err != nil {
		return err
	}
	offset, err := p.word()
	if err != nil {
		return err
	}
	if int64(offset) >= int64(len(p.names)) {
		return fmt.Errorf("a property of node %s has no name", n.path)
	}
	name, _, ended := bytes.Cut(p.names[offset:], []byte{0})
	prop := property{name: string(name), data: span{p.at, p.at + int64(size)}}
	if _, twice := n.get(prop.name); twice || !ended {
		return fmt.Errorf("property %q of node %s is there twice, or its name does not end", name, n.path)
	}
	if size <= maxValue {
		if prop.value, err = p.bytes(int(size)); err != nil {
			return err
		}
	} else if err := p.skip(int64(size)); err != nil {
		return err
	}
	if err := p.align(); err != nil {
		return err
	}
	prop.token = span{at, p.at}
	n.props = append(n.props, prop)
	return nil
}

// skip leaves a long value in the file.
func (p *parser) skip(n int64) error {
	skipped, err := io.CopyN(io.Discard, p.in, n)
	p.at += skipped
	if err != nil {
		return fmt.Errorf("it was cut off: %w", err)
	}
	return nil
}
