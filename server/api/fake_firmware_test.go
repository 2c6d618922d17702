package api_test

import (
	"context"

	"github.com/touchmark/touchmark/firmware-sign/content"
	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/approval"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// armoury has the key "lamp-1" and the release 61 with the artefact 62. Acts are
// the memory's.
type armoury struct{ *memory }

// did has the memory do an act that gives v.
func did[T any](f armoury, a access.Act, v *T, err error) (*T, error) {
	return act(f.memory, a, func() (*T, error) { return v, err })
}

func (armoury) one(what string, known bool) error {
	if known {
		return nil
	}
	return vetting.Errorf(vetting.NotFound, "there is no such %s", what)
}

func (armoury) FirmwareKeys(context.Context, string, vetting.Page) ([]*release.Key, error) {
	return []*release.Key{{ID: 60, Name: "lamp-1"}}, nil
}

func (f armoury) FirmwareKey(_ context.Context, name string) (*release.Key, error) {
	return &release.Key{ID: 60, Name: name}, f.one("key", name == "lamp-1")
}

func (f armoury) CreateFirmwareKey(_ context.Context, a access.Act, k *release.Key) (*release.Key, error) {
	return did(f, a, k, nil)
}

func (armoury) Releases(context.Context, release.Filter, vetting.Page) ([]*release.Release, error) {
	return []*release.Release{{ID: 61}}, nil
}

func (f armoury) Release(_ context.Context, id int64) (*release.Release, error) {
	return &release.Release{ID: id}, f.one("release", id == 61)
}

func (f armoury) CreateRelease(_ context.Context, a access.Act, r *release.Release) (*release.Release, error) {
	return did(f, a, r, nil)
}

func (f armoury) PublishRelease(ctx context.Context, a access.Act, id int64) (*release.Release, error) {
	r, err := f.Release(ctx, id)
	return did(f, a, r, err)
}

func (f armoury) Artefact(_ context.Context, id int64) (*release.Artefact, error) {
	return &release.Artefact{ID: id}, f.one("artefact", id == 62)
}

func (f armoury) AddArtefact(_ context.Context, a access.Act, id int64, part *release.Artefact) (*release.Artefact, error) {
	return did(f, a, part, f.one("release", id == 61))
}

func (f armoury) SignArtefact(ctx context.Context, a access.Act, id int64) (*release.Artefact, error) {
	part, err := f.Artefact(ctx, id)
	return did(f, a, part, err)
}

func (f armoury) KeepChecks(ctx context.Context, a access.Act, id int64, _ release.File, _ []release.Check) (*release.Artefact, error) {
	return f.SignArtefact(ctx, a, id)
}

func (f armoury) AttachDocument(ctx context.Context, a access.Act, id int64, _ release.Document, _ []byte) (*release.Release, error) {
	return f.PublishRelease(ctx, a, id)
}

func (f armoury) ReleaseDocument(_ context.Context, id int64, _ string) ([]byte, error) {
	return []byte("{}"), f.one("release", id == 61)
}

func (f armoury) SubmitRelease(ctx context.Context, a access.Act, id int64, _ string) (*release.Release, error) {
	return f.PublishRelease(ctx, a, id)
}

func (f armoury) ProposeYank(_ context.Context, a access.Act, id int64, _ string) (*approval.Proposal, error) {
	return did(f, a, f.proposal(), f.one("release", id == 61))
}

func (f armoury) YankImpact(_ context.Context, id int64) (*release.Impact, error) {
	return &release.Impact{Releases: []string{}}, f.one("release", id == 61)
}

func (armoury) FirmwarePolicy(context.Context, string) (*release.Policy, error) {
	return &release.Policy{Approvals: 2}, nil
}

func (f armoury) SetFirmwareApprovals(_ context.Context, a access.Act, _ string, n int) (*release.Policy, error) {
	return did(f, a, &release.Policy{Approvals: n}, nil)
}

func (f armoury) ProposeFloor(_ context.Context, a access.Act, _ string, _ uint32, _ string) (*approval.Proposal, error) {
	return did(f, a, f.proposal(), nil)
}

func (armoury) FloorImpact(context.Context, string, uint32) (*release.Impact, error) {
	return &release.Impact{Releases: []string{}}, nil
}

func (f armoury) RevokeFirmwareKey(_ context.Context, a access.Act, _, _ string) (*approval.Proposal, error) {
	return did(f, a, f.proposal(), nil)
}

func (armoury) KeyImpact(context.Context, string) (*release.Impact, error) {
	return &release.Impact{Releases: []string{}}, nil
}

func (armoury) NoteFirmware(context.Context, release.Running) error { return nil }

func (f armoury) ImportFirmwareKey(_ context.Context, a access.Act, k *release.Key) (*release.Key, error) {
	return did(f, a, k, nil)
}

func (f armoury) ImportSignatures(ctx context.Context, a access.Act, id int64, _ *release.Response) (*release.Release, error) {
	return f.PublishRelease(ctx, a, id)
}

func (armoury) StatementSignatures(context.Context, int64) ([]*release.StatementSignature, error) {
	return nil, nil
}

func (f armoury) SignStatement(ctx context.Context, a access.Act, id int64) ([]*release.StatementSignature, error) {
	_, err := f.PublishRelease(ctx, a, id)
	return nil, err
}

func (armoury) ContentKey(context.Context) (*content.WrappingKey, error) {
	return &content.WrappingKey{Hash: "SHA-256"}, nil
}

func (f armoury) KeepContent(ctx context.Context, a access.Act, id int64, _ release.File, _ []release.Check, _ *content.Sealed) (*release.Artefact, error) {
	return f.SignArtefact(ctx, a, id)
}

func (armoury) Recipients(context.Context, string, vetting.Page) ([]*release.Recipient, error) {
	return []*release.Recipient{{ID: 63}}, nil
}

func (f armoury) AddRecipient(_ context.Context, a access.Act, r *release.Recipient) (*release.Recipient, error) {
	return did(f, a, r, nil)
}

func (f armoury) RevokeRecipient(_ context.Context, a access.Act, id int64, _ string) (*release.Recipient, error) {
	return did(f, a, &release.Recipient{ID: id}, f.one("recipient", id == 63))
}

func (f armoury) WrapArtefact(_ context.Context, a access.Act, id int64, _ release.Wanted) (*api.Wraps, error) {
	return did(f, a, &api.Wraps{Ends: []api.WrapEnd{}}, f.one("artefact", id == 62))
}

func (f armoury) Wraps(_ context.Context, id int64, _ vetting.Page) ([]*release.Wrapped, error) {
	return []*release.Wrapped{{ID: 64}}, f.one("artefact", id == 62)
}
