package audit_test

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"fmt"
	"log/slog"
	"maps"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/audit"
)

// memory is a log with its objects, in memory, as a store would keep them.
// Tests reach into it to do what nobody should.
type memory struct {
	mu      sync.Mutex
	head    *audit.Tree
	leaves  map[int64][]byte
	objects []audit.Object
	kept    []byte // the newest checkpoint
	size    int64  // its size

	read     int // leaves read so far
	failHead error
	failRead error
	// failSave is what SaveCheckpoint returns; persist says whether it did
	// its work nevertheless.
	failSave error
	persist  bool
}

func newMemory() *memory {
	return &memory{head: &audit.Tree{}, leaves: map[int64][]byte{}, size: -1}
}

func (m *memory) Head(context.Context) (*audit.Tree, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	t := *m.head
	return &t, m.failHead
}

func (m *memory) Leaves(ctx context.Context, from, to int64, fn func(int64, []byte) error) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if m.failRead != nil {
		return m.failRead
	}
	run := func(i int64) error {
		if err := ctx.Err(); err != nil {
			return err
		}
		m.read++
		return fn(i, m.leaves[i])
	}
	if to-from < int64(len(m.leaves)) {
		for i := from; i < to; i++ {
			if _, ok := m.leaves[i]; ok {
				if err := run(i); err != nil {
					return err
				}
			}
		}
		return nil
	}
	for _, i := range slices.Sorted(maps.Keys(m.leaves)) {
		if i >= from && i < to {
			if err := run(i); err != nil {
				return err
			}
		}
	}
	return nil
}

func (m *memory) Objects(_ context.Context, fn func(audit.Object) error) error {
	for _, o := range m.objects {
		if err := fn(o); err != nil {
			return err
		}
	}
	return nil
}

func (m *memory) LastCheckpoint(context.Context) ([]byte, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.kept, m.failRead
}

func (m *memory) SaveCheckpoint(_ context.Context, size int64, signed []byte) error {
	m.mu.Lock()
	defer m.mu.Unlock()
	if (m.failSave == nil || m.persist) && size > m.size {
		m.kept, m.size = bytes.Clone(signed), size
	}
	return m.failSave
}

// append adds raw leaves.
func (m *memory) append(bodies ...[]byte) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, b := range bodies {
		m.leaves[m.head.Append(b)] = b
	}
}

// act does what a store does: changes objects and appends the leaf.
func (m *memory) act(name string, objects ...audit.Object) {
	l := audit.Leaf{Time: start.Add(time.Duration(m.head.Size()) * time.Second), Act: name, By: "server", Objects: objects}
	m.append(l.Encode())
	for _, o := range objects {
		if i := m.find(o.Kind, o.ID); i >= 0 {
			m.objects[i] = o
		} else {
			m.objects = append(m.objects, o)
		}
	}
}

func (m *memory) find(k audit.Kind, id int64) int {
	return slices.IndexFunc(m.objects, func(o audit.Object) bool { return o.Kind == k && o.ID == id })
}

var start = time.Date(2026, 11, 21, 8, 0, 0, 0, time.UTC)

func content(kind audit.Kind, id int64, version string) audit.Object {
	return audit.Object{Kind: kind, ID: id, Digest: audit.DigestOf(version)}
}

// factory is a log with n enrolments in it.
func factory(n int) *memory {
	m := newMemory()
	m.act("product.create", content(audit.KindProduct, 1, "meter"))
	m.act("order.create", content(audit.KindOrder, 1, "0 units"))
	m.act("manifest.load", content(audit.KindRecords, 1, "records 1 to n"))
	for i := 1; i <= n; i++ {
		id := int64(i)
		m.act("device.enrol", content(audit.KindDevice, id, fmt.Sprint("device", i)),
			content(audit.KindCertificate, id, fmt.Sprint("certificate", i)),
			content(audit.KindRegistration, id, fmt.Sprint("registration", i)),
			content(audit.KindOrder, 1, fmt.Sprint(i, "units")))
	}
	return m
}

// plain is a log of n short leaves.
func plain(n int) *memory {
	m := newMemory()
	for i := range n {
		m.append(fmt.Appendf(nil, "leaf %d", i))
	}
	return m
}

const origin = "ca.example.com/log"

func newKey(seed byte) ed25519.PrivateKey {
	return ed25519.NewKeyFromSeed(bytes.Repeat([]byte{seed}, ed25519.SeedSize))
}

func newSigner(t testing.TB, seed byte) *audit.Signer {
	t.Helper()
	s, err := audit.NewSigner(origin, newKey(seed))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func sign(t testing.TB, s *audit.Signer, tree *audit.Tree) []byte {
	t.Helper()
	b, err := s.SignCheckpoint(tree)
	if err != nil {
		t.Fatal(err)
	}
	return b
}

func quiet() *slog.Logger { return slog.New(slog.DiscardHandler) }
