package hook

import (
	"crypto/x509"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"log/slog"
	"os"
	"slices"
	"sync"
	"time"

	"github.com/touchmark/touchmark/ocsp/offline"
)

// Files are offline status files on disk, which others replace by newer ones.
type Files struct {
	paths Paths
	every time.Duration

	mu      sync.Mutex
	looked  time.Time
	seen    []os.FileInfo
	filters Filters
}

// Paths say where bases and deltas are, and of which issuing CAs they may be.
type Paths struct {
	Bases, Deltas []string
	Issuers       []*x509.Certificate
}

// Open reads files. They are looked at again when they are used, but not more
// often than every so often.
func Open(p Paths, every time.Duration) (*Files, error) {
	f := &Files{paths: p, every: every, looked: time.Now()}
	f.seen = f.stat()
	var err error
	f.filters, err = Load(p)
	return f, err
}

// Filters are those of the files as they are now. If what is there now cannot
// be used, or is older than what is in use, that is logged, and what was read
// before stays in use until its time is over.
func (f *Files) Filters(log *slog.Logger) Filters {
	f.mu.Lock()
	defer f.mu.Unlock()
	if time.Since(f.looked) < f.every {
		return f.filters
	}
	f.looked = time.Now()
	seen := f.stat()
	if same(seen, f.seen) {
		return f.filters
	}
	f.seen = seen
	next, err := Load(f.paths)
	if err == nil {
		err = next.supersede(f.filters)
	}
	if err != nil {
		log.Error("the offline status files changed, and are not used: what was read before stays in use", "error", err)
		return f.filters
	}
	for _, filter := range next {
		h := filter.Header()
		log.Info("offline status read", "issuer", filter.Issuer().Subject.String(), "number", h.Number, "of", h.ThisUpdate, "until", h.NextUpdate)
	}
	f.filters = next
	return next
}

func (f *Files) stat() []os.FileInfo {
	paths := slices.Concat(f.paths.Bases, f.paths.Deltas)
	out := make([]os.FileInfo, len(paths))
	for i, path := range paths {
		out[i], _ = os.Stat(path) // nil if it is not there
	}
	return out
}

func same(a, b []os.FileInfo) bool {
	for i := range a {
		switch {
		case a[i] == nil && b[i] == nil:
		case a[i] == nil || b[i] == nil || !os.SameFile(a[i], b[i]) || a[i].Size() != b[i].Size() || !a[i].ModTime().Equal(b[i].ModTime()):
			return false
		}
	}
	return true
}

// Filters are those of several issuing CAs.
type Filters []*offline.Filter

// Load reads the bases, and those deltas that belong to them: one may be
// missing or still that of the base before, since a base that has just been
// made has none.
func Load(p Paths) (Filters, error) {
	var out Filters
	for _, path := range p.Bases {
		filter, err := openBase(path, p.Issuers)
		if err != nil {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
		out = append(out, filter)
	}
	for _, path := range p.Deltas {
		delta, err := readFile(path)
		if err == nil {
			err = out.add(delta)
		}
		if err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, errNoBase) {
			return nil, fmt.Errorf("%s: %w", path, err)
		}
	}
	return out, nil
}

func openBase(path string, issuers []*x509.Certificate) (*offline.Filter, error) {
	file, err := readFile(path)
	if err != nil {
		return nil, err
	}
	header, err := offline.ReadHeader(file)
	if err != nil {
		return nil, err
	}
	for _, issuer := range issuers {
		if header.Issuer == offline.IssuerKey(issuer) {
			return offline.Open(file, issuer)
		}
	}
	return nil, fmt.Errorf("%w: it is of the issuing CA whose key has the SHA-256 %x, and no certificate of that CA was given", offline.ErrForeign, header.Issuer)
}

// maxFile is larger than the file of a billion certificates.
const maxFile = 1 << 30

func readFile(path string) ([]byte, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, err
	}
	defer f.Close()
	return io.ReadAll(io.LimitReader(f, maxFile))
}

// add applies a delta to the filter that it belongs to.
func (f Filters) add(delta []byte) error {
	header, err := offline.ReadHeader(delta)
	if err != nil {
		return err
	}
	if header.Kind != offline.Delta {
		return fmt.Errorf("%w: it is a base, not a delta", offline.ErrFile)
	}
	for i, filter := range f {
		if header.Base == filter.Digest() {
			f[i], err = filter.With(delta)
			return err
		}
	}
	return errNoBase
}

var errNoBase = errors.New("it is a delta of a base that is not among the files")

// supersede fails if one of other filters knows of later standings.
func (f Filters) supersede(others Filters) error {
	for _, other := range others {
		for _, own := range f {
			if own.Header().Issuer == other.Header().Issuer {
				if err := own.Supersedes(other); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// Check is that of the filter of the certificate's issuing CA.
func (f Filters) Check(cert *x509.Certificate, now time.Time) error {
	err := fmt.Errorf("%w: there is no filter", offline.ErrOtherIssuer)
	for _, filter := range f {
		if err = filter.Check(cert, now); !errors.Is(err, offline.ErrOtherIssuer) {
			return err
		}
	}
	return err
}

// inForce fails if one of the filters is outdated.
func (f Filters) inForce(now time.Time) error {
	for _, filter := range f {
		if err := filter.InForce(now); err != nil {
			return fmt.Errorf("%s: %w", filter.Issuer().Subject, err)
		}
	}
	return nil
}
