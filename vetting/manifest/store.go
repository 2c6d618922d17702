package manifest

import (
	"context"

	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/vetting"
)

// Store keeps manifests and what is known about those who sign them. Its
// refusals are *vetting.Errors, above all NotFound where there is no such
// object. It may be used concurrently, also by several servers.
type Store interface {
	Order(ctx context.Context, name string) (*vetting.Order, error)
	Product(ctx context.Context, name string) (*vetting.Product, error)
	OperatorByKey(ctx context.Context, key vetting.Fingerprint) (*access.Operator, error)

	// Manifest returns a manifest that was accepted or awaits signatures;
	// ManifestByDigest that of an order with the same file.
	Manifest(ctx context.Context, id int64) (*vetting.Manifest, error)
	ManifestByDigest(ctx context.Context, order, sha256hex string) (*vetting.Manifest, error)

	// BeginManifest makes an invisible manifest that receives parts. One that
	// is never accepted is swept by the store in time.
	BeginManifest(ctx context.Context, m *vetting.Manifest) (id int64, err error)
	// AddManifestPart keeps one part of the file, durably when the manifest
	// is accepted; data is not used after the call.
	AddManifestPart(ctx context.Context, id int64, seq int, data []byte) error
	// DropManifest forgets a manifest that was not accepted, and leaves one
	// that was as it is: a caller drops after any failure.
	DropManifest(ctx context.Context, id int64) error
	// AcceptManifest makes a manifest visible, in one durable transaction
	// with its signatures: unsigned unless enough distinct operators signed;
	// then accepted, or unapproved if others have to approve it. The same file for the same order twice gives the
	// manifest that was there first, or fails with Exists.
	AcceptManifest(ctx context.Context, act access.Act, m *vetting.Manifest, sigs []Signature) (*vetting.Manifest, error)
	// AddManifestSignature adds one to an unsigned or unapproved manifest and
	// accepts it if nothing more is wanted; an operator's second changes nothing.
	AddManifestSignature(ctx context.Context, act access.Act, id int64, sig Signature) (*vetting.Manifest, error)
	// ManifestParts gives the parts in order. It stops at fn's first error
	// and returns it. While fn runs other methods may be called, LoadRecords
	// among them.
	ManifestParts(ctx context.Context, id int64, fn func(data []byte) error) error

	// LoadRecords stores records in one durable transaction. It is a Conflict,
	// and nothing is written, unless exactly `after` records were loaded
	// before. The manifest is loaded with the last one.
	LoadRecords(ctx context.Context, id, after int64, records []vetting.Record) (*vetting.Manifest, error)
	// ManifestsToLoad returns the accepted manifests whose records are not
	// all loaded.
	ManifestsToLoad(ctx context.Context) ([]*vetting.Manifest, error)
}
