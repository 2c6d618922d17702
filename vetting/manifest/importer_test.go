package manifest

import (
	"bytes"
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"slices"
	"strings"
	"testing"
	"testing/iotest"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

var act = access.Act{Operator: "anna", Key: "k"}

func (f *factory) receive(content []byte, sigs ...[]byte) (*vetting.Manifest, error) {
	return f.Receive(context.Background(), act, "PO-1", vetting.FormatJSONLines, bytes.NewReader(content), SignedBy(sigs...))
}

// want fails unless err is a problem of this kind whose text contains text.
func want(t *testing.T, err error, p vetting.Problem, text string) {
	t.Helper()
	if vetting.ProblemOf(err) != p || !strings.Contains(err.Error(), text) {
		t.Fatalf("error %v (problem %v), want problem %v that mentions %q", err, vetting.ProblemOf(err), p, text)
	}
}

func TestReceiveAndLoad(t *testing.T) {
	f := newFactory(t)
	content := file(10)
	m, err := f.receive(content, f.anna.openssl(t, content, "-outform", "DER"))
	if err != nil {
		t.Fatal(err)
	}
	sum := sha256.Sum256(content)
	if m.SHA256 != hex.EncodeToString(sum[:]) || m.Size != int64(len(content)) || m.Records != 10 || !slices.Equal(m.Signers, []string{"anna"}) {
		t.Errorf("manifest %+v", m)
	}
	if m.OrderID != 7 || m.ProductID != 3 || m.SiteID != 5 || m.Site != "shenzhen" || m.Wanted != 1 || !m.Received.Equal(now) {
		t.Errorf("manifest %+v", m)
	}
	if m, err = f.Wait(t.Context(), m.ID); err != nil || m.State != vetting.ManifestLoaded {
		t.Fatalf("%+v, %v", m, err)
	}
	f.store.loadedOnce(t, m.ID, 10)
}

func TestManyPartsAndEverySignature(t *testing.T) {
	f := newFactory(t)
	f.Chunk = 0 // the default
	f.store.orders["PO-1"].ManifestSignatures = 2
	n := 30_000 // about 3 MB: several parts
	content := file(n)
	// Signatures with other digests are checked against the stored parts.
	m, err := f.Receive(t.Context(), act, "PO-1", vetting.FormatJSONLines, iotest.HalfReader(bytes.NewReader(content)), SignedBy(
		f.anna.openssl(t, content, "-outform", "PEM", "-md", "sha512"),
		f.bert.openssl(t, content, "-outform", "DER", "-md", "sha384")))
	if err != nil {
		t.Fatal(err)
	}
	if parts := len(f.store.manifests[m.ID].parts); parts != (len(content)+partSize-1)/partSize {
		t.Errorf("%d bytes in %d parts", len(content), parts)
	}
	if _, err = f.Wait(t.Context(), m.ID); err != nil {
		t.Fatal(err)
	}
	f.store.loadedOnce(t, m.ID, n)
}

func TestSignaturesThatAreNotAccepted(t *testing.T) {
	f := newFactory(t)
	content := file(3)
	rig := f.hire(t, "rig-7", newKey(t), access.RoleRig, "shenzhen")
	admin := f.hire(t, "root", newKey(t), access.RoleAdmin, "")
	elsewhere := f.hire(t, "carl", newKey(t), access.RoleSiteOperator, "dresden")
	gone := f.hire(t, "dora", newKey(t), access.RoleSiteOperator, "shenzhen")
	f.dismiss(gone)
	unknown := newPerson(t, "emil", newKey(t), f.ca)
	foreign := newPerson(t, "foreign-ca", newKey(t), nil)
	outside := newPerson(t, "anna", f.anna.key, foreign) // an operator's key, another CA's certificate
	good := f.anna.sign(t, content)
	for name, tt := range map[string]struct {
		sigs [][]byte
		want string
	}{
		"none":               {nil, "without a signature"},
		"by a rig":           {[][]byte{rig.sign(t, content)}, "role rig"},
		"by an admin":        {[][]byte{admin.sign(t, content)}, "role admin"},
		"of another site":    {[][]byte{elsewhere.sign(t, content)}, "another site"},
		"by a revoked one":   {[][]byte{gone.sign(t, content)}, "revoked"},
		"by nobody known":    {[][]byte{unknown.sign(t, content)}, "no operator"},
		"of another CA":      {[][]byte{outside.sign(t, content)}, "not acceptable"},
		"over other bytes":   {[][]byte{f.anna.sign(t, file(4))}, "over other bytes"},
		"not a signature":    {[][]byte{[]byte("hello")}, "neither DER nor PEM"},
		"empty":              {[][]byte{{}}, "neither DER nor PEM"},
		"the second wrong":   {[][]byte{good, rig.sign(t, content)}, "signature 2 of 2"},
		"a nesting bomb":     {[][]byte{bytes.Repeat([]byte{0x30, 0x80}, 32<<10)}, "nested"},
		"a large bomb":       {[][]byte{bytes.Repeat([]byte{0x30, 0x80}, 2<<20)}, "at most"},
		"too many":           {slices.Repeat([][]byte{good}, 9), "at most 8"},
		"without attributes": {[][]byte{f.anna.openssl(t, content, "-outform", "DER", "-noattr")}, "signed attributes"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := f.receive(content, tt.sigs...)
			want(t, err, vetting.Invalid, tt.want)
			f.store.empty(t)
		})
	}
}

func TestRefusedFilesLeaveNothing(t *testing.T) {
	f := newFactory(t)
	f.MaxBody = 5 << 20
	big := file(60_000)
	for name, tt := range map[string]struct {
		content string
		want    string
	}{
		"broken line":        {"{\"serial\":\"A\"}\nx\n", "line 2: not a JSON value"},
		"for another order":  {"{\"serial\":\"A\",\"order\":\"PO-2\"}\n", "PO-2"},
		"duplicate":          {"{\"serial\":\"A\"}\n{\"serial\":\"A\"}\n", "line 2: serial \"A\" is on line 1 already"},
		"duplicate far away": {string(file(30_000)) + "{\"serial\":\"" + serial(1) + "\"}\n", "line 30001"},
		"empty":              {"", "no record"},
		"too long":           {string(big), "longer than 5242880 bytes"},
	} {
		t.Run(name, func(t *testing.T) {
			content := []byte(tt.content)
			_, err := f.receive(content, f.anna.sign(t, content))
			want(t, err, vetting.Invalid, tt.want)
			f.store.empty(t)
		})
	}
	exact := big[:bytes.LastIndexByte(big[:5<<20], '\n')+1]
	f.MaxBody = int64(len(exact))
	if _, err := f.receive(exact, f.anna.sign(t, exact)); err != nil {
		t.Errorf("a file of exactly the limit: %v", err)
	}
}

func TestOrdersThatTakeNone(t *testing.T) {
	f := newFactory(t)
	content := file(1)
	sig := f.anna.sign(t, content)
	_, err := f.Receive(t.Context(), act, "PO-9", vetting.FormatCSV, strings.NewReader(""), SignedBy(sig))
	want(t, err, vetting.NotFound, "PO-9")
	_, err = f.Receive(t.Context(), act, "PO-1", "xlsx", strings.NewReader(""), SignedBy(sig))
	want(t, err, vetting.Invalid, "xlsx")
	for state, problem := range map[vetting.OrderState]vetting.Problem{
		vetting.OrderClosed: vetting.Conflict, vetting.OrderCancelled: vetting.Conflict, vetting.OrderDraft: 0,
	} {
		f.store.orders["PO-1"].State = state
		if _, err := f.receive(content, sig); vetting.ProblemOf(err) != problem || (problem == 0) != (err == nil) {
			t.Errorf("%s: %v", state, err)
		}
	}
}

func TestTheSameFileAgainIsTheSameManifest(t *testing.T) {
	f := newFactory(t)
	f.store.orders["PO-1"].ManifestSignatures = 2
	content := file(5)
	first, err := f.receive(content, f.anna.sign(t, content))
	if err != nil {
		t.Fatal(err)
	}
	for _, tt := range []struct {
		sig   []byte
		state vetting.ManifestState
	}{
		{f.anna.sign(t, content), vetting.ManifestUnsigned}, // the same operator counts once
		{f.bert.sign(t, content), vetting.ManifestAccepted},
	} {
		m, err := f.receive(content, tt.sig)
		if err != nil || m.ID != first.ID || m.State != tt.state {
			t.Fatalf("%+v, %v; want manifest %d %s", m, err, first.ID, tt.state)
		}
	}
	if _, err := f.Wait(t.Context(), first.ID); err != nil {
		t.Fatal(err)
	}
	m, err := f.receive(content, f.anna.sign(t, content))
	if err != nil || m.ID != first.ID || m.State != vetting.ManifestLoaded {
		t.Fatalf("%+v, %v", m, err)
	}
	if _, err := f.receive(content, f.anna.sign(t, file(6))); err == nil {
		t.Error("a wrong signature passed because the file is known")
	}
	if n := len(f.store.manifests); n != 1 {
		t.Errorf("%d manifests", n)
	}
	f.store.loadedOnce(t, first.ID, 5)
}

func TestTwoUploadsOfOneFileAtOnce(t *testing.T) {
	f := newFactory(t)
	content := file(20)
	sig := f.anna.sign(t, content)
	ids := make(chan int64, 8)
	for range cap(ids) {
		go func() {
			m, err := f.receive(content, sig)
			if err != nil {
				t.Error(err)
				ids <- 0
				return
			}
			ids <- m.ID
		}()
	}
	first := <-ids
	for range cap(ids) - 1 {
		if id := <-ids; id != first {
			t.Errorf("manifests %d and %d of one file", first, id)
		}
	}
	if _, err := f.Wait(t.Context(), first); err != nil {
		t.Fatal(err)
	}
	f.store.loadedOnce(t, first, 20)
	if n := len(f.store.manifests); n != 1 {
		t.Errorf("%d manifests", n)
	}
}

func TestSignaturesAddedLater(t *testing.T) {
	f := newFactory(t)
	f.store.orders["PO-1"].ManifestSignatures = 2
	content := file(5)
	m, err := f.receive(content, f.anna.sign(t, content), f.anna.openssl(t, content, "-outform", "PEM"))
	if err != nil || m.State != vetting.ManifestUnsigned {
		t.Fatalf("%+v, %v", m, err)
	}
	_, err = f.Wait(t.Context(), m.ID)
	want(t, err, vetting.Conflict, "1 of 2 signatures")
	add := func(sig []byte) (*vetting.Manifest, error) { return f.AddSignature(t.Context(), act, m.ID, sig) }

	_, err = add(f.bert.sign(t, file(4)))
	want(t, err, vetting.Invalid, "over other bytes")
	_, err = add(f.bert.openssl(t, file(4), "-outform", "DER", "-md", "sha512"))
	want(t, err, vetting.Invalid, "over other bytes")
	if again, err := add(f.anna.sign(t, content)); err != nil || again.State != vetting.ManifestUnsigned {
		t.Fatalf("%+v, %v", again, err)
	}
	if done, err := add(f.bert.openssl(t, content, "-outform", "PEM", "-md", "sha512")); err != nil || done.State != vetting.ManifestAccepted {
		t.Fatalf("%+v, %v", done, err)
	}
	if _, err := f.Wait(t.Context(), m.ID); err != nil {
		t.Fatal(err)
	}
	f.store.loadedOnce(t, m.ID, 5)
	// It is loaded; another signature is checked, but changes nothing.
	if late, err := add(f.bert.sign(t, content)); err != nil || late.State != vetting.ManifestLoaded {
		t.Fatalf("%+v, %v", late, err)
	}
	_, err = f.AddSignature(t.Context(), act, 99, f.bert.sign(t, content))
	want(t, err, vetting.NotFound, "99")
}

func TestEachWriteOfAnUploadFails(t *testing.T) {
	calls := []string{"BeginManifest", "AddManifestPart", "AcceptManifest"}
	for _, call := range calls {
		for _, persisted := range []bool{false, true} {
			t.Run(fmt.Sprintf("%s persisted=%v", call, persisted), func(t *testing.T) {
				f := newFactory(t)
				content := file(5)
				sig := f.anna.sign(t, content)
				f.store.fault = func(c string) (bool, error) {
					if c == call {
						return persisted, errDisk
					}
					return false, nil
				}
				if _, err := f.receive(content, sig); !errors.Is(err, errDisk) {
					t.Fatalf("error %v", err)
				}
				f.store.fault = nil
				m, err := f.receive(content, sig) // the site tries again
				if err != nil {
					t.Fatal(err)
				}
				if _, err := f.Wait(t.Context(), m.ID); err != nil {
					t.Fatal(err)
				}
				f.store.loadedOnce(t, m.ID, 5)
			})
		}
	}
}

func TestABrokenUploadLeavesNothing(t *testing.T) {
	f := newFactory(t)
	content := file(20_000)
	sig := f.anna.sign(t, content)
	ctx, cancel := context.WithCancel(t.Context())
	gone := errors.New("connection reset")
	body := io.MultiReader(bytes.NewReader(content[:len(content)/2]), readerFunc(func([]byte) (int, error) {
		cancel() // as net/http does
		return 0, gone
	}))
	if _, err := f.Receive(ctx, act, "PO-1", vetting.FormatJSONLines, body, SignedBy(sig)); !errors.Is(err, gone) {
		t.Errorf("error %v", err)
	}
	f.store.empty(t)
	// The signatures follow the file on the wire and may break off too.
	if _, err := f.Receive(t.Context(), act, "PO-1", vetting.FormatJSONLines, bytes.NewReader(content), func() ([][]byte, error) { return nil, gone }); !errors.Is(err, gone) {
		t.Errorf("error %v", err)
	}
	f.store.empty(t)
}

type readerFunc func([]byte) (int, error)

func (f readerFunc) Read(p []byte) (int, error) { return f(p) }

func TestTheSignersClockIsNotBelieved(t *testing.T) {
	f := newFactory(t)
	content := file(1)
	f.Now = func() time.Time { return now.Add(2 * time.Hour) } // the certificates ended an hour ago
	_, err := f.receive(content, f.anna.sign(t, content))
	want(t, err, vetting.Invalid, "expired")
}
