package audit

import (
	"crypto"
	"encoding/base64"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"golang.org/x/mod/sumdb/note"
	"golang.org/x/mod/sumdb/tlog"
)

// Checkpoint is a log's tree head as C2SP tlog-checkpoint puts it. Extension
// lines, which that document advises against, are neither written nor kept.
type Checkpoint struct {
	Origin string    `json:"origin"` // the log's name
	Size   int64     `json:"size"`   // leaves
	Root   tlog.Hash `json:"root"`   // RFC 6962 §2.1
}

// MaxCheckpoint is the longest signed checkpoint that is looked at, in bytes.
const MaxCheckpoint = 16 << 10

// text is what gets signed.
func (c Checkpoint) text() string {
	return fmt.Sprintf("%s\n%d\n%s\n", c.Origin, c.Size, c.Root)
}

// Signer signs a log's checkpoints. It is a [note.Signer] over a key that may
// be kept anywhere.
type Signer struct {
	key      crypto.Signer
	vkey     string
	verifier note.Verifier
}

// NewSigner makes the signer of the log that is called origin, which should
// be the log's URL without scheme. The key must be Ed25519 or ECDSA on P-256.
func NewSigner(origin string, key crypto.Signer) (*Signer, error) {
	if err := checkOrigin(origin); err != nil {
		return nil, err
	}
	vkey, err := verifierKey(origin, key.Public())
	if err != nil {
		return nil, fmt.Errorf("verifier of the log %s: %w", origin, err)
	}
	v, err := ParseVerifier(vkey)
	if err != nil {
		return nil, fmt.Errorf("verifier of the log %s: %w", origin, err)
	}
	return &Signer{key, vkey, v}, nil
}

func checkOrigin(s string) error {
	bad := func(r rune) bool { return unicode.IsSpace(r) || unicode.IsControl(r) || r == '+' }
	if s == "" || len(s) > 255 || !utf8.ValidString(s) || strings.ContainsFunc(s, bad) {
		return fmt.Errorf("%q cannot name a log: want 1 to 255 bytes of UTF-8 without spaces, control characters and '+', such as ca.example.com/log", s)
	}
	return nil
}

// Name is the log's origin.
func (s *Signer) Name() string { return s.verifier.Name() }

// KeyHash identifies the key in a note's signature line.
func (s *Signer) KeyHash() uint32 { return s.verifier.KeyHash() }

// Sign signs a note's text. A signature that does not verify, as a broken
// key store may give, is an error.
func (s *Signer) Sign(msg []byte) ([]byte, error) {
	sig, err := signText(s.key, msg)
	if err != nil {
		return nil, fmt.Errorf("sign with the key of the log %s: %w", s.Name(), err)
	}
	if !s.verifier.Verify(msg, sig) {
		return nil, fmt.Errorf("the key of the log %s gave a signature that its own public key refuses", s.Name())
	}
	return sig, nil
}

// Verifier checks what the signer signed.
func (s *Signer) Verifier() note.Verifier { return s.verifier }

// VerifierKey is the verifier as text, "name+hash+key", for publication;
// [ParseVerifier] reads it.
func (s *Signer) VerifierKey() string { return s.vkey }

// SignCheckpoint signs the tree as a note.
func (s *Signer) SignCheckpoint(t *Tree) ([]byte, error) {
	c := Checkpoint{Origin: s.Name(), Size: t.Size(), Root: t.Root()}
	b, err := note.Sign(&note.Note{Text: c.text()}, s)
	if err != nil {
		return nil, fmt.Errorf("sign the checkpoint of %d leaves: %w", c.Size, err)
	}
	return b, nil
}

// OpenCheckpoint checks a note's signature and reads the checkpoint. The note
// may carry further signatures, by witnesses, and extension lines; its origin
// must be the verifier's name.
func OpenCheckpoint(signed []byte, v note.Verifier) (Checkpoint, error) {
	if len(signed) > MaxCheckpoint {
		return Checkpoint{}, fmt.Errorf("the checkpoint is %d bytes long: at most %d are accepted", len(signed), MaxCheckpoint)
	}
	n, err := note.Open(signed, note.VerifierList(v))
	var unverified *note.UnverifiedNoteError
	if errors.As(err, &unverified) {
		return Checkpoint{}, fmt.Errorf("the checkpoint is not signed by %s+%08x but by %s: %w",
			v.Name(), v.KeyHash(), signers(unverified.Note), err)
	}
	if err != nil {
		return Checkpoint{}, fmt.Errorf("the checkpoint cannot be trusted: %w", err)
	}
	c, err := parseCheckpoint(n.Text)
	if err != nil {
		return Checkpoint{}, err
	}
	if c.Origin != v.Name() {
		return Checkpoint{}, fmt.Errorf("the checkpoint is of the log %q, but its key belongs to the log %q", c.Origin, v.Name())
	}
	return c, nil
}

func signers(n *note.Note) string {
	names := make([]string, len(n.UnverifiedSigs))
	for i, s := range n.UnverifiedSigs {
		names[i] = fmt.Sprintf("%s+%08x", s.Name, s.Hash)
	}
	return strings.Join(names, ", ")
}

// parseCheckpoint reads the text of a note whose signature was checked.
func parseCheckpoint(text string) (Checkpoint, error) {
	lines := strings.Split(strings.TrimSuffix(text, "\n"), "\n")
	if len(lines) < 3 || lines[0] == "" {
		return Checkpoint{}, fmt.Errorf("the signed note %q is not a checkpoint: want the lines origin, size and root hash", clip(text))
	}
	size, err := strconv.ParseInt(lines[1], 10, 64)
	if err != nil || size < 0 || strconv.FormatInt(size, 10) != lines[1] {
		return Checkpoint{}, fmt.Errorf("the checkpoint's size %q is not a plain decimal number", clip(lines[1]))
	}
	root, err := parseRoot(lines[2])
	if err != nil {
		return Checkpoint{}, err
	}
	for _, l := range lines[3:] {
		if l == "" {
			return Checkpoint{}, errors.New("the checkpoint holds an empty extension line")
		}
	}
	return Checkpoint{Origin: lines[0], Size: size, Root: root}, nil
}

func parseRoot(s string) (h tlog.Hash, err error) {
	b, err := base64.StdEncoding.Strict().DecodeString(s)
	if err != nil || len(b) != len(h) {
		return h, fmt.Errorf("the checkpoint's root %q is not the base64 of %d bytes", clip(s), len(h))
	}
	copy(h[:], b)
	return h, nil
}

// clip keeps foreign text in a message short.
func clip(s string) string {
	const most = 100
	if len(s) <= most {
		return s
	}
	return s[:most] + "…"
}
