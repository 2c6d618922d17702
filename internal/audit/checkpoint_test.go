package audit_test

import (
	"crypto"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"errors"
	"fmt"
	"io"
	"strings"
	"testing"

	"golang.org/x/mod/sumdb/note"

	"github.com/touchmark/touchmark/internal/audit"
)

func TestCheckpointRoundTrip(t *testing.T) {
	for _, s := range []*audit.Signer{newSigner(t, 1), ecdsaSigner(t, elliptic.P256())} {
		roundTrip(t, s)
	}
}

func roundTrip(t *testing.T, s *audit.Signer) {
	v, err := audit.ParseVerifier(" " + s.VerifierKey() + "\n")
	if err != nil {
		t.Fatal(err)
	}
	for _, n := range []int{0, 1, 2, 255, 256, 1000} {
		m := plain(n)
		signed := sign(t, s, m.head)
		want := fmt.Sprintf("%s\n%d\n%s\n\n— %s ", origin, n, m.head.Root(), origin)
		if !strings.HasPrefix(string(signed), want) {
			t.Fatalf("checkpoint is %q, want it to begin with %q", signed, want)
		}
		c, err := audit.OpenCheckpoint(signed, v)
		if err != nil {
			t.Fatal(err)
		}
		if c.Origin != origin || c.Size != int64(n) || c.Root != m.head.Root() {
			t.Fatalf("checkpoint of %d leaves came back as %+v", n, c)
		}
	}
}

func TestCheckpointRefused(t *testing.T) {
	s, other := newSigner(t, 1), newSigner(t, 2)
	signed := string(sign(t, s, plain(5).head))
	elsewhere, err := audit.NewSigner("elsewhere", newKey(1))
	if err != nil {
		t.Fatal(err)
	}
	witnessed, err := note.Sign(&note.Note{Text: signed[:strings.Index(signed, "\n\n")+1]}, other, s)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := audit.OpenCheckpoint(witnessed, s.Verifier()); err != nil {
		t.Errorf("a checkpoint with a witness's signature too: %v", err)
	}
	signText := func(by note.Signer, text string) string {
		b, err := note.Sign(&note.Note{Text: text}, by)
		if err != nil {
			t.Fatal(err)
		}
		return string(b)
	}
	const root = "47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU="
	for name, c := range map[string]struct{ note, says string }{
		"empty":              {"", "cannot be trusted"},
		"other key":          {string(sign(t, other, plain(5).head)), "not signed by ca.example.com/log+"},
		"size changed":       {strings.Replace(signed, "\n5\n", "\n6\n", 1), "invalid signature"},
		"other origin":       {signText(elsewhere, "elsewhere\n0\n"+root+"\n"), "not signed by"},
		"origin not the key": {signText(s, "elsewhere\n0\n"+root+"\n"), "belongs to the log"},
		"leading zero":       {signText(s, origin+"\n05\n"+root+"\n"), "plain decimal"},
		"negative":           {signText(s, origin+"\n-1\n"+root+"\n"), "plain decimal"},
		"too great":          {signText(s, origin+"\n9223372036854775808\n"+root+"\n"), "plain decimal"},
		"short root":         {signText(s, origin+"\n0\n47DE\n"), "base64 of 32 bytes"},
		"no root":            {signText(s, origin+"\n0\n"), "not a checkpoint"},
		"go checksum tree":   {signText(s, "go.sum database tree\n0\n"+root+"\n"), "belongs to the log"},
		"long":               {signed + strings.Repeat("\n", audit.MaxCheckpoint), "at most"},
	} {
		_, err := audit.OpenCheckpoint([]byte(c.note), s.Verifier())
		if err == nil || !strings.Contains(err.Error(), c.says) {
			t.Errorf("%s: error %v, want one with %q", name, err, c.says)
		}
	}
	if _, err := audit.OpenCheckpoint([]byte(signText(s, origin+"\n0\n"+root+"\nextension\n")), s.Verifier()); err != nil {
		t.Errorf("an extension line: %v", err)
	}
}

func TestSignerRefusesBadNames(t *testing.T) {
	for _, name := range []string{"", "a b", "a+b", "a\nb", "a\x01", "\xff", strings.Repeat("x", 256), "a\u00a0b"} {
		if _, err := audit.NewSigner(name, newKey(1)); err == nil {
			t.Errorf("origin %q was accepted", name)
		}
	}
}

func ecdsaSigner(t *testing.T, curve elliptic.Curve) *audit.Signer {
	t.Helper()
	key, err := ecdsa.GenerateKey(curve, rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s, err := audit.NewSigner(origin, key)
	if err != nil {
		t.Fatal(err)
	}
	return s
}

func TestSignerRefusesOtherKeys(t *testing.T) {
	k, err := ecdsa.GenerateKey(elliptic.P384(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := audit.NewSigner(origin, k); err == nil || !strings.Contains(err.Error(), "want Ed25519 or ECDSA on P-256") {
		t.Errorf("error %v, want one that says which keys are good", err)
	}
}

// What another log, Sigstore's Rekor, signed with ECDSA years ago is read as
// its own verifiers read it.
func TestForeignECDSACheckpoint(t *testing.T) {
	const key = "rekor.sigstore.dev+c0d23d6a+AjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNhtmPtrWm3U1eQXBogSMdGvXwBcK5AW5i0hrZLOC96l+smGNM7nwZ4QvFK/4sueRoVj//QP22Ni4Qt9DPfkWLc="
	const signed = "Rekor\n798034\nf+7CoKgXKE/tNys9TTXcr/ad6U/K3xvznmzew9y6SP0=\n\n— rekor.sigstore.dev wNI9ajBEAiARInWIWyCdyG27CO6LPnPekyw20qO0YJfoaPaowGp/XgIgc+qEHS3+GKVClgqq20uDLet7MCoTURUCRdxwWBHHufk=\n"
	v, err := audit.ParseVerifier(key)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := note.Open([]byte(signed), note.VerifierList(v)); err != nil {
		t.Error(err)
	}
	if _, err := note.Open([]byte(strings.Replace(signed, "798034", "798035", 1)), note.VerifierList(v)); err == nil {
		t.Error("it counts with another size")
	}
}

// badKey is a key store that answers wrongly or not at all.
type badKey struct {
	crypto.Signer
	err error
}

func (k badKey) Sign(io.Reader, []byte, crypto.SignerOpts) ([]byte, error) {
	return make([]byte, 64), k.err
}

func TestSignerChecksItsKey(t *testing.T) {
	broken := errors.New("the HSM is unplugged")
	for _, failure := range []error{nil, broken} {
		s, err := audit.NewSigner(origin, badKey{newKey(1), failure})
		if err != nil {
			t.Fatal(err)
		}
		if b, err := s.SignCheckpoint(&audit.Tree{}); err == nil || !errors.Is(err, failure) && failure != nil {
			t.Errorf("signed %q, error %v, with a key that fails with %v", b, err, failure)
		}
	}
}

func TestParseVerifierRefuses(t *testing.T) {
	bad := []string{"", "x", "+", "++Ag==", "x+00000000+Ag=="}
	for _, good := range []string{newSigner(t, 1).VerifierKey(), ecdsaSigner(t, elliptic.P256()).VerifierKey()} {
		name, rest, _ := strings.Cut(good, "+")
		hash, key, _ := strings.Cut(rest, "+")
		bad = append(bad, good[:len(good)-4], good+"AAAA", name+"+00000000+"+key, "a b+"+hash+"+"+key, "+"+hash+"+"+key)
	}
	for _, s := range append(bad, strings.Replace(newSigner(t, 1).VerifierKey(), "ca.", "cb.", 1)) {
		if _, err := audit.ParseVerifier(s); err == nil {
			t.Errorf("%q was accepted", s)
		}
	}
}

func FuzzOpenCheckpoint(f *testing.F) {
	s := newSigner(f, 1)
	f.Add(string(sign(f, s, plain(5).head)), false)
	f.Add(origin+"\n0\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\n", true)
	f.Add(origin+"\n12\n47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=\nextension\n", true)
	f.Fuzz(func(t *testing.T, text string, signIt bool) {
		if signIt { // so that what is behind the signature is reached
			b, err := note.Sign(&note.Note{Text: text}, s)
			if err != nil {
				return
			}
			text = string(b)
		}
		c, err := audit.OpenCheckpoint([]byte(text), s.Verifier())
		if err != nil {
			if c != (audit.Checkpoint{}) {
				t.Fatalf("refused, but returned %+v", c)
			}
			return
		}
		if want := fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, c.Root); !strings.HasPrefix(text, want) || c.Origin != origin || c.Size < 0 {
			t.Fatalf("%q was read as %+v", text, c)
		}
	})
}

func FuzzParseVerifier(f *testing.F) {
	f.Add(newSigner(f, 1).VerifierKey())
	f.Add("rekor.sigstore.dev+c0d23d6a+AjBZMBMGByqGSM49AgEGCCqGSM49AwEHA0IABNhtmPtrWm3U1eQXBogSMdGvXwBcK5AW5i0hrZLOC96l+smGNM7nwZ4QvFK/4sueRoVj//QP22Ni4Qt9DPfkWLc=")
	f.Add("x+00000000+Ag==")
	f.Fuzz(func(t *testing.T, text string) {
		v, err := audit.ParseVerifier(text)
		if err != nil {
			return
		}
		if want := fmt.Sprintf("%s+%08x+", v.Name(), v.KeyHash()); !strings.HasPrefix(strings.ToLower(strings.TrimSpace(text)), strings.ToLower(want)) {
			t.Fatalf("%q was read as the verifier %s", text, want)
		}
		if v.Verify([]byte("text"), nil) {
			t.Fatalf("%q verifies what nobody signed", text)
		}
	})
}

func FuzzParseLeaf(f *testing.F) {
	f.Add(factory(1).leaves[3])
	f.Add([]byte(`{"t":"0000-01-01T00:00:00+23:59","act":"","by":"","obj":null}`))
	f.Add([]byte(`{"t":"9999-12-31T23:59:59-01:00","act":"","by":"","obj":[]}`))
	f.Fuzz(func(t *testing.T, b []byte) {
		l, err := audit.ParseLeaf(b)
		if err != nil {
			return
		}
		once := l.Encode()
		again, err := audit.ParseLeaf(once)
		if err != nil {
			t.Fatalf("%q was read, but its encoding %q was not: %v", b, once, err)
		}
		if twice := again.Encode(); string(twice) != string(once) {
			t.Fatalf("%q became %q", once, twice)
		}
	})
}

func FuzzDigest(f *testing.F) {
	text, _ := audit.DigestOf("x").MarshalText()
	f.Add(text)
	f.Add(append(text[:42:42], '_'))
	f.Fuzz(func(t *testing.T, b []byte) {
		before := audit.DigestOf("before")
		d := before
		if err := d.UnmarshalText(b); err != nil {
			if d != before {
				t.Fatalf("%q was refused, but changed the digest", b)
			}
			return
		}
		if text, _ := d.MarshalText(); string(text) != string(b) {
			t.Fatalf("%q and %q are the same digest", b, text)
		}
	})
}
