package storetest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"errors"
	"io"
	"time"

	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/internal/store"
	"github.com/touchmark/touchmark/ocsp/crl"
)

var crlCases = []conformance{
	{"revocation lists are kept with their bytes", crlsKept},
	{"a revocation list replaces the one before", crlsReplace},
	{"a revocation list that follows another than the newest is left out", crlsFollow},
	{"bytes of replaced lists go after a while", crlsTidied},
	{"lists of partitions end, and may begin again", crlsEnded},
}

// CRL is a list to be kept, with arbitrary bytes: the store does not look
// into it.
func CRL(issuer int64, s crl.Scope, number, follows int64, size int) *crl.Made {
	content := bytes.Repeat([]byte{byte(number), byte(number >> 8), byte(s.Partition)}, size/3+1)[:size]
	at := time.Unix(1_900_000_000+number, 0).UTC()
	return &crl.Made{Follows: follows, Content: bytesOf(content), Kept: crl.Kept{
		Issuer: issuer, Scope: s, Number: number, Seq: number * 2, ThisUpdate: at, NextUpdate: at.Add(time.Hour), Since: at.Add(-time.Hour),
		Entries: 3, Size: int64(size), Digest: sha256.Sum256(content)}}
}

// bytesOf writes the same bytes any number of times, a few at a time.
type bytesOf []byte

func (b bytesOf) WriteTo(w io.Writer) (int64, error) {
	return io.CopyBuffer(struct{ io.Writer }{w}, struct{ io.Reader }{bytes.NewReader(b)}, make([]byte, 100_000))
}

// CRLBytes reads the bytes of a list that is kept.
func CRLBytes(ctx context.Context, s *store.Store, k *crl.Kept) (all []byte, err error) {
	for n := 0; int64(len(all)) < k.Size; n++ {
		b, err := s.CRLChunk(ctx, k.Body, n)
		if err != nil {
			return nil, err
		}
		all = append(all, b...)
	}
	return all, nil
}

// holdsCRL checks that the newest list of a scope is the one that was made.
func (t *trial) holdsCRL(made *crl.Made) *crl.Kept {
	t.Helper()
	other := t.second()
	for _, k := range ok(other.CRLs(t.ctx, 0))(t) {
		if k.Issuer != made.Issuer || k.Scope != made.Scope {
			continue
		}
		want := made.Kept
		want.Body, want.Version = k.Body, k.Version
		same(t, "list "+k.Scope.String(), k, &want)
		if sha256.Sum256(ok(CRLBytes(t.ctx, other, k))(t)) != made.Digest {
			t.Errorf("list %s has other bytes than were made", k.Scope)
		}
		return k
	}
	t.Fatalf("there is no list %s", made.Scope)
	return nil
}

func crlsKept(t *trial) {
	full, delta := CRL(0, crl.Full, 7, 0, 3*crl.ChunkSize+1), CRL(0, crl.Delta, 7, 0, 300)
	exact, other := CRL(0, crl.Scope{Partitions: 4, Partition: 2}, 5, 0, 2*crl.ChunkSize), CRL(9, crl.Full, 1, 0, 20)
	delta.Base = 7
	leaf := t.leaves()
	made := []*crl.Made{full, delta, exact, other}
	kept := ok(t.store.KeepCRLs(t.ctx, "operator:anna", "device-ca: full", made))(t)
	if len(kept) != len(made) {
		t.Fatalf("%d lists are kept of %d", len(kept), len(made))
	}
	for i, m := range made {
		same(t, "kept", kept[i], t.holdsCRL(m))
	}
	l := t.leaf(leaf)
	if t.leaves() != leaf+1 || l.Act != "crl.make" || l.By != "operator:anna" || l.Note != "device-ca: full" || len(l.Objects) != len(made) || l.Objects[0].Kind != audit.KindCRL {
		t.Errorf("%d leaves, %+v", t.leaves()-leaf, l)
	}
	if list := ok(t.store.CRLs(t.ctx, kept[1].Version))(t); len(list) != 2 || list[0].Scope != exact.Scope {
		t.Errorf("after the second list there are %d", len(list))
	}
	if _, err := t.store.CRLChunk(t.ctx, kept[2].Body, 2); !errors.Is(err, crl.ErrGone) {
		t.Errorf("beyond the end of a list: %v", err)
	}
}

func crlsReplace(t *trial) {
	first := ok(t.store.KeepCRLs(t.ctx, "server", "", []*crl.Made{CRL(0, crl.Full, 3, 0, 2*crl.ChunkSize)}))(t)
	next := CRL(0, crl.Full, 4, 3, crl.ChunkSize+1)
	ok(t.store.KeepCRLs(t.ctx, "server", "", []*crl.Made{next}))(t)
	t.holdsCRL(next)
	if list := ok(t.store.CRLs(t.ctx, 0))(t); len(list) != 1 {
		t.Errorf("there are %d lists, want the newest alone", len(list))
	}
	if b, err := CRLBytes(t.ctx, t.store, first[0]); err != nil || sha256.Sum256(b) != first[0].Digest {
		t.Errorf("the replaced list, which may be on its way to a client: %v", err)
	}
}

func crlsFollow(t *trial) {
	keep := func(want int, made ...*crl.Made) {
		t.Helper()
		before := t.leaves()
		kept := ok(t.store.KeepCRLs(t.ctx, "server", "", made))(t)
		if grown := t.leaves() - before; len(kept) != want || (grown > 0) != (want > 0) {
			t.Errorf("%d lists are kept with %d leaves, want %d", len(kept), grown, want)
		}
	}
	partition := crl.Scope{Partitions: 2, Partition: 1}
	keep(2, CRL(0, crl.Full, 3, 0, 30), CRL(0, crl.Delta, 3, 0, 30))
	keep(0, CRL(0, crl.Full, 4, 0, 30), CRL(0, crl.Delta, 4, 0, 30))
	delta := CRL(0, crl.Delta, 5, 3, 30)
	keep(1, delta)
	keep(0, CRL(0, crl.Full, 6, 3, 30)) // the delta has taken the series further
	t.holdsCRL(delta)
	made := CRL(0, partition, 1, 0, 30)
	keep(1, made, CRL(0, crl.Full, 6, 4, 2*crl.ChunkSize))
	t.holdsCRL(made)
	full := CRL(0, crl.Full, 9, 5, 30)
	keep(2, full, CRL(0, crl.Delta, 9, 5, 30), CRL(0, partition, 1, 0, 30))
	t.holdsCRL(full)
}

func crlsEnded(t *trial) {
	var made []*crl.Made
	for _, n := range []int{2, 256} {
		for i := range n {
			made = append(made, CRL(0, crl.Scope{Partitions: n, Partition: i}, 5, 0, 30))
		}
	}
	other := CRL(9, crl.Scope{Partitions: 256}, 5, 0, 30)
	kept := ok(t.store.KeepCRLs(t.ctx, "server", "", append(made, other)))(t)
	leaf, newest := t.leaves(), kept[len(kept)-1].Version
	if n := ok(t.store.EndCRLs(t.ctx, "operator:anna", "device-ca: 256", 0, 256))(t); n != 256 {
		t.Errorf("%d lists ended", n)
	}
	if l := t.leaf(leaf); t.leaves() != leaf+2 || l.Act != "crl.end" || l.By != "operator:anna" || l.Note != "device-ca: 256" || len(l.Objects) != 128 || l.Objects[0].Kind != audit.KindCRL {
		t.Errorf("%d leaves, %+v", t.leaves()-leaf, l)
	}
	fresh := ok(t.second().CRLs(t.ctx, newest))(t)
	for _, k := range fresh {
		if !k.Ended() || k.Issuer != 0 || k.Scope.Partitions != 256 || k.Number != 5 {
			t.Errorf("other servers learn of %+v", k)
		}
	}
	if len(fresh) != 256 {
		t.Errorf("other servers learn of %d lists", len(fresh))
	}
	for _, m := range append(made[:2:2], other) {
		t.holdsCRL(m)
	}
	if n := ok(t.store.EndCRLs(t.ctx, "operator:anna", "", 0, 256))(t); n != 0 {
		t.Errorf("%d lists ended twice", n)
	}
	again := CRL(0, crl.Scope{Partitions: 256, Partition: 255}, 6, 5, 30)
	if kept := ok(t.store.KeepCRLs(t.ctx, "server", "", []*crl.Made{again}))(t); len(kept) != 1 {
		t.Error("a list that ended cannot begin again")
	}
	t.holdsCRL(again)
}

func crlsTidied(t *trial) {
	gone := ok(t.store.KeepCRLs(t.ctx, "server", "", []*crl.Made{CRL(0, crl.Full, 1, 0, 20*crl.ChunkSize)}))(t)[0]
	made := CRL(0, crl.Full, 2, 1, 2*crl.ChunkSize)
	ok(t.store.KeepCRLs(t.ctx, "server", "", []*crl.Made{made}))(t)
	half := CRL(0, crl.Full, 3, 2, 3*crl.ChunkSize)
	half.Content = breaksOff{half.Content.(bytesOf)}
	if _, err := t.store.KeepCRLs(t.ctx, "server", "", []*crl.Made{half}); !errors.Is(err, errBrokenOff) {
		t.Errorf("a list that could not be written: %v", err)
	}
	tidy := func(s *store.Store) (steps int) {
		for ; ok(s.TidyCRLs(t.ctx))(t); steps++ {
		}
		return steps
	}
	if n := tidy(t.store); n != 0 {
		t.Errorf("%d portions of lists were deleted that may be on their way to clients", n)
	}
	if n := tidy(OpenWith(t, store.Options{DSN: t.dsn, Now: func() time.Time { return time.Now().Add(time.Hour) }})); n != 3 {
		t.Errorf("%d portions were deleted, want two of the replaced list and one of that which was broken off", n)
	}
	if _, err := CRLBytes(t.ctx, t.store, gone); !errors.Is(err, crl.ErrGone) {
		t.Errorf("the replaced list an hour later: %v", err)
	}
	t.holdsCRL(made)
}

// breaksOff fails before the end.
type breaksOff struct{ bytesOf }

var errBrokenOff = errors.New("broken off")

func (b breaksOff) WriteTo(w io.Writer) (int64, error) {
	n, err := b.bytesOf[:len(b.bytesOf)-10].WriteTo(w)
	return n, errors.Join(err, errBrokenOff)
}
