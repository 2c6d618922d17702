package fit

import (
	"bytes"
	"crypto"
	"crypto/ecdsa"
	"crypto/rsa"
	"crypto/sha256"
	"crypto/sha512"
	"encoding/binary"
	"errors"
	"fmt"
	"hash"
	"io"
	"math/big"
	"slices"
	"strings"
)

// Verification shares nothing with the code that signs: it is the second
// opinion on what leaves. It walks the tree once for each question, as U-Boot
// does, and keeps no more of it than the answer.

// Verify checks that every configuration of a FIT image has a good signature
// by a key of this name, over all images that it starts, and that those have
// the hashes that were signed.
func Verify(file *io.SectionReader, key crypto.PublicKey, name string) error {
	b, err := open(file)
	if err != nil {
		return err
	}
	configurations, err := b.below("/configurations")
	if err != nil {
		return err
	}
	n := 0
	for _, c := range configurations {
		if strings.Count(c, "/") != 2 {
			continue
		}
		n++
		if err := b.configuration(c, key, name); err != nil {
			return fmt.Errorf("%s: %w", c, err)
		}
	}
	if n == 0 {
		return errors.New("the FIT image has no configurations")
	}
	return nil
}

// blob is a FIT image that is read where it lies.
type blob struct {
	file  *io.SectionReader
	total int64
	from  int64 // the structure
	until int64
	text  []byte // the names of properties
	texts int64  // where they are
}

func open(file *io.SectionReader) (*blob, error) {
	head := make([]byte, 40)
	if _, err := file.ReadAt(head, 0); err != nil || !bytes.HasPrefix(head, []byte{0xd0, 0x0d, 0xfe, 0xed}) {
		return nil, fmt.Errorf("the file begins with %x: it is no FIT image", head[:4])
	}
	word := func(i int) int64 { return int64(binary.BigEndian.Uint32(head[4*i:])) }
	b := &blob{file: file, total: word(1), from: word(2), until: word(2) + word(9), texts: word(3)}
	if word(8) > 1<<20 || word(9) > file.Size() || b.until > b.texts || b.texts+word(8) > b.total || b.total > file.Size() {
		return nil, errors.New("the parts of the FIT image overlap, or it was cut off")
	}
	b.text = make([]byte, word(8))
	_, err := file.ReadAt(b.text, b.texts)
	return b, err
}

// event is a token met on a walk.
type event struct {
	kind      uint32
	path      string // of the node
	name      string // of the property
	at, until int64
	value     int64 // where it begins
	size      int64
}

const eventsMost = 1 << 16

// walk tells of every token up to the last.
func (b *blob) walk(tell func(event) error) error {
	path, at := "", b.from
	for range eventsMost {
		e := event{path: path, at: at}
		var head [12]byte
		n, _ := b.file.ReadAt(head[:], at)
		if n < 4 || at >= b.until {
			return errors.New("the FIT image's structure was cut off")
		}
		e.kind, e.until = binary.BigEndian.Uint32(head[:]), at+4
		switch e.kind {
		case 1:
			name, err := b.string(at + 4)
			if err != nil {
				return err
			}
			path += "/" + name
			e.path, e.until = path, at+4+(int64(len(name))+4)&^3
		case 2:
			if path == "" {
				return errors.New("the FIT image's structure ends nodes that it did not begin")
			}
			path = path[:strings.LastIndex(path, "/")]
		case 3:
			e.size, e.value = int64(binary.BigEndian.Uint32(head[4:])), at+12
			e.until = e.value + (e.size+3)&^3
			if at := int64(binary.BigEndian.Uint32(head[8:])); n == 12 && at < int64(len(b.text)) {
				e.name = string(b.text[at : int(at)+max(0, bytes.IndexByte(b.text[at:], 0))])
			}
		case 4:
		case 9:
			if e.until != b.until || path != "" {
				return errors.New("the FIT image's structure ends too early")
			}
			return tell(e)
		default:
			return fmt.Errorf("the FIT image's structure has a token %d", e.kind)
		}
		if e.until > b.until {
			return errors.New("the FIT image's structure was cut off")
		}
		if err := tell(e); err != nil {
			return err
		}
		at = e.until
	}
	return fmt.Errorf("the FIT image's structure has more than %d parts", eventsMost)
}

// string reads a node's name; the root has none.
func (b *blob) string(at int64) (string, error) {
	buf := make([]byte, 256)
	n, _ := b.file.ReadAt(buf, at)
	end := bytes.IndexByte(buf[:n], 0)
	if end < 0 || bytes.ContainsAny(buf[:max(0, end)], "/@") {
		return "", errors.New("a node of the FIT image has a name that is too long, or with / or @ in it")
	}
	return string(buf[:end]), nil
}

// clean takes the root's empty name off a path: on a walk "/images" is
// "//images".
func clean(path string) string {
	if len(path) < 2 {
		return "/"
	}
	return path[1:]
}

// below are the nodes under a path, as they come.
func (b *blob) below(top string) (list []string, err error) {
	err = b.walk(func(e event) error {
		p := clean(e.path)
		if e.kind != 1 || !strings.HasPrefix(p, top+"/") {
			return nil
		}
		if slices.Contains(list, p) {
			return fmt.Errorf("node %s is there twice", p)
		}
		list = append(list, p)
		return nil
	})
	return list, err
}

// property reads one, nil if it is not there.
func (b *blob) property(path, name string) (value []byte, err error) {
	found := 0
	err = b.walk(func(e event) error {
		if e.kind != 3 || clean(e.path) != path || e.name != name {
			return nil
		}
		if found++; found > 1 || e.size > 1<<16 {
			return fmt.Errorf("%s of %s is there twice, or too long", name, path)
		}
		value = make([]byte, e.size)
		_, err := b.file.ReadAt(value, e.value)
		return err
	})
	return value, err
}

func (b *blob) words(path, name string) ([]string, error) {
	v, err := b.property(path, name)
	if v == nil || err != nil {
		return nil, err
	}
	return strings.Split(strings.TrimSuffix(string(v), "\x00"), "\x00"), nil
}

// starts are the properties by which a configuration starts images.
var starts = []string{"kernel", "fdt", "ramdisk", "loadables", "script", "fpga", "firmware", "setup", "standalone"}

// configuration checks one.
func (b *blob) configuration(path string, key crypto.PublicKey, name string) error {
	signature, err := b.signature(path, name)
	if err != nil {
		return err
	}
	nodes := []string{"/", path}
	covered, err := b.words(signature, "sign-images")
	if err != nil {
		return err
	}
	for _, s := range starts {
		images, err := b.words(path, s)
		if err != nil {
			return err
		}
		if images != nil && !slices.Contains(covered, s) {
			return fmt.Errorf("it starts %s %q, which is not signed", s, images)
		}
	}
	for _, c := range covered {
		images, err := b.words(path, c)
		if err != nil {
			return err
		}
		for _, image := range images {
			under, err := b.image("/images/" + image)
			if err != nil {
				return fmt.Errorf("image %s: %w", image, err)
			}
			nodes = append(append(nodes, "/images/"+image), under...)
		}
	}
	return b.signed(signature, nodes, key)
}

// signature finds a configuration's signature by a key of the name.
func (b *blob) signature(path, name string) (found string, err error) {
	nodes, err := b.below(path)
	if err != nil {
		return "", err
	}
	for _, n := range nodes {
		hint, err := b.words(n, "key-name-hint")
		if err != nil {
			return "", err
		}
		if strings.HasPrefix(n, path+"/signature") && slices.Equal(hint, []string{name}) {
			if found != "" {
				return "", fmt.Errorf("it has two signatures by %q", name)
			}
			found = n
		}
	}
	if found == "" {
		return "", fmt.Errorf("it has no signature by %q", name)
	}
	return found, nil
}

// image checks an image against its hashes, and returns their nodes.
func (b *blob) image(path string) (hashes []string, err error) {
	nodes, err := b.below(path)
	if err != nil {
		return nil, err
	}
	safe := false
	for _, n := range nodes {
		switch name := strings.TrimPrefix(n, path+"/"); {
		case name == "cipher":
		case !strings.HasPrefix(name, "hash") || strings.Contains(name, "/"):
			continue
		default:
			strong, err := b.hash(path, n)
			if err != nil {
				return nil, err
			}
			safe = safe || strong
		}
		hashes = append(hashes, n)
	}
	if !safe {
		return nil, errors.New("it is not there, or has no hash by SHA-2")
	}
	return hashes, nil
}

// hash checks one hash of an image; weak ones tell nothing.
func (b *blob) hash(image, node string) (strong bool, err error) {
	algo, err := b.words(node, "algo")
	if err != nil {
		return false, err
	}
	makers := map[string]func() hash.Hash{"sha256": sha256.New, "sha384": sha512.New384, "sha512": sha512.New}
	maker := makers[strings.Join(algo, " ")]
	if maker == nil {
		return false, nil
	}
	at, size, err := b.content(image)
	if err != nil {
		return false, err
	}
	h := maker()
	if n, err := io.Copy(h, io.NewSectionReader(b.file, at, size)); err != nil || n != size {
		return false, fmt.Errorf("its data was cut off after %d of %d bytes", n, size)
	}
	stated, err := b.property(node, "value")
	if err == nil && !bytes.Equal(stated, h.Sum(nil)) {
		err = fmt.Errorf("it was changed: its %s is %x, but %x was signed", algo[0], h.Sum(nil), stated)
	}
	return true, err
}

// content is where an image's bytes are.
func (b *blob) content(image string) (at, size int64, err error) {
	at = -1
	err = b.walk(func(e event) error {
		if e.kind == 3 && clean(e.path) == image && e.name == "data" {
			at, size = e.value, e.size
		}
		return nil
	})
	if err != nil || at >= 0 {
		return at, size, err
	}
	offset, err := b.property(image, "data-offset")
	if err != nil {
		return 0, 0, err
	}
	length, err := b.property(image, "data-size")
	if err != nil || len(offset) != 4 || len(length) != 4 {
		return 0, 0, fmt.Errorf("it has no data: %w", err)
	}
	return (b.total+3)&^3 + int64(binary.BigEndian.Uint32(offset)), int64(binary.BigEndian.Uint32(length)), nil
}

// signed checks a signature over nodes.
func (b *blob) signed(signature string, nodes []string, key crypto.PublicKey) error {
	listed, err := b.words(signature, "hashed-nodes")
	if err != nil {
		return err
	}
	if !slices.Equal(listed, nodes) {
		return fmt.Errorf("it is over the nodes %q, but should be over %q", listed, nodes)
	}
	texts, err := b.property(signature, "hashed-strings")
	if err != nil {
		return err
	}
	if len(texts) != 8 || int64(binary.BigEndian.Uint32(texts[4:])) > int64(len(b.text)) || binary.BigEndian.Uint32(texts) != 0 {
		return errors.New("it does not say which names of properties it is over")
	}
	h := sha256.New()
	if err := b.hashNodes(h, nodes); err != nil {
		return err
	}
	h.Write(b.text[:binary.BigEndian.Uint32(texts[4:])])
	value, err := b.property(signature, "value")
	if err != nil {
		return err
	}
	algo, err := b.words(signature, "algo")
	if err != nil {
		return err
	}
	padding, err := b.words(signature, "padding")
	if err != nil {
		return err
	}
	return checkSignature(key, strings.Join(algo, " "), strings.Join(padding, " "), h.Sum(nil), value)
}

// hashNodes hashes the nodes, and of those beside and above them the names.
func (b *blob) hashNodes(h io.Writer, nodes []string) error {
	want, stack := 0, []int{}
	return b.walk(func(e event) error {
		include := false
		switch e.kind {
		case 1:
			stack = append(stack, want)
			switch {
			case slices.Contains(nodes, clean(e.path)):
				want = 2
			case want > 0:
				want--
			}
			include = want > 0
		case 2:
			include = want > 0
			want, stack = stack[len(stack)-1], stack[:len(stack)-1]
		case 3:
			include = want == 2 && !slices.Contains([]string{"data", "data-size", "data-position", "data-offset"}, e.name)
		case 4:
			include = want == 2
		case 9:
			include = true
		}
		if !include {
			return nil
		}
		_, err := io.Copy(h, io.NewSectionReader(b.file, e.at, e.until-e.at))
		return err
	})
}

func checkSignature(key crypto.PublicKey, algo, padding string, digest, value []byte) error {
	good, want := false, ""
	switch key := key.(type) {
	case *rsa.PublicKey:
		want = fmt.Sprintf("sha256,rsa%d", key.N.BitLen())
		if padding == "pss" {
			good = rsa.VerifyPSS(key, crypto.SHA256, digest, value, nil) == nil
		} else {
			good = rsa.VerifyPKCS1v15(key, crypto.SHA256, digest, value) == nil
		}
	case *ecdsa.PublicKey:
		want = "sha256,ecdsa256"
		good = len(value) == 64 && ecdsa.Verify(key, digest, new(big.Int).SetBytes(value[:32]), new(big.Int).SetBytes(value[32:]))
	}
	if algo != want {
		return fmt.Errorf("the signature is by %q, the key makes %q", algo, want)
	}
	if !good {
		return errors.New("the signature is not good: something was changed, or another key signed")
	}
	return nil
}
