package store

import (
	"context"
	"fmt"

	"github.com/touchmark/touchmark/firmware-sign/release"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/internal/audit"
	"github.com/touchmark/touchmark/vetting"
)

// AddArtefact keeps what somebody wants signed for a release. For production
// the release must be a draft; another artefact of that name in it is
// replaced, and keeps its number.
func (s *Store) AddArtefact(ctx context.Context, a access.Act, id int64, part *release.Artefact) (*release.Artefact, error) {
	made, err := s.act(ctx, a, func(w *writing) (int64, error) {
		row, r, err := w.releaseNow(id)
		if err != nil {
			return 0, err
		}
		if err := w.checkArtefact(r, part); err != nil {
			return 0, err
		}
		to := *part
		to.By, to.Created, to.Signatures, to.Signed, to.Checks = a.Operator, w.now, nil, nil, nil
		have := r.Artefact(part.Name)
		switch {
		case part.Stage == release.Test, have == nil:
			to.ID = w.ids(1)
			w.exec(`INSERT INTO artefacts (id, release_id, stage, body) VALUES ($1, $2, $3, '')`, to.ID, id, string(to.Stage))
		case have.Same(&to):
			return have.ID, nil
		default:
			to.ID = have.ID
		}
		objects := []audit.Object{w.saveArtefact(id, &to)}
		if part.Stage == release.Production {
			if err := w.releaseChanged(a, r); err != nil { // its statement is another one now
				return 0, err
			}
			objects = append(objects, w.saveRelease(row, r))
		}
		w.leaf("artefact.add", operatorOf(a), artefactNote(r, &to), objects...)
		return to.ID, nil
	})
	if err != nil {
		return nil, err
	}
	return s.Artefact(ctx, made)
}

// checkArtefact says what is wrong with an artefact that is handed in.
func (w *writing) checkArtefact(r *release.Release, part *release.Artefact) error {
	if part.Stage == release.Production {
		if err := r.Edit(); err != nil {
			return conflict(err)
		}
		if len(r.Artefacts) >= release.MaxArtefacts && r.Artefact(part.Name) == nil {
			return vetting.Errorf(vetting.Conflict, "release %s has %d artefacts already, which is as many as it can have", r.Name(), release.MaxArtefacts)
		}
	}
	keys, err := w.firmwareKeysNamed(part.Keys)
	if err != nil {
		return err
	}
	return conflict(release.CheckArtefact(r, part, keys))
}

func (w *writing) saveArtefact(of int64, a *release.Artefact) audit.Object {
	row := &artefactRow{ID: a.ID, ReleaseID: of, Stage: string(a.Stage), Body: mustJSON(a)}
	w.exec(`UPDATE artefacts SET body = $2 WHERE id = $1`, row.ID, row.Body)
	return row.object()
}

func artefactNote(r *release.Release, a *release.Artefact) string {
	return fmt.Sprintf("%s of %s, %s", a.Name, r.Name(), a.Source.SHA256)
}

// onArtefact reads an artefact and its release as they are in this
// transaction. One for production is the release's own.
func (w *writing) onArtefact(id int64) (*releaseRow, *release.Release, *release.Artefact, error) {
	row := new(artefactRow)
	w.fetch(`SELECT `+artefactColumns+` FROM artefacts ar WHERE ar.id = $1`, []any{id}, row.scan)
	if err := w.flush(); err != nil {
		return nil, nil, nil, err
	}
	if row.ID == 0 {
		return nil, nil, nil, notFound("artefact", id)
	}
	of, r, err := w.releaseNow(row.ReleaseID)
	if err != nil {
		return nil, nil, nil, err
	}
	a, err := row.artefact()
	if err == nil && a.Stage == release.Production {
		a = r.Artefact(a.Name)
	}
	return of, r, a, err
}

// KeepSignatures keeps the signatures that were made for an artefact, if they
// may still be made and are over what it is now. Those of somebody who came
// first stay, and are what is returned.
func (s *Store) KeepSignatures(ctx context.Context, a access.Act, id int64, signatures [][]byte) (*release.Artefact, error) {
	return s.changeArtefact(ctx, a, id, "artefact.sign", func(w *writing, r *release.Release, part *release.Artefact) (bool, error) {
		keys, err := w.firmwareKeysNamed(part.Keys)
		if err != nil {
			return false, err
		}
		if _, err := release.Allow(r, part, keys); err != nil {
			return false, conflict(err)
		}
		if len(part.Signatures) > 0 {
			return false, nil
		}
		if err := part.Accept(signatures); err != nil {
			return false, conflict(err)
		}
		r.Advance()
		return true, nil
	})
}

// KeepChecks keeps how the signed file of an artefact was verified, and what
// file that is. One that is encrypted comes with its secret (KeepContent).
func (s *Store) KeepChecks(ctx context.Context, a access.Act, id int64, signed release.File, checks []release.Check) (*release.Artefact, error) {
	return s.changeArtefact(ctx, a, id, "artefact.verify", func(_ *writing, r *release.Release, part *release.Artefact) (bool, error) {
		if part.Encrypted() {
			return false, vetting.Errorf(vetting.Conflict, "%s of %s is encrypted: hand its secret in with it, or no device could ever open it", part.Name, r.Name())
		}
		return true, conflict(part.Verified(r, signed, checks))
	})
}

// changeArtefact carries out an act on an artefact, which says whether it
// changed anything.
func (s *Store) changeArtefact(ctx context.Context, a access.Act, id int64, act string, change func(*writing, *release.Release, *release.Artefact) (bool, error)) (*release.Artefact, error) {
	_, err := s.act(ctx, a, func(w *writing) (int64, error) {
		row, r, part, err := w.onArtefact(id)
		if err != nil {
			return 0, err
		}
		before := r.State
		changed, err := change(w, r, part)
		if err != nil || !changed {
			return id, err
		}
		objects := []audit.Object{w.saveArtefact(row.ID, part)}
		if r.State != before {
			objects = append(objects, w.saveRelease(row, r))
		}
		w.leaf(act, operatorOf(a), artefactNote(r, part), objects...)
		return id, nil
	})
	if err != nil {
		return nil, err
	}
	return s.Artefact(ctx, id)
}
