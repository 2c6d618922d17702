package fit

import (
	"bytes"
	"crypto"
	_ "crypto/md5"  // weak hashes are checked,
	_ "crypto/sha1" // but do not suffice
	_ "crypto/sha256"
	_ "crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
)

// naming are the properties of a configuration that name images.
var naming = []string{"kernel", "fdt", "ramdisk", "loadables", "script", "fpga", "firmware", "setup", "standalone"}

// placing are the properties that are not signed: where an image's data is.
// Its hash is signed.
var placing = []string{"data", "data-size", "data-position", "data-offset"}

func isImage(path string) bool { return strings.Count(path, "/") == 2 }

// at finds a node by its path.
func (t *tree) at(path string) *node {
	n := t.root
	for name := range strings.SplitSeq(strings.Trim(path, "/"), "/") {
		if name == "" || n == nil {
			return n
		}
		n = n.child(name)
	}
	return n
}

// wants finds the signatures that a key is to make.
func (t *tree) wants(name string, k key) (list []*wanted, err error) {
	configurations := t.at("/configurations")
	if configurations == nil {
		return nil, errors.New("the FIT image has no configurations, and only those are signed")
	}
	hints := []string{}
	for _, c := range configurations.children {
		for _, s := range c.children {
			if !strings.HasPrefix(s.name, "signature") {
				continue
			}
			if hint := s.text("key-name-hint"); hint != name {
				hints = append(hints, hint)
				continue
			}
			w, err := t.want(c, s, k)
			if err != nil {
				return nil, fmt.Errorf("%s: %w", c.path, err)
			}
			list = append(list, w)
		}
	}
	if len(list) == 0 {
		return nil, fmt.Errorf("no configuration has a signature node with key-name-hint %q (there are %q): write one into the .its file", name, hints)
	}
	return list, nil
}

// want is one signature, of a configuration's node s.
func (t *tree) want(c, s *node, k key) (*wanted, error) {
	if v, _ := s.get("value"); v != nil {
		return nil, fmt.Errorf("%s has a value: it is signed already; sign what the build made", s.name)
	}
	if err := k.fits(s); err != nil {
		return nil, err
	}
	signed := s.list("sign-images")
	for _, p := range naming {
		if _, has := c.get(p); has && !slices.Contains(signed, p) {
			return nil, fmt.Errorf("it starts %s %q, but sign-images of %s has only %q: add it, or somebody can exchange that image", p, c.list(p), s.name, signed)
		}
	}
	nodes := []string{"/", c.path}
	for _, p := range signed {
		for _, name := range c.list(p) {
			image := t.at("/images/" + name)
			if image == nil || strings.Contains(name, "/") {
				return nil, fmt.Errorf("its %s is %q, but there is no such image", p, name)
			}
			nodes = append(nodes, image.path)
			for _, h := range image.children {
				if strings.HasPrefix(h.name, "hash") || h.name == "cipher" {
					nodes = append(nodes, h.path)
				}
			}
		}
	}
	if len(nodes) == 2 {
		return nil, fmt.Errorf("%s signs no image: write sign-images = \"kernel\", \"fdt\" and whatever else is started", s.name)
	}
	return &wanted{node: s, nodes: nodes}, nil
}

// regions are the parts of the structure that a signature is over: the nodes
// in full, other nodes beside and above them by their names alone.
func (t *tree) regions(nodes []string) (list []span) {
	add := func(s span) {
		if last := len(list) - 1; last >= 0 && list[last].end == s.at {
			list[last].end = s.end
			return
		}
		list = append(list, s)
	}
	var walk func(n *node, depth int)
	walk = func(n *node, depth int) {
		if slices.Contains(nodes, n.path) {
			depth = 2
		}
		if depth <= 0 {
			return
		}
		add(n.begin)
		for _, s := range n.parts() {
			if s.child != nil {
				walk(s.child, depth-1)
			} else if depth == 2 && !slices.Contains(placing, s.name) {
				add(s.span)
			}
		}
		add(n.finish)
	}
	walk(t.root, 0)
	add(t.finish)
	return list
}

// part is a property, a filling or a child of a node.
type part struct {
	span
	name  string
	child *node
}

// parts are all of a node's, in the order of the file.
func (n *node) parts() (list []part) {
	for _, p := range n.props {
		list = append(list, part{span: p.token, name: p.name})
	}
	for _, s := range n.nops {
		list = append(list, part{span: s})
	}
	for _, c := range n.children {
		list = append(list, part{span: span{c.begin.at, c.finish.end}, child: c})
	}
	slices.SortFunc(list, func(a, b part) int { return int(a.at - b.at) })
	return list
}

var (
	weak   = map[string]crypto.Hash{"sha1": crypto.SHA1, "md5": crypto.MD5}
	strong = map[string]crypto.Hash{"sha256": crypto.SHA256, "sha384": crypto.SHA384, "sha512": crypto.SHA512}
)

// checkImage holds an image's data to its hashes, one of which must be strong:
// it alone ties the data to the signature.
func (t *tree) checkImage(file *io.SectionReader, image *node) error {
	data, err := t.data(image)
	if err != nil {
		return err
	}
	good := false
	for _, n := range image.children {
		if !strings.HasPrefix(n.name, "hash") {
			continue
		}
		algo := n.text("algo")
		hash, ok := strong[algo]
		if !ok {
			if hash, ok = weak[algo]; !ok {
				return fmt.Errorf("%s has the algorithm %q: sha256, sha384 and sha512 are known", n.name, algo)
			}
		}
		h := hash.New()
		if _, err := io.Copy(h, io.NewSectionReader(file, data.at, data.end-data.at)); err != nil {
			return fmt.Errorf("read the image: %w", err)
		}
		if value, _ := n.get("value"); !bytes.Equal(value, h.Sum(nil)) {
			return fmt.Errorf("its data has the %s %x, but %s says %x: the image was changed after mkimage made it", algo, h.Sum(nil), n.name, value)
		}
		_, safe := strong[algo]
		good = good || safe
	}
	if !good {
		return errors.New("it has no hash node with sha256, sha384 or sha512: write one into the .its file")
	}
	return nil
}

// data is where an image's bytes are.
func (t *tree) data(image *node) (span, error) {
	for _, p := range image.props {
		if p.name == "data" {
			return p.data, nil
		}
	}
	offset, has := image.get("data-offset")
	size, _ := image.get("data-size")
	if _, placed := image.get("data-position"); placed || !has || len(offset) != 4 || len(size) != 4 {
		return span{}, errors.New("it has neither data nor data-offset and data-size: images at a fixed position (mkimage -p) are placed after signing")
	}
	at := t.external() + int64(binary.BigEndian.Uint32(offset))
	s := span{at, at + int64(binary.BigEndian.Uint32(size))}
	if s.end > t.fileSize {
		return span{}, fmt.Errorf("its data ends at byte %d, but the file has %d: it was cut off", s.end, t.fileSize)
	}
	return s, nil
}

// external is where data behind the tree begins (mkimage -E).
func (t *tree) external() int64 { return (int64(t.total) + 3) &^ 3 }
