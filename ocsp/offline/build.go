package offline

import (
	"cmp"
	"context"
	"crypto"
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"
	"math"
	"slices"
	"time"
)

// Universe tells of the certificates of one issuing CA: it calls each once for
// every certificate whose notBefore is not after the plan's CoversUntil and
// whose notAfter is not before its ThisUpdate. It may tell of others of that
// CA, too. The serial number is a big.Int's Bytes and each must not keep it.
// [Build] asks up to three times; what counts is the standing it is told
// first, but for a universe most of which is not good.
type Universe func(ctx context.Context, each func(serial []byte, good bool) error) error

// Plan says what a file shall be.
type Plan struct {
	Number                              uint64
	ThisUpdate, NextUpdate, CoversUntil time.Time
	Base                                *Filter // for a delta of it; nil for a base
}

// Build makes and signs a file. It needs memory for the certificates that are
// not good (in a delta: that changed), or for the good ones if they are fewer:
// about 100 bytes for each, and nothing for the others. The result was read
// back and held against all that could be wrong in it.
func Build(ctx context.Context, issuer *x509.Certificate, signer crypto.Signer, p Plan, u Universe) ([]byte, error) {
	b := &builder{Header: Header{Kind: Base, Number: p.Number, ThisUpdate: p.ThisUpdate.UTC().Truncate(time.Second), NextUpdate: p.NextUpdate.UTC().Truncate(time.Second),
		CoversUntil: p.CoversUntil.UTC().Truncate(time.Second), Issuer: IssuerKey(issuer)}, base: p.Base}
	if p.Base != nil {
		b.Kind, b.Base = Delta, p.Base.digest
	}
	b.salt = b.saltOf()
	body, err := b.tables(ctx, u)
	if err != nil {
		return nil, fmt.Errorf("make the offline status: %w", err)
	}
	if uint64(len(body)) > math.MaxUint32-headerSize {
		return nil, fmt.Errorf("make the offline status: %d bytes are more than a file can have", len(body))
	}
	b.signed = uint32(headerSize + len(body))
	file, err := sign(append(b.Header.append(nil), body...), signer)
	if err != nil {
		return nil, err
	}
	return file, b.examine(file, issuer)
}

type builder struct {
	Header
	base   *Filter
	listed []entry // in order
	wrong  []entry // keys that the first table takes for listed ones, in order
}

// saltOf makes the salt from what no other file shares.
func (b *builder) saltOf() (salt [saltSize]byte) {
	h := *b
	sum := sha256.Sum256(h.Header.append(nil))
	copy(salt[:], sum[:])
	return salt
}

// tables makes the two tables.
func (b *builder) tables(ctx context.Context, u Universe) ([]byte, error) {
	if err := b.list(ctx, u); err != nil {
		return nil, err
	}
	columns := columnsFor(uint64(len(b.listed)), b.Issued)
	for i := range b.listed {
		b.listed[i].value = b.listed[i].print()
	}
	first, err := tableFor(1, columns, b.listed)
	if err != nil {
		return nil, err
	}
	body := appendTable(nil, columns, first)
	if err := b.mistaken(ctx, u, body); err != nil {
		return nil, err
	}
	second, err := tableFor(2, 1, b.both())
	if err != nil {
		return nil, err
	}
	return appendTable(body, 1, second), nil
}

// list collects the certificates that are listed.
func (b *builder) list(ctx context.Context, u Universe) error {
	if err := b.collect(ctx, u); err != nil {
		return err
	}
	if uint64(len(b.listed)) > b.Issued/2 {
		b.inverted = true
		if err := b.collect(ctx, u); err != nil {
			return err
		}
	}
	b.listed = inOrderOnce(b.listed)
	return nil
}

func (b *builder) collect(ctx context.Context, u Universe) error {
	b.Issued, b.NotGood, b.listed = 0, 0, nil
	return u(ctx, func(serial []byte, good bool) error {
		b.Issued++
		if !good {
			b.NotGood++
		}
		listed := !good
		if b.base != nil {
			listed = b.base.NotGood(serial) == good
		}
		if listed != b.inverted {
			b.listed = append(b.listed, entry{key: keyOf(b.salt, serial)})
		}
		return nil
	})
}

// mistaken collects what is not listed, but looks so by the first table.
func (b *builder) mistaken(ctx context.Context, u Universe, body []byte) error {
	if len(b.listed) == 0 {
		return nil
	}
	var first table
	if _, err := first.parse(1, body); err != nil {
		return err
	}
	err := u(ctx, func(serial []byte, _ bool) error {
		k := keyOf(b.salt, serial)
		if first.columns != 0 && !first.holds(k, k.print()) {
			return nil
		}
		if _, ok := slices.BinarySearchFunc(b.listed, entry{key: k}, inOrder); !ok {
			b.wrong = append(b.wrong, entry{key: k})
		}
		return nil
	})
	b.wrong = inOrderOnce(b.wrong)
	return err
}

// both is what the second table tells apart.
func (b *builder) both() []entry {
	out := make([]entry, 0, len(b.listed)+len(b.wrong))
	for _, e := range b.listed {
		out = append(out, entry{e.key, 1})
	}
	for _, e := range b.wrong {
		out = append(out, entry{e.key, 0})
	}
	slices.SortFunc(out, inOrder)
	return out
}

// examine reads the file as others will, and asks for every key that passes
// the first table. No other can be answered wrongly.
func (b *builder) examine(bytes []byte, issuer *x509.Certificate) error {
	f, err := read(bytes, issuer)
	if err != nil {
		return fmt.Errorf("the offline status that was made cannot be read: %w", err)
	}
	for _, e := range b.listed {
		if !f.lists(e.key) {
			return fmt.Errorf("the offline status that was made is wrong on a listed certificate")
		}
	}
	for _, e := range b.wrong {
		if f.lists(e.key) {
			return fmt.Errorf("the offline status that was made is wrong on a certificate that is not listed")
		}
	}
	return nil
}

func inOrderOnce(entries []entry) []entry {
	slices.SortFunc(entries, inOrder)
	return slices.CompactFunc(entries, func(x, y entry) bool { return x.key == y.key })
}

func inOrder(x, y entry) int { return cmp.Or(cmp.Compare(x.a, y.a), cmp.Compare(x.b, y.b)) }

// columnsFor is how many bits of a fingerprint make both tables together the
// smallest: each more halves the mistakes that the second has to mend.
func columnsFor(listed, issued uint64) int {
	if listed == 0 {
		return 0
	}
	best, least := 0, float64(issued)
	others := float64(issued - listed)
	for columns := 1; columns <= 48; columns++ {
		others /= 2
		if size := float64(listed)*float64(columns+1) + others; size < least {
			best, least = columns, size
		}
	}
	return best
}

func appendTable(b []byte, columns int, shards []solved) []byte {
	le := binary.LittleEndian
	b = le.AppendUint32(b, uint32(columns))
	b = le.AppendUint32(b, uint32(len(shards)))
	for _, s := range shards {
		b = le.AppendUint16(b, s.words)
		b = append(b, s.seed, 0)
	}
	for _, s := range shards {
		for _, w := range s.bits {
			b = le.AppendUint64(b, w)
		}
	}
	return b
}
