package audit

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/json"
	"errors"
	"fmt"
	"slices"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// hashReader gives tlog the hashes it asks for. All of them are roots of
// complete subtrees, so they stand in, or follow from, one tile each.
func (t *Tiles) hashReader(ctx context.Context) tlog.HashReader {
	return tlog.HashReaderFunc(func(indexes []int64) ([]tlog.Hash, error) {
		hashes := make([]tlog.Hash, len(indexes))
		for i, x := range indexes {
			tile := tlog.TileForIndex(tileHeight, x)
			data, err := t.Tile(ctx, tile.L, tile.N, tile.W)
			if err != nil {
				return nil, err
			}
			if hashes[i], err = tlog.HashFromTile(tile, data, x); err != nil {
				return nil, err
			}
		}
		return hashes, nil
	})
}

// Root computes the root over the first size leaves.
func (t *Tiles) Root(ctx context.Context, size int64) (tlog.Hash, error) {
	return tlog.TreeHash(size, t.hashReader(ctx))
}

// Inclusion proves that a leaf is in the tree of the first size leaves (RFC
// 6962 §2.1.1); tlog.CheckRecord checks the proof.
func (t *Tiles) Inclusion(ctx context.Context, index, size int64) (tlog.RecordProof, error) {
	if index < 0 || index >= size {
		return nil, fmt.Errorf("a tree of %d leaves has no leaf %d", size, index)
	}
	return tlog.ProveRecord(size, index, t.hashReader(ctx))
}

// Consistency proves that the tree of the first size leaves extends that of
// the first old leaves (RFC 6962 §2.1.2); tlog.CheckTree checks the proof.
func (t *Tiles) Consistency(ctx context.Context, old, size int64) (tlog.TreeProof, error) {
	if old < 1 || old > size {
		return nil, fmt.Errorf("a tree of %d leaves does not extend one of %d", size, old)
	}
	return tlog.ProveTree(size, old, t.hashReader(ctx))
}

// leaf reads one leaf.
func (t *Tiles) leaf(ctx context.Context, index int64) (body []byte, err error) {
	err = eachLeaf(ctx, t.src, index, index+1, func(b []byte) error {
		body = bytes.Clone(b)
		return nil
	})
	return body, err
}

// Proof shows, to somebody who has nothing but the log's verifier, that a
// leaf is in the log. Its JSON is a file to hand out.
type Proof struct {
	Index int64  `json:"index"`
	Leaf  string `json:"leaf"` // the leaf's bytes, which are JSON themselves
	// Hashes lead from the leaf to the checkpoint's root (RFC 6962 §2.1.1).
	Hashes []tlog.Hash `json:"hashes"`
	// Checkpoint is the signed note.
	Checkpoint string `json:"checkpoint"`
}

// MaxProof is the longest proof file that is looked at, in bytes.
const MaxProof = 1 << 20

// ErrNotPublished says that a leaf is younger than the newest checkpoint.
var ErrNotPublished = errors.New("no checkpoint covers the leaf yet: try again after the next one")

// Prove makes the proof of a leaf under a signed checkpoint. The error is
// ErrNotPublished if the checkpoint does not cover the leaf.
func (t *Tiles) Prove(ctx context.Context, index int64, signed []byte, v note.Verifier) (*Proof, error) {
	c, err := OpenCheckpoint(signed, v)
	if err != nil {
		return nil, err
	}
	if index >= c.Size {
		return nil, fmt.Errorf("leaf %d, checkpoint of %d leaves: %w", index, c.Size, ErrNotPublished)
	}
	hashes, err := t.Inclusion(ctx, index, c.Size)
	if err != nil {
		return nil, err
	}
	leaf, err := t.leaf(ctx, index)
	if err != nil {
		return nil, err
	}
	if tlog.CheckRecord(hashes, c.Size, c.Root, index, tlog.RecordHash(leaf)) != nil {
		return nil, fmt.Errorf("the log's first %d leaves do not have the root that was signed: the log was altered; run \"touchmark audit verify\"", c.Size)
	}
	return &Proof{Index: index, Leaf: string(leaf), Hashes: hashes, Checkpoint: string(signed)}, nil
}

// ParseProof reads a proof file. It does not check the proof.
func ParseProof(b []byte) (*Proof, error) {
	if len(b) > MaxProof {
		return nil, fmt.Errorf("the proof is %d bytes long: at most %d are accepted", len(b), MaxProof)
	}
	dec := json.NewDecoder(bytes.NewReader(b))
	dec.DisallowUnknownFields()
	var p Proof
	if err := dec.Decode(&p); err != nil {
		return nil, fmt.Errorf("this is not a proof file: %w", err)
	}
	if rest := bytes.TrimSpace(b[dec.InputOffset():]); len(rest) > 0 {
		return nil, errors.New("this is not a proof file: something follows the JSON object")
	}
	return &p, nil
}

// Check verifies that the leaf is in the log of the verifier and returns it
// with the checkpoint that covers it.
func (p *Proof) Check(v note.Verifier) (Leaf, Checkpoint, error) {
	c, err := OpenCheckpoint([]byte(p.Checkpoint), v)
	if err != nil {
		return Leaf{}, Checkpoint{}, err
	}
	hash := tlog.RecordHash([]byte(p.Leaf))
	if err := tlog.CheckRecord(p.Hashes, c.Size, c.Root, p.Index, hash); err != nil {
		return Leaf{}, Checkpoint{}, fmt.Errorf("leaf %d, as the proof has it, is not in the log of the checkpoint (%d leaves): %w", p.Index, c.Size, err)
	}
	l, err := ParseLeaf([]byte(p.Leaf))
	if err != nil {
		return Leaf{}, Checkpoint{}, fmt.Errorf("leaf %d: %w", p.Index, err)
	}
	return l, c, nil
}

// Verify checks, offline, that the log shows the issuance of a certificate,
// given as DER, and returns the leaf. It says nothing about what happened to
// the certificate afterwards.
func (p *Proof) Verify(v note.Verifier, certDER []byte) (Leaf, error) {
	l, _, err := p.Check(v)
	if err != nil {
		return Leaf{}, err
	}
	want := CertificateDigest(certDER, CertificateIssued)
	shows := func(o Object) bool { return o.Kind == KindCertificate && o.Digest == want }
	if !slices.ContainsFunc(l.Objects, shows) {
		return Leaf{}, fmt.Errorf("leaf %d is in the log, but it does not record the issuance of this certificate", p.Index)
	}
	return l, nil
}

// CertificateIssued is the state in which a certificate is first logged.
const CertificateIssued = "valid"

// CertificateDigest is the digest of a KindCertificate object: of the JSON
// {"certificate":"…","state":"…"}, the former being the unpadded base64url of
// the SHA-256 of the certificate's DER. So whoever holds a certificate can
// tell the leaf of its issuance, whose state is [CertificateIssued].
func CertificateDigest(der []byte, state string) Digest {
	return DigestOf(struct {
		Certificate Digest `json:"certificate"`
		State       string `json:"state"`
	}{sha256.Sum256(der), state})
}
