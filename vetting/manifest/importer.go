package manifest

import (
	"context"
	"crypto/sha256"
	"crypto/x509"
	"encoding/hex"
	"hash"
	"io"
	"log/slog"
	"sync"
	"time"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// Importer takes manifests in and loads their records. Its exported fields
// are set once, before use; it must not be copied. Call [Importer.Resume] at
// start and [Importer.Stop] at the end.
type Importer struct {
	Store Store
	// FactoryCAs gives the certificates of the CAs that site operators'
	// certificates are issued by.
	FactoryCAs func() *x509.CertPool
	Log        *slog.Logger
	// Now is the clock.
	Now func() time.Time
	// MaxBody is the largest file that is taken in, in bytes; 0 means
	// DefaultMaxBody.
	MaxBody int64
	// Chunk is how many records are loaded in one transaction; 0 means 5,000.
	Chunk int
	// Retry is how long the loader waits after its first failure; it doubles
	// with each further one up to a hundredfold. 0 means 3 seconds.
	Retry time.Duration

	loader loader
	once   sync.Once
}

// DefaultMaxBody bounds a manifest file unless the configuration does.
const DefaultMaxBody = 4 << 30

// Signatures gives the signatures that came along with a file, each a
// detached CMS message over its exact bytes, DER or PEM. It is called when
// the file was read to its end, so they may follow it on the wire.
type Signatures func() ([][]byte, error)

// SignedBy is the Signatures of messages that are at hand.
func SignedBy(sigs ...[]byte) Signatures {
	return func() ([][]byte, error) { return sigs, nil }
}

// Receive takes a manifest in for an order: it streams the file from body
// once, checks every line, finds duplicates, verifies the signatures, and
// accepts it whole or not at all. The result is accepted, its records being
// loaded in the background, or unsigned as long as fewer site operators than
// the order wants have signed. The same file for the same order again gives
// the manifest that is there, with signatures that are new added.
//
// Errors: *LineErrors lists what is wrong in the file; a *vetting.Error says
// Invalid for a wrong or missing signature and an oversized file, NotFound
// for the order, Conflict for an order that takes no manifests any more.
// After any error nothing of the file remains.
func (im *Importer) Receive(ctx context.Context, act access.Act, order string, format vetting.ManifestFormat, body io.Reader, sigs Signatures) (*vetting.Manifest, error) {
	in, err := im.begin(ctx, order, format)
	if err != nil {
		return nil, err
	}
	m, err := in.run(act, body, sigs)
	if err != nil || m.ID != in.manifest.ID {
		im.drop(ctx, in.manifest.ID)
	}
	if err != nil {
		return nil, err
	}
	im.loadIfAccepted(m)
	return m, nil
}

// drop forgets an upload even if the request is over already.
func (im *Importer) drop(ctx context.Context, id int64) {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), time.Minute)
	defer cancel()
	if err := im.Store.DropManifest(ctx, id); err != nil && vetting.ProblemOf(err) != vetting.NotFound {
		im.Log.WarnContext(ctx, "a refused manifest could not be dropped and waits for the sweeper", "manifest", id, "error", err)
	}
}

// intake is one upload.
type intake struct {
	*Importer
	ctx      context.Context
	order    *vetting.Order
	rules    Rules
	manifest *vetting.Manifest
	sum      hash.Hash // of the whole file
	size     counter
}

func (im *Importer) begin(ctx context.Context, order string, format vetting.ManifestFormat) (*intake, error) {
	o, err := im.Store.Order(ctx, order)
	if err != nil {
		return nil, err
	}
	if o.State != vetting.OrderDraft && o.State != vetting.OrderOpen {
		return nil, vetting.Errorf(vetting.Conflict, "order %s is %s and takes no manifests", o.Name, o.State)
	}
	p, err := im.Store.Product(ctx, o.Product)
	if err != nil {
		return nil, err
	}
	in := &intake{Importer: im, ctx: ctx, order: o, sum: sha256.New()}
	if in.rules, err = RulesFor(o, p); err != nil {
		return nil, err
	}
	if _, err := open(nil, format); err != nil {
		return nil, err
	}
	now := im.Now()
	in.manifest = &vetting.Manifest{
		Order: o.Name, Site: o.Site, Format: format, State: vetting.ManifestReceiving,
		Wanted: o.ManifestSignatures, Received: now, Updated: now,
		OrderID: o.ID, ProductID: o.ProductID, SiteID: o.SiteID,
	}
	in.manifest.ID, err = im.Store.BeginManifest(ctx, in.manifest)
	return in, err
}

// run returns the manifest that was accepted, or an earlier one of the same
// file.
func (in *intake) run(act access.Act, body io.Reader, sigs Signatures) (*vetting.Manifest, error) {
	if err := in.stream(body); err != nil {
		return nil, err
	}
	messages, err := sigs()
	if err != nil {
		return nil, err
	}
	signed, err := in.verify(in.ctx, in.manifest, messages)
	if err != nil {
		return nil, err
	}
	if m, err := in.earlier(act, signed); m != nil || err != nil {
		return m, err
	}
	m, err := in.Store.AcceptManifest(in.ctx, act, in.manifest, signed)
	if p := vetting.ProblemOf(err); p == vetting.Exists || p == vetting.Conflict {
		// The same file may have been accepted in the meantime.
		if m, again := in.earlier(act, signed); m != nil && again == nil {
			return m, nil
		}
	}
	return m, err
}

// stream stores, digests and checks the file while it arrives.
func (in *intake) stream(body io.Reader) error {
	parts, err := newPartWriter(in.ctx, in.Store, in.manifest.ID)
	if err != nil {
		return err
	}
	most := in.MaxBody
	if most == 0 {
		most = DefaultMaxBody
	}
	tee := io.TeeReader(&bounded{body, most, most}, io.MultiWriter(in.sum, &in.size, parts))
	stored := false
	finish := func() error {
		if stored {
			return nil
		}
		stored = true
		return parts.flush()
	}
	records, err := check(tee, func() (io.ReadCloser, error) {
		if err := finish(); err != nil {
			return nil, err
		}
		return readParts(in.ctx, in.Store, in.manifest.ID), nil
	}, in.manifest.Format, in.rules)
	if err != nil {
		return err
	}
	if err := finish(); err != nil {
		return err
	}
	in.manifest.SHA256 = hex.EncodeToString(in.sum.Sum(nil))
	in.manifest.Size, in.manifest.Records = int64(in.size), records
	return nil
}

// earlier finds the manifest of the same file, if there is one, and adds
// what signatures it lacks.
func (in *intake) earlier(act access.Act, signed []Signature) (*vetting.Manifest, error) {
	m, err := in.Store.ManifestByDigest(in.ctx, in.order.Name, in.manifest.SHA256)
	if vetting.ProblemOf(err) == vetting.NotFound {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return in.addSignatures(in.ctx, act, m, signed)
}

// counter counts bytes written to it.
type counter int64

func (c *counter) Write(p []byte) (int, error) {
	*c += counter(len(p))
	return len(p), nil
}

// bounded fails instead of reading more than it may.
type bounded struct {
	r         io.Reader
	left, max int64
}

func (b *bounded) Read(p []byte) (int, error) {
	if b.left == 0 {
		var one [1]byte
		n, err := io.ReadFull(b.r, one[:])
		if n > 0 {
			return 0, vetting.Errorf(vetting.Invalid, "the manifest is longer than %d bytes: split it", b.max)
		}
		return 0, err
	}
	n, err := b.r.Read(p[:min(int64(len(p)), b.left)])
	b.left -= int64(n)
	return n, err
}
