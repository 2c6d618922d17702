// Package fit signs the configurations of U-Boot's FIT images, as mkimage -F
// does, and verifies them. Numbers are big-endian.
//
// A FIT image is a flattened device tree with images, hashes of them, and
// configurations that say which images are started together. The signature of
// a configuration is over its node, the nodes of its images and of their
// hashes, without the images themselves (doc/uImage.FIT/signature.txt of
// U-Boot). Images are not signed each for itself: whoever signs only images
// lets others start a new kernel with an old device tree.
package fit

import (
	"crypto"

	"fmt"
	"io"
	"slices"

	firmwaresign "github.com/touchmark/touchmark/firmware-sign"
)

// Image signs all configurations that have a signature node for the key, as
// the source of the image (.its) wants them:
//
//	signature-1 { algo = "sha256,rsa3072"; key-name-hint = "prod"; sign-images = "kernel", "fdt"; };
//
// It is a [firmwaresign.Format].
type Image struct {
	// Key is of RSA with 2048, 3072 or 4096 bits, or ECDSA on P-256.
	Key crypto.PublicKey
	// Name is the key's in U-Boot's own device tree (key-name-hint).
	Name string
}

// wanted is one signature of the image.
type wanted struct {
	node     *node // the signature's
	nodes    []string
	toSign   firmwaresign.ToSign
	original []span // what is hashed, without the names
}

type draft struct {
	file    *io.SectionReader
	tree    *tree
	wanted  []*wanted
	key     key
	rest    []piece // what Prepare did not write
	toSigns []firmwaresign.ToSign
}

// Prepare checks the hashes of the images and writes everything before the
// first signature.
func (im Image) Prepare(file *io.SectionReader, out io.Writer) (firmwaresign.Draft, error) {
	k, err := newKey(im.Key)
	if err != nil {
		return nil, err
	}
	t, err := parse(file)
	if err != nil {
		return nil, err
	}
	d := &draft{file: file, tree: t, key: k}
	if d.wanted, err = t.wants(im.Name, k); err != nil {
		return nil, err
	}
	checked := map[string]bool{}
	for _, w := range d.wanted {
		if err := d.prepare(w, checked); err != nil {
			return nil, err
		}
		d.toSigns = append(d.toSigns, w.toSign)
	}
	pieces, err := d.layout()
	if err != nil {
		return nil, err
	}
	first := slices.IndexFunc(pieces, func(p piece) bool { return p.signature >= 0 })
	d.rest = pieces[first:]
	if out == nil {
		return d, nil
	}
	return d, d.write(out, pieces[:first], nil)
}

// prepare checks the images of a configuration and digests what is signed.
func (d *draft) prepare(w *wanted, checked map[string]bool) error {
	for _, path := range w.nodes {
		n := d.tree.at(path)
		if len(path) > len("/images/") && path[:8] == "/images/" && isImage(path) && !checked[path] {
			if err := d.tree.checkImage(d.file, n); err != nil {
				return fmt.Errorf("%s: %w", path, err)
			}
			checked[path] = true
		}
	}
	w.original = d.tree.regions(w.nodes)
	digest, err := d.digest(w.original)
	if err != nil {
		return err
	}
	w.toSign, err = firmwaresign.NewDigestToSign(d.key.algorithm(w.node), d.key.public, digest)
	return err
}

// digest is over the regions and the names of all properties.
func (d *draft) digest(regions []span) ([]byte, error) {
	h := crypto.SHA256.New()
	for _, r := range append(slices.Clone(regions), span{int64(d.tree.header.names), int64(d.tree.header.names) + int64(d.tree.nameLen)}) {
		if _, err := io.Copy(h, io.NewSectionReader(d.file, r.at, r.end-r.at)); err != nil {
			return nil, fmt.Errorf("read the FIT image: %w", err)
		}
	}
	return h.Sum(nil), nil
}

func (d *draft) ToSign() []firmwaresign.ToSign { return d.toSigns }

// Finish writes the signatures and what stands after the first. What it reads
// again are the image's own hashes bound to the signature: a file that was
// changed in between is one that no U-Boot starts.
func (d *draft) Finish(out io.Writer, signatures [][]byte) error {
	return d.write(out, d.rest, signatures)
}
