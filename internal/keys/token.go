package keys

import (
	"context"
	"crypto"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"net/url"
	"slices"
	"strings"
	"sync"
	"time"

	"go.step.sm/crypto/kms"
	"go.step.sm/crypto/kms/apiv1"
)

// token is a token of an HSM. All its keys share one login and one pool of
// sessions. When it is lost it is opened anew, by the next signature that
// wants it.
type token struct {
	uri string // of the first key that wanted it

	mu      sync.Mutex
	manager apiv1.KeyManager // nil while it is lost
	opened  int              // how often it was
	next    time.Time        // from when on it may be opened anew
	wait    time.Duration
	lost    error // of the last try
	barred  bool  // it refused the PIN, and may lock itself
}

// A token that is lost is looked for this often: the wait doubles from the
// one to the other.
const (
	firstWait = 500 * time.Millisecond
	lastWait  = 2 * time.Second
)

// tokens are those that are in use. It is one for the process because PKCS#11
// is: C_Initialize and a login hold for all of it.
var tokens = struct {
	sync.Mutex
	of map[string]*token
}{of: map[string]*token{}}

// tokenOf opens the token of a key, or gives the one that is open.
func tokenOf(ctx context.Context, uri string) (*token, error) {
	if !havePKCS11 {
		return nil, errors.New("this build has no PKCS#11: use touchmark-pkcs11, which `make build` puts beside touchmark")
	}
	name, err := tokenName(uri)
	if err != nil {
		return nil, err
	}
	tokens.Lock()
	defer tokens.Unlock()
	if t := tokens.of[name]; t != nil {
		return t, nil
	}
	t := &token{uri: uri, wait: firstWait}
	if t.manager, err = openManager(ctx, uri); err != nil {
		return nil, err
	}
	tokens.of[name] = t
	return t, nil
}

// tokenName is a key's URI without what names the key.
func tokenName(uri string) (string, error) {
	if err := checkURI(uri); err != nil {
		return "", err
	}
	path, query, _ := strings.Cut(strings.TrimPrefix(uri, "pkcs11:"), "?")
	parts := slices.DeleteFunc(strings.Split(path, ";"), func(p string) bool {
		name, _, _ := strings.Cut(p, "=")
		return name == "id" || name == "object" || name == "type"
	})
	slices.Sort(parts)
	q, err := url.ParseQuery(query)
	if err != nil {
		return "", err
	}
	return strings.Join(parts, ";") + "?" + q.Encode(), nil
}

func openManager(ctx context.Context, uri string) (apiv1.KeyManager, error) {
	m, err := kms.New(ctx, apiv1.Options{URI: uri})
	if err != nil {
		return nil, fmt.Errorf("open key manager of %s: %w", Redact(uri), redacted(uri, err))
	}
	return m, nil
}

// inToken reports whether a URI names a key in a token of an HSM.
func inToken(uri string) bool { return strings.HasPrefix(uri, "pkcs11:") }

// use gives the manager that is open and its number.
func (t *token) use() (apiv1.KeyManager, int, error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.manager == nil {
		return nil, t.opened, t.lost
	}
	return t.manager, t.opened, nil
}

// reopen opens the token anew, unless it was since the manager of that number,
// or it is too early to try again.
func (t *token) reopen(failed int) error {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := time.Now()
	switch {
	case t.opened != failed:
		return nil
	case t.barred, now.Before(t.next):
		return t.lost
	}
	t.next, t.wait = now.Add(t.wait), min(2*t.wait, lastWait)
	if t.manager != nil {
		// Only after the last context of a module is closed is it initialized
		// again; what a token that is gone says to that does not matter.
		_ = t.manager.Close()
		t.manager = nil
	}
	m, err := openManager(context.Background(), t.uri)
	if err != nil {
		t.lost = fmt.Errorf("the token of an HSM is lost: %w", err)
		t.barred = strings.Contains(err.Error(), "CKR_PIN_")
		return t.lost
	}
	t.manager, t.lost = m, nil
	t.opened++
	return nil
}

// well notes that a key of the token signed after it was opened anew.
func (t *token) well() {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.wait, t.next = firstWait, time.Time{}
}

// tokenKey is a key in a token.
type tokenKey struct {
	token  *token
	uri    string
	public crypto.PublicKey

	mu     sync.Mutex
	signer crypto.Signer
	opened int // the token's, when signer was made
}

func openTokenKey(ctx context.Context, uri string) (crypto.Signer, error) {
	t, err := tokenOf(ctx, uri)
	if err != nil {
		return nil, err
	}
	k := &tokenKey{token: t, uri: uri, opened: -1}
	signer, opened, err := k.current()
	if err != nil && t.reopen(opened) == nil { // it may have been lost while nobody used it
		signer, _, err = k.current()
	}
	if err != nil {
		return nil, err
	}
	k.public = signer.Public()
	return k, nil
}

// createTokenKey makes a key in a token. It cannot be read out: crypto11 sets
// CKA_SENSITIVE, and CKA_EXTRACTABLE to false.
func createTokenKey(ctx context.Context, wanted *apiv1.CreateKeyRequest) (crypto.Signer, error) {
	uri := wanted.Name
	t, err := tokenOf(ctx, uri)
	if err != nil {
		return nil, err
	}
	opened, err := t.create(wanted)
	if err != nil && !errors.Is(err, fs.ErrExist) && t.reopen(opened) == nil {
		_, err = t.create(wanted)
	}
	if err != nil {
		return nil, err
	}
	return openTokenKey(ctx, uri)
}

// create makes a key in the token as it is open now, which opened numbers.
func (t *token) create(wanted *apiv1.CreateKeyRequest) (opened int, err error) {
	m, opened, err := t.use()
	if err != nil {
		return opened, err
	}
	_, err = m.CreateKey(wanted)
	switch uri := wanted.Name; {
	case errors.Is(err, apiv1.AlreadyExistsError{}):
		return opened, existing(Redact(uri))
	case err != nil:
		return opened, fmt.Errorf("make key %s: %w", Redact(uri), redacted(uri, err))
	}
	return opened, nil
}

func (k *tokenKey) Public() crypto.PublicKey { return k.public }

// Sign signs, and if that fails once more with the token opened anew. Why a
// signature failed is not looked into: modules differ in what they say when
// their token is gone.
func (k *tokenKey) Sign(rand io.Reader, digest []byte, opts crypto.SignerOpts) ([]byte, error) {
	return k.use("sign", func(s crypto.Signer) ([]byte, error) { return s.Sign(rand, digest, opts) })
}

// use does something with the key, and if that fails once more with the token
// opened anew.
func (k *tokenKey) use(what string, do func(crypto.Signer) ([]byte, error)) ([]byte, error) {
	signer, opened, err := k.current()
	if err == nil {
		var out []byte
		if out, err = do(signer); err == nil {
			return out, nil
		}
		if answered(err) {
			return nil, fmt.Errorf("%s with %s: %w", what, Redact(k.uri), redacted(k.uri, err))
		}
	}
	if again := k.token.reopen(opened); again != nil {
		return nil, fmt.Errorf("%s with %s: %w", what, Redact(k.uri), again)
	}
	if signer, _, err = k.current(); err != nil {
		return nil, err
	}
	out, err := do(signer)
	if err != nil {
		return nil, fmt.Errorf("%s with %s: %w", what, Redact(k.uri), redacted(k.uri, err))
	}
	k.token.well()
	return out, nil
}

// current is the key in the token as it is open now.
func (k *tokenKey) current() (crypto.Signer, int, error) {
	m, opened, err := k.token.use()
	if err != nil {
		return nil, opened, err
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.signer != nil && k.opened == opened {
		return k.signer, opened, nil
	}
	s, err := m.CreateSigner(&apiv1.CreateSignerRequest{SigningKey: k.uri})
	if err != nil {
		return nil, opened, fmt.Errorf("open key %s: %w", Redact(k.uri), redacted(k.uri, err))
	}
	if pub, ok := k.public.(interface{ Equal(crypto.PublicKey) bool }); ok && !pub.Equal(s.Public()) {
		return nil, opened, errors.New("the key " + Redact(k.uri) + " is another one than before: the token was changed for another")
	}
	k.signer, k.opened = s, opened
	return s, opened, nil
}
