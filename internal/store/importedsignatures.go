package store

import (
	"bytes"
	"context"
	"fmt"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// ImportSignatures keeps what an offline key signed for a release, all of it
// or nothing, if it may still be signed. Signatures that are there stay.
func (s *Store) ImportSignatures(ctx context.Context, a access.Act, id int64, in *release.Response) (*release.Release, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		row, r, err := w.releaseNow(id)
		if err != nil {
			return 0, err
		}
		keys, err := w.firmwareKeysNamed(r.KeyNames())
		if err != nil {
			return 0, err
		}
		before := r.State
		changed, err := r.Import(in, keys)
		if err != nil || len(changed) == 0 {
			return id, conflict(err)
		}
		var objects []audit.Object
		for _, part := range changed {
			objects = append(objects, w.saveArtefact(row.ID, part))
		}
		if r.State != before {
			objects = append(objects, w.saveRelease(row, r))
		}
		w.leaf("release.import", operatorOf(a), fmt.Sprintf("%s, by the key %s", r.Name(), nameOfKey(keys, in.PublicKey)), objects...)
		return id, nil
	})
	if err != nil {
		return nil, err
	}
	return s.Release(ctx, id)
}

func nameOfKey(keys []*release.Key, public []byte) string {
	for _, k := range keys {
		if bytes.Equal(k.PublicKey, public) {
			return k.Name
		}
	}
	return ""
}

// unusedKey refuses a public key that signs firmware already: under another
// name it would go on signing when the first one is revoked. There are few
// keys, and seldom a new one.
func (w *writing) unusedKey(k *release.Key) error {
	var used error
	w.fetch(`SELECT `+firmwareKeyColumns+` FROM firmware_keys fk`, nil, func(from row) error {
		have := new(firmwareKeyRow)
		if err := have.scan(from); err != nil {
			return err
		}
		other, err := have.key()
		if err == nil && bytes.Equal(other.PublicKey, k.PublicKey) {
			used = vetting.Errorf(vetting.Conflict, "that is the key %s: make another one", other.Name)
		}
		return err
	})
	if err := w.flush(); err != nil {
		return err
	}
	return used
}
