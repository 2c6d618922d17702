package offline

import (
	"crypto/sha256"
	"crypto/x509"
	"encoding/binary"
	"fmt"
)

// Filter answers for the certificates of one issuing CA. It does not change,
// so many may use it at the same time.
type Filter struct {
	issuer *x509.Certificate
	base   file
	delta  *file
	digest [sha256.Size]byte // of the base's bytes
}

// file is one file, verified.
type file struct {
	Header
	members, exact table
}

// Open verifies and reads a base. It keeps the bytes, which must not change.
// Whether the issuing CA itself is to be trusted is the caller's to know.
// Errors are ErrFile and ErrForeign.
func Open(bytes []byte, issuer *x509.Certificate) (*Filter, error) {
	f, err := read(bytes, issuer)
	if err != nil {
		return nil, err
	}
	if f.Kind != Base {
		return nil, fileErrorf("it is a delta of the base %s: open that first", short(f.Header.Base))
	}
	return &Filter{issuer: issuer, base: *f, digest: sha256.Sum256(bytes)}, nil
}

// With verifies and reads a delta of this filter's base, which takes the place
// of any other delta; the filter itself stays as it is. Errors are ErrFile,
// ErrForeign and ErrOlder.
func (f *Filter) With(delta []byte) (*Filter, error) {
	d, err := read(delta, f.issuer)
	switch {
	case err != nil:
		return nil, err
	case d.Kind != Delta:
		return nil, fileErrorf("it is a base, not a delta")
	case d.Header.Base != f.digest:
		return nil, fmt.Errorf("%w: the delta is for the base %s, this one is %s", ErrForeign, short(d.Header.Base), short(f.digest))
	}
	next := *f
	next.delta = d
	if err := next.Supersedes(f); err != nil {
		return nil, err
	}
	return &next, nil
}

// Supersedes fails with ErrOlder if another filter knows of later standings
// than this one, which must not take its place then: somebody may be holding
// back a revocation.
func (f *Filter) Supersedes(other *Filter) error {
	if own, others := f.Header().Number, other.Header().Number; own < others {
		return fmt.Errorf("%w: it has number %d, and %d is in use", ErrOlder, own, others)
	}
	return nil
}

// Header is that of the delta if there is one, else that of the base.
func (f *Filter) Header() Header {
	if f.delta != nil {
		return f.delta.Header
	}
	return f.base.Header
}

// Digest names the base, as its deltas do.
func (f *Filter) Digest() [sha256.Size]byte { return f.digest }

// Issuer is the CA that the filter is of.
func (f *Filter) Issuer() *x509.Certificate { return f.issuer }

func read(bytes []byte, issuer *x509.Certificate) (*file, error) {
	h, err := ReadHeader(bytes)
	if err != nil {
		return nil, err
	}
	if h.Issuer != IssuerKey(issuer) {
		return nil, fmt.Errorf("%w: it is of the issuing CA with key %s, %q has %s", ErrForeign, short(h.Issuer), issuer.Subject, short(IssuerKey(issuer)))
	}
	if err := verify(bytes, h, issuer); err != nil {
		return nil, err
	}
	return parse(h, bytes[headerSize:h.signed])
}

// parse reads the two tables behind a header.
func parse(h *Header, body []byte) (*file, error) {
	f := &file{Header: *h}
	rest, err := f.members.parse(1, body)
	if err == nil {
		rest, err = f.exact.parse(2, rest)
	}
	switch {
	case err != nil:
		return nil, err
	case len(rest) != 0:
		return nil, fileErrorf("%d bytes follow its tables", len(rest))
	case f.exact.columns > 1:
		return nil, fileErrorf("its second table has %d columns", f.exact.columns)
	}
	return f, nil
}

const (
	tableHead = 8 // before the directory: columns, shards
	shardHead = 4 // in the directory
)

// parse reads a table and returns what follows it. It takes no more memory
// than a few times the bytes there are.
func (t *table) parse(number uint64, b []byte) (rest []byte, err error) {
	le := binary.LittleEndian
	if len(b) < tableHead {
		return nil, fileErrorf("it ends before its table %d", number)
	}
	columns, shards := le.Uint32(b), le.Uint32(b[4:])
	b = b[tableHead:]
	if columns > 64 || uint64(shards)*shardHead > uint64(len(b)) {
		return nil, fileErrorf("its table %d claims %d columns in %d shards", number, columns, shards)
	}
	t.number, t.columns, t.shards = number, int(columns), make([]shard, shards)
	offset := 0
	for i := range t.shards {
		at := b[shardHead*i:]
		if at[3] != 0 {
			return nil, fileErrorf("byte 3 of shard %d of its table %d is not 0", i, number)
		}
		t.shards[i] = shard{offset, le.Uint16(at), at[2]}
		offset += 8 * int(t.shards[i].words) * t.columns
	}
	b = b[shardHead*len(t.shards):]
	if offset > len(b) {
		return nil, fileErrorf("its table %d claims %d bytes, and %d are left", number, offset, len(b))
	}
	t.bits = b[:offset]
	return b[offset:], nil
}

// differs reports whether a certificate is not good, in a delta: whether its
// standing is not that of the base.
func (f *file) differs(serial []byte) bool { return f.lists(keyOf(f.salt, serial)) != f.inverted }

// lists reports whether a key is one of those that the tables were made for.
func (f *file) lists(k key) bool {
	return (f.members.columns == 0 || f.members.holds(k, k.print())) && f.exact.holds(k, 1)
}

// NotGood reports whether a certificate is revoked or on hold: exactly, if it
// was issued by the CA, not after the filter was made, and has not run out.
// For any other serial number the answer means nothing. The number is a
// big.Int's Bytes.
func (f *Filter) NotGood(serial []byte) bool {
	out := f.base.differs(serial)
	if f.delta != nil {
		out = out != f.delta.differs(serial)
	}
	return out
}
