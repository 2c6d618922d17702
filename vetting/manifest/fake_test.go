package manifest

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

var now = time.Date(2026, 11, 21, 12, 0, 0, 0, time.UTC)

var errDisk = errors.New("injected: the disk is gone")

// fakeStore is a Store in memory that keeps to the contract and fails on
// demand.
type fakeStore struct {
	mu        sync.Mutex
	orders    map[string]*vetting.Order
	products  map[string]*vetting.Product
	operators map[vetting.Fingerprint]*access.Operator
	manifests map[int64]*stored
	lastID    int64
	// fault is asked before each writing call. It may fail the call, and say
	// that the write was done all the same.
	fault func(call string) (persisted bool, err error)
	// changed is signalled at every write.
	changed *sync.Cond
}

type stored struct {
	vetting.Manifest
	parts   map[int][]byte
	sigs    []Signature
	records []vetting.Record
}

func newFakeStore() *fakeStore {
	s := &fakeStore{
		orders: map[string]*vetting.Order{}, products: map[string]*vetting.Product{},
		operators: map[vetting.Fingerprint]*access.Operator{}, manifests: map[int64]*stored{},
	}
	s.changed = sync.NewCond(&s.mu)
	s.products["lamp"] = &vetting.Product{ID: 3, Name: "lamp", Proofs: []vetting.Proof{vetting.ProofBootstrapKey, vetting.ProofRig}}
	s.orders["PO-1"] = &vetting.Order{ID: 7, Name: "PO-1", Product: "lamp", Site: "shenzhen", Quantity: 100, State: vetting.OrderOpen, ManifestSignatures: 1, ProductID: 3, SiteID: 5}
	return s
}

// write runs one durable write under the fault plan.
func (s *fakeStore) write(call string, do func() error) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	defer s.changed.Broadcast()
	if s.fault != nil {
		if persisted, err := s.fault(call); err != nil {
			if persisted {
				if err := do(); err != nil {
					return err
				}
			}
			return err
		}
	}
	return do()
}

func (s *fakeStore) Order(_ context.Context, name string) (*vetting.Order, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.orders[name]; o != nil {
		c := *o
		return &c, nil
	}
	return nil, vetting.Errorf(vetting.NotFound, "no order %q", name)
}

func (s *fakeStore) Product(_ context.Context, name string) (*vetting.Product, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if p := s.products[name]; p != nil {
		return p, nil
	}
	return nil, vetting.Errorf(vetting.NotFound, "no product %q", name)
}

func (s *fakeStore) OperatorByKey(_ context.Context, key vetting.Fingerprint) (*access.Operator, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.operators[key]; o != nil {
		return o, nil
	}
	return nil, vetting.Errorf(vetting.NotFound, "no operator with key %s", key)
}

func (s *fakeStore) visible(id int64) (*stored, error) {
	if m := s.manifests[id]; m != nil && m.State != vetting.ManifestReceiving {
		return m, nil
	}
	return nil, vetting.Errorf(vetting.NotFound, "no manifest %d", id)
}

func (m *stored) copy() *vetting.Manifest {
	c := m.Manifest
	c.Signers = slices.Clone(c.Signers)
	return &c
}

func (s *fakeStore) Manifest(_ context.Context, id int64) (*vetting.Manifest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	m, err := s.visible(id)
	if err != nil {
		return nil, err
	}
	return m.copy(), nil
}

func (s *fakeStore) ManifestByDigest(_ context.Context, order, sum string) (*vetting.Manifest, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if m := s.byDigest(order, sum); m != nil {
		return m.copy(), nil
	}
	return nil, vetting.Errorf(vetting.NotFound, "no manifest %s of order %q", sum, order)
}

func (s *fakeStore) byDigest(order, sum string) *stored {
	for _, m := range s.manifests {
		if m.State != vetting.ManifestReceiving && m.Order == order && m.SHA256 == sum {
			return m
		}
	}
	return nil
}

func (s *fakeStore) BeginManifest(_ context.Context, m *vetting.Manifest) (id int64, err error) {
	err = s.write("BeginManifest", func() error {
		s.lastID++
		id = s.lastID
		s.manifests[id] = &stored{Manifest: *m, parts: map[int][]byte{}}
		s.manifests[id].ID = id
		return nil
	})
	return id, err
}

func (s *fakeStore) AddManifestPart(_ context.Context, id int64, seq int, data []byte) error {
	return s.write("AddManifestPart", func() error {
		m := s.manifests[id]
		if m == nil || m.State != vetting.ManifestReceiving || seq != len(m.parts) {
			return fmt.Errorf("part %d of manifest %d is out of place", seq, id)
		}
		m.parts[seq] = bytes.Clone(data)
		return nil
	})
}

func (s *fakeStore) DropManifest(_ context.Context, id int64) error {
	return s.write("DropManifest", func() error {
		if m := s.manifests[id]; m != nil && m.State == vetting.ManifestReceiving {
			delete(s.manifests, id)
		}
		return nil
	})
}

func (s *fakeStore) AcceptManifest(_ context.Context, act access.Act, m *vetting.Manifest, sigs []Signature) (out *vetting.Manifest, err error) {
	err = s.write("AcceptManifest", func() error {
		have := s.manifests[m.ID]
		if have == nil || have.State != vetting.ManifestReceiving {
			return vetting.Errorf(vetting.Conflict, "manifest %d is not being received", m.ID)
		}
		if s.byDigest(m.Order, m.SHA256) != nil {
			return vetting.Errorf(vetting.Exists, "the same file is there")
		}
		have.SHA256, have.Size, have.Records = m.SHA256, m.Size, m.Records
		have.State = vetting.ManifestUnsigned
		for _, sig := range sigs {
			have.sign(sig)
		}
		out = have.copy()
		return nil
	})
	return out, err
}

func (m *stored) sign(sig Signature) {
	if slices.Contains(m.Signers, sig.Operator) {
		return
	}
	m.Signers = append(m.Signers, sig.Operator)
	m.sigs = append(m.sigs, sig)
	if m.State == vetting.ManifestUnsigned && len(m.Signers) >= m.Wanted {
		m.State = vetting.ManifestAccepted
	}
}

func (s *fakeStore) AddManifestSignature(_ context.Context, act access.Act, id int64, sig Signature) (out *vetting.Manifest, err error) {
	err = s.write("AddManifestSignature", func() error {
		m, err := s.visible(id)
		if err != nil {
			return err
		}
		m.sign(sig)
		out = m.copy()
		return nil
	})
	return out, err
}

func (s *fakeStore) ManifestParts(_ context.Context, id int64, fn func([]byte) error) error {
	for seq := 0; ; seq++ {
		s.mu.Lock()
		var data []byte
		if m := s.manifests[id]; m != nil {
			data = m.parts[seq]
		}
		s.mu.Unlock()
		if data == nil {
			return nil
		}
		if err := fn(data); err != nil {
			return err
		}
	}
}

func (s *fakeStore) LoadRecords(_ context.Context, id, after int64, records []vetting.Record) (out *vetting.Manifest, err error) {
	err = s.write("LoadRecords", func() error {
		m, err := s.visible(id)
		if err != nil {
			return err
		}
		if m.State != vetting.ManifestAccepted || m.Loaded != after {
			return vetting.Errorf(vetting.Conflict, "manifest %d has %d records loaded, not %d", id, m.Loaded, after)
		}
		for i, r := range records {
			if r.Row != after+int64(i)+1 || r.ManifestID != id || r.OrderID != m.OrderID || r.ProductID != m.ProductID || r.SiteID != m.SiteID {
				return fmt.Errorf("record %d of manifest %d is out of place: %+v", after+int64(i)+1, id, r)
			}
		}
		m.records = append(m.records, records...)
		m.Loaded += int64(len(records))
		m.Fresh = m.Loaded
		if m.Loaded == m.Records {
			m.State = vetting.ManifestLoaded
		}
		out = m.copy()
		return nil
	})
	return out, err
}

func (s *fakeStore) ManifestsToLoad(context.Context) (out []*vetting.Manifest, err error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, m := range s.manifests {
		if m.State == vetting.ManifestAccepted {
			out = append(out, m.copy())
		}
	}
	return out, nil
}

// empty fails the test if anything is left of refused manifests.
func (s *fakeStore) empty(t *testing.T) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	if len(s.manifests) != 0 {
		t.Fatalf("%d manifests are left", len(s.manifests))
	}
}

// loadedOnce fails the test unless every record of a manifest of n is there
// exactly once and in order.
func (s *fakeStore) loadedOnce(t *testing.T, id int64, n int) {
	t.Helper()
	s.mu.Lock()
	defer s.mu.Unlock()
	m := s.manifests[id]
	if m == nil || m.State != vetting.ManifestLoaded || len(m.records) != n {
		t.Fatalf("manifest %d: %+v", id, m)
	}
	for i, r := range m.records {
		if r.Row != int64(i)+1 || r.Serial != serial(i+1) {
			t.Fatalf("record %d is %+v", i+1, r)
		}
	}
}

func serial(i int) string { return fmt.Sprintf("SN-%05d", i) }
