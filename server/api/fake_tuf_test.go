package api_test

import (
	"context"
	"errors"
	"net/http"
	"testing"
	"time"

	"github.com/touchmark/touchmark/firmware-sign/tuf/repository"
	"github.com/touchmark/touchmark/internal/access"
	"github.com/touchmark/touchmark/server/api"
	"github.com/touchmark/touchmark/vetting"
)

// shelves are a TUF repository whose keys are all the same.
type shelves struct {
	*memory
	fail *error
}

func (s shelves) TUFRepository(context.Context) (*api.TUFRepository, error) {
	return &api.TUFRepository{Root: &api.TUFRoot{Version: 1, Expires: time.Unix(0, 0).UTC(), Content: []byte("{}")}, Files: []api.TUFFile{}, Keys: []*api.TUFKey{}}, nil
}

func (s shelves) CreateTUFKey(_ context.Context, a access.Act, role repository.Role, number int, kind string) (*repository.Key, error) {
	return act(s.memory, a, func() (*repository.Key, error) {
		return &repository.Key{Role: role, Number: number, Name: kind}, *s.fail
	})
}

func (s shelves) ImportTUFRoot(_ context.Context, by string, root []byte) error {
	_, err := act(s.memory, access.Act{Operator: by}, func() (*string, error) { return new(string), *s.fail })
	return err
}

// What a root or a key cannot be taken for is told as it is: the root is to
// blame, or the key store, and then it may be tried again.
func TestTUFProblems(t *testing.T) {
	w := newWorld(t)
	root := map[string]any{"content": []byte("{}")}
	w.tuf = vetting.Errorf(vetting.Invalid, "root 2 has 1 signatures")
	refused(t, w.as("admin", "POST", "/tuf/roots", root), 422, "1 signatures")
	w.tuf = &repository.KeyError{Role: repository.Targets, Err: errors.New("the token 1234 is gone")}
	for path, body := range map[string]any{"/tuf/roots": root, "/tuf/keys": map[string]any{"role": "targets", "number": 1, "kind": "P-256"}} {
		got := w.as("admin", "POST", path, body)
		refused(t, got, http.StatusServiceUnavailable, "TUF key for targets")
		if got.header.Get("Retry-After") == "" {
			t.Errorf("%s: %v", path, got)
		}
	}
	w.tuf = nil
	refused(t, w.as("admin", "POST", "/tuf/keys", map[string]any{"role": "root", "number": 1, "kind": "P-256"}), 422, "role")
	decode[api.TUFRepository](t, w.as("admin", "POST", "/tuf/roots", root), 200)
}
