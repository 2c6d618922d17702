package audit_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/touchmark/touchmark/internal/audit"
)

func verify(t *testing.T, m *memory, o audit.Options) *audit.Report {
	t.Helper()
	r, err := audit.Verify(t.Context(), m, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func TestVerifyGoodLog(t *testing.T) {
	for _, n := range []int{0, 1, 2, 60, 61, 62, 500} {
		m, s := newMemory(), newSigner(t, 1)
		checkpoints := [][]byte{sign(t, s, m.head)}
		m = factory(n)
		checkpoints = append(checkpoints, sign(t, s, m.head), sign(t, s, factory(n/2).head))
		r := verify(t, m, audit.Options{Checkpoints: checkpoints, Verifier: s.Verifier()})
		if !r.OK() || len(r.Findings) > 0 {
			t.Fatalf("%d enrolments: %+v", n, r.Findings)
		}
		if r.Size != int64(n)+3 || r.Leaves != r.Size || r.Root != m.head.Root() || len(r.Checkpoints) != 3 ||
			r.Objects[audit.KindDevice] != int64(n) || r.Objects[audit.KindOrder] != 1 ||
			!r.First.Equal(start) || !r.Last.Equal(start.Add(time.Duration(n+2)*time.Second)) {
			t.Fatalf("%d enrolments: %+v", n, r)
		}
	}
	if r := verify(t, newMemory(), audit.Options{}); !r.OK() || r.Size != 0 {
		t.Errorf("an empty log: %+v", r)
	}
}

// found lists findings as "problem from-to kind id".
func found(r *audit.Report) []string {
	var out []string
	for _, f := range r.Findings {
		s := fmt.Sprintf("%s %d-%d", f.Problem, f.From, f.To)
		if f.Kind != "" {
			s += fmt.Sprintf(" %s %d", f.Kind, f.ID)
		}
		out = append(out, s)
	}
	slices.Sort(out)
	return out
}

// TestVerifyFinds tampers with a log of 103 leaves (64+32+4+2+1) in each way
// and says what must be found, neither more nor less. Leaf i, from 3, is the
// enrolment of device i-2.
func TestVerifyFinds(t *testing.T) {
	for name, c := range map[string]struct {
		change func(m *memory)
		want   []string
	}{
		"object changed": {func(m *memory) {
			m.objects[m.find(audit.KindDevice, 9)].Digest[0] ^= 1
		}, []string{"object-changed 11-12 device 9"}},
		"object rolled back": {func(m *memory) {
			m.objects[m.find(audit.KindOrder, 1)] = content(audit.KindOrder, 1, "50 units")
		}, []string{"object-changed 102-103 order 1"}},
		"object removed": {func(m *memory) {
			i := m.find(audit.KindCertificate, 40)
			m.objects = slices.Delete(m.objects, i, i+1)
		}, []string{"object-gone 42-43 certificate 40"}},
		"object added": {func(m *memory) {
			m.objects = append(m.objects, content(audit.KindCertificate, 4711, "forged"))
		}, []string{"object-unlogged -1--1 certificate 4711"}},
		"objects added twice": {func(m *memory) {
			m.objects = append(m.objects, content(audit.KindCertificate, -5, "forged"), content(audit.KindCertificate, -5, "forged"))
		}, []string{"object-repeated -1--1 certificate -5", "object-unlogged -1--1 certificate -5"}},
		"object doubled": {func(m *memory) {
			m.objects = append(m.objects, m.objects[7])
		}, []string{"object-repeated -1--1 certificate 2"}},
		"kind unheard of": {func(m *memory) {
			m.objects = append(m.objects, content("licence", 1, "x"))
		}, []string{"object-unlogged -1--1 licence 1"}},
		"records run changed": {func(m *memory) {
			m.objects[m.find(audit.KindRecords, 1)].Digest[5] ^= 1
		}, []string{"object-changed 2-3 records 1"}},
		"leaf changed in a word": {func(m *memory) {
			m.leaves[70] = []byte(strings.Replace(string(m.leaves[70]), "server", "sarver", 1))
		}, []string{"tree-mismatch 64-96"}},
		"leaf's object changed": {func(m *memory) {
			l, _ := audit.ParseLeaf(m.leaves[101])
			l.Objects[0].Digest[0] ^= 1
			m.leaves[101] = l.Encode()
		}, []string{"object-changed 101-102 device 99", "tree-mismatch 100-102"}},
		"leaf and object changed alike": {func(m *memory) {
			l, _ := audit.ParseLeaf(m.leaves[70])
			l.Objects[0] = content(audit.KindDevice, 68, "forged")
			m.leaves[70] = l.Encode()
			m.objects[m.find(audit.KindDevice, 68)] = l.Objects[0]
		}, []string{"tree-mismatch 64-96"}},
		"leaf replaced by another": {func(m *memory) {
			m.leaves[30] = m.leaves[29]
		}, []string{"object-unlogged -1--1 certificate 28", "object-unlogged -1--1 device 28", "object-unlogged -1--1 registration 28", "tree-mismatch 0-64"}},
		"leaf unreadable": {func(m *memory) {
			m.leaves[102] = []byte("{")
		}, []string{"leaf-malformed 102-103", "object-changed 101-102 order 1", "object-unlogged -1--1 certificate 100",
			"object-unlogged -1--1 device 100", "object-unlogged -1--1 registration 100", "tree-mismatch 102-103"}},
		"leaf removed": {func(m *memory) {
			delete(m.leaves, 70)
		}, []string{"leaf-missing 70-71", "object-unlogged -1--1 certificate 68", "object-unlogged -1--1 device 68", "object-unlogged -1--1 registration 68"}},
		"leaf removed and another changed": {func(m *memory) {
			delete(m.leaves, 70)
			m.leaves[0] = []byte(strings.Replace(string(m.leaves[0]), "server", "sarver", 1))
		}, []string{"leaf-missing 70-71", "object-unlogged -1--1 certificate 68", "object-unlogged -1--1 device 68", "object-unlogged -1--1 registration 68", "tree-mismatch 0-64"}},
		"leaf removed, the others moved up": {func(m *memory) {
			for i := int64(100); i < 102; i++ {
				m.leaves[i] = m.leaves[i+1]
			}
			delete(m.leaves, 102)
		}, []string{"leaf-missing 102-103", "object-unlogged -1--1 certificate 98", "object-unlogged -1--1 device 98", "object-unlogged -1--1 registration 98", "tree-mismatch 100-102"}},
		"leaves swapped": {func(m *memory) {
			m.leaves[10], m.leaves[11] = m.leaves[11], m.leaves[10]
		}, []string{"time-backwards 11-12", "tree-mismatch 0-64"}},
		"clock went back": {func(m *memory) {
			l := audit.Leaf{Time: start, Act: "late", By: "server"}
			m.append(l.Encode())
			m.act("next") // in time again, but not after a time of its own
		}, []string{"time-backwards 103-104"}},
		"end cut off": {func(m *memory) {
			delete(m.leaves, 101)
			delete(m.leaves, 102)
		}, []string{"leaf-missing 101-103", "object-changed 100-101 order 1", "object-unlogged -1--1 certificate 100", "object-unlogged -1--1 certificate 99",
			"object-unlogged -1--1 device 100", "object-unlogged -1--1 device 99", "object-unlogged -1--1 registration 100", "object-unlogged -1--1 registration 99"}},
		"beginning cut off": {func(m *memory) {
			delete(m.leaves, 0)
		}, []string{"leaf-missing 0-1", "object-unlogged -1--1 product 1"}},
		"leaf slipped in at the end": {func(m *memory) {
			m.leaves[103] = m.leaves[102]
		}, []string{"leaf-surplus 103-104"}},
		"head of another log": {func(m *memory) {
			m.head = plain(103).head
		}, []string{"tree-mismatch 0-64", "tree-mismatch 100-102", "tree-mismatch 102-103", "tree-mismatch 64-96", "tree-mismatch 96-100"}},
		"head rolled back": {func(m *memory) {
			m.head = factory(99).head
		}, []string{"leaf-surplus 102-103", "object-changed 101-102 order 1", "object-unlogged -1--1 certificate 100", "object-unlogged -1--1 device 100", "object-unlogged -1--1 registration 100"}},
		"head astronomical": {func(m *memory) {
			b := append(make([]byte, 32), m.head.Frontier()...)
			h, err := audit.OpenTree(1<<60+103, b)
			if err != nil {
				panic(err)
			}
			m.head = h
		}, []string{fmt.Sprintf("leaf-missing 103-%d", int64(1<<60+103))}},
	} {
		t.Run(name, func(t *testing.T) {
			m := factory(100)
			c.change(m)
			r := verify(t, m, audit.Options{})
			if got := found(r); !slices.Equal(got, c.want) || r.OK() || r.Total != int64(len(c.want)) {
				t.Errorf("found %q\nwant  %q", got, c.want)
			}
			for _, f := range r.Findings {
				if len(f.Text) < 15 || !strings.HasSuffix(f.Text, ".") {
					t.Errorf("text %q is not a sentence", f.Text)
				}
			}
		})
	}
}

// TestEveryByteCounts changes every byte of a leaf, one at a time.
func TestEveryByteCounts(t *testing.T) {
	m := factory(3)
	for i, good := range m.leaves {
		for at := range good {
			bad := slices.Clone(good)
			bad[at] ^= 1
			m.leaves[i] = bad
			if r := verify(t, m, audit.Options{}); r.OK() {
				t.Errorf("leaf %d as %q passes", i, bad)
			}
		}
		m.leaves[i] = good
	}
}

// TestVerifyAgainstCheckpoints has an insider who rewrites leaves, head and
// objects alike, and an auditor who kept checkpoints.
func TestVerifyAgainstCheckpoints(t *testing.T) {
	s := newSigner(t, 1)
	kept := [][]byte{sign(t, s, factory(90).head), sign(t, s, factory(20).head), sign(t, s, factory(50).head)}
	rewritten := func(from, n int) *memory {
		m := newMemory()
		good := factory(n)
		m.objects = good.objects
		for i := range good.head.Size() {
			b := good.leaves[i]
			if i == int64(from) {
				b = []byte(strings.Replace(string(b), "server", "sarver", 1))
			}
			m.append(b)
		}
		return m
	}
	for name, c := range map[string]struct {
		m      *memory
		notes  [][]byte
		want   []string
		proved int
	}{
		"early leaf":     {rewritten(10, 100), kept, []string{"checkpoint 0-23", "checkpoint 0-53", "checkpoint 0-93"}, 0},
		"later leaf":     {rewritten(60, 100), kept, []string{"checkpoint 53-93"}, 2},
		"last leaf":      {rewritten(92, 100), kept, []string{"checkpoint 53-93"}, 2},
		"after them all": {rewritten(93, 100), kept, nil, 3},
		"truncated":      {factory(80), kept, []string{"checkpoint 83-93"}, 2},
		"other key":      {factory(100), [][]byte{sign(t, newSigner(t, 2), factory(5).head)}, []string{"checkpoint -1--1"}, 0},
		"garbage":        {factory(100), [][]byte{nil, []byte("x")}, []string{"checkpoint -1--1", "checkpoint -1--1"}, 0},
		"the same twice": {factory(100), [][]byte{kept[0], kept[0]}, nil, 2},
	} {
		r := verify(t, c.m, audit.Options{Checkpoints: c.notes, Verifier: s.Verifier()})
		if got := found(r); !slices.Equal(got, c.want) || len(r.Checkpoints) != c.proved {
			t.Errorf("%s: found %q and %d good checkpoints, want %q and %d", name, got, len(r.Checkpoints), c.want, c.proved)
		}
	}
	gap := factory(100)
	delete(gap.leaves, 50)
	r := verify(t, gap, audit.Options{Checkpoints: kept, Verifier: s.Verifier()})
	got := slices.DeleteFunc(found(r), func(s string) bool { return strings.HasPrefix(s, "object") })
	if want := []string{"checkpoint 23-53", "checkpoint 23-93", "leaf-missing 50-51"}; !slices.Equal(got, want) {
		t.Errorf("with a gap: found %q, want %q", got, want)
	}
	if r := verify(t, factory(100), audit.Options{Checkpoints: kept[:1]}); found(r)[0] != "checkpoint -1--1" {
		t.Errorf("without a verifier: %q", found(r))
	}
}

func TestVerifyBoundsFindings(t *testing.T) {
	m := factory(500)
	m.objects = nil
	r := verify(t, m, audit.Options{MaxFindings: 10})
	if len(r.Findings) != 10 || r.Total != 1503 {
		t.Errorf("%d findings of %d", len(r.Findings), r.Total)
	}
	if r.Findings[0].From != 0 || r.Findings[9].From > 10 {
		t.Errorf("findings %+v are not the first ones", r.Findings)
	}
}

func TestVerifyProgress(t *testing.T) {
	m := factory(5000)
	last := map[audit.Stage][2]int64{}
	var calls int
	verify(t, m, audit.Options{Progress: func(s audit.Stage, done, total int64) {
		calls++
		if done < last[s][0] || done > total {
			t.Errorf("%s: %d of %d after %v", s, done, total, last[s])
		}
		last[s] = [2]int64{done, total}
	}})
	want := map[audit.Stage][2]int64{audit.StageLeaves: {5003, 5003}, audit.StageObjects: {15003, 15003}}
	if fmt.Sprint(last) != fmt.Sprint(want) || calls != 2+4 {
		t.Errorf("progress ended at %v after %d calls", last, calls)
	}
}

func TestVerifyReadErrors(t *testing.T) {
	m := factory(5)
	m.failHead = errors.New("head away")
	if _, err := audit.Verify(t.Context(), m, audit.Options{}); !errors.Is(err, m.failHead) {
		t.Errorf("error %v", err)
	}
	m.failHead, m.failRead = nil, errors.New("leaves away")
	if _, err := audit.Verify(t.Context(), m, audit.Options{}); !errors.Is(err, m.failRead) {
		t.Errorf("error %v", err)
	}
	m.failRead = nil
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := audit.Verify(ctx, m, audit.Options{}); !errors.Is(err, context.Canceled) {
		t.Errorf("error %v", err)
	}
}

func TestReportAsJSON(t *testing.T) {
	m := factory(1)
	m.objects[0].Digest[0] ^= 1
	b, err := json.Marshal(verify(t, m, audit.Options{}))
	if err != nil {
		t.Fatal(err)
	}
	for _, want := range []string{`"size":4`, `"objects":{`, `"checkpoints":[]`, `"problem":"object-changed"`, `"kind":"product"`, `"total":1`} {
		if !strings.Contains(string(b), want) {
			t.Errorf("%s lacks %s", b, want)
		}
	}
}

func BenchmarkVerify(b *testing.B) {
	m := factory(20000)
	for b.Loop() {
		if r, err := audit.Verify(b.Context(), m, audit.Options{}); err != nil || !r.OK() {
			b.Fatal(err, r)
		}
	}
	b.ReportMetric(float64(m.head.Size())*float64(b.N)/b.Elapsed().Seconds(), "leaves/s")
}
